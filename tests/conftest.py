"""Shared by all tests: one real control plane for the whole run, Belay installed in it, and its accounts' clients."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import NAMESPACES, Kube, connect
from installation import NAMESPACE, install


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A started control plane, shared by all tests of the run; each test works in namespaces of its own."""
    with ControlPlane() as started:
        yield started


@pytest.fixture(scope="session")
def installed(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with `manifests/` applied: definitions served, accounts authorized, policies enforced."""
    install(control_plane)
    return control_plane


@pytest.fixture(scope="session")
async def admin_kube(installed: ControlPlane) -> AsyncIterator[Kube]:
    """A client of the administrator, whom RBAC allows everything."""
    kube = await connect(installed.kubeconfig)
    yield kube
    await kube.close()


@pytest.fixture(scope="session")
async def operator_kube(installed: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kube]:
    """A client with the operator's own ServiceAccount."""
    kube = await connect(_account(installed, "belay-operator", tmp_path_factory))
    yield kube
    await kube.close()


@pytest.fixture(scope="session")
async def gateway_kube(installed: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kube]:
    """A client with the gateway's own ServiceAccount."""
    kube = await connect(_account(installed, "belay-gateway", tmp_path_factory))
    yield kube
    await kube.close()


@pytest.fixture
async def namespace(admin_kube: Kube) -> AsyncIterator[str]:
    """A namespace of the test's own; its deletion is asked for and not waited for."""
    made = await admin_kube.create(NAMESPACES, None, {"metadata": {"generateName": "test-"}})
    name: str = made["metadata"]["name"]
    yield name
    await admin_kube.delete(NAMESPACES, None, name)


def _account(installed: ControlPlane, name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed.service_account_kubeconfig(NAMESPACE, name, tmp_path_factory.mktemp(name) / "kubeconfig")
