"""Shared by all tests: one real control plane for the whole run, Belay installed in it, and its accounts' clients."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import NAMESPACES, Kube, connect
from installation import NAMESPACE, install
from rights.record import Record

_RECORD = pytest.StashKey[Record]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the record of what Belay's accounts ask the API servers of this run for."""
    config.stash[_RECORD] = Record()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A request that the chart's roles don't explain fails the run, whichever test it was of."""
    if session.config.stash[_RECORD].complaints() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which requests these were; and after the whole suite, as news only, which rights nothing needed."""
    record = config.stash[_RECORD]
    for title, lines in (("beside the chart's roles", record.complaints()), ("rights unused", record.unused())):
        whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        if lines and (whole or title != "rights unused"):
            terminalreporter.section(title)
            terminalreporter.write("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="session")
def record(pytestconfig: pytest.Config) -> Record:
    """What Belay's accounts ask for; a control plane with a Belay in it is read into it before it goes."""
    return pytestconfig.stash[_RECORD]


@pytest.fixture(scope="session")
def control_plane(record: Record) -> Iterator[ControlPlane]:
    """A started control plane, shared by all tests of the run; each test works in namespaces of its own."""
    with ControlPlane() as started, record.kept(started):
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
