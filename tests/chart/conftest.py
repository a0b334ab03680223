"""A control plane of the chart's own, where nothing is installed yet but a namespace that enforces `restricted`."""

import json
from collections.abc import Iterator

import pytest

from belay_dev.controlplane import ControlPlane
from belay_dev.guard import Guard
from chart.helm import NAMESPACE, Helm
from rights.record import Record

_NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {
        "name": NAMESPACE,
        "labels": {f"pod-security.kubernetes.io/{how}": "restricted" for how in ("enforce", "warn")},
    },
}


@pytest.fixture(scope="session")
def plane(record: Record) -> Iterator[ControlPlane]:
    """A started control plane, for the releases of all tests of the chart, one after the other."""
    with ControlPlane() as started, record.kept(started):
        started.kubectl("create", "-f", "-", input=json.dumps(_NAMESPACE))
        yield started


@pytest.fixture
def helm(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    """Helm, with no release; what the test leaves is removed, definitions and all."""
    program = Helm(plane, tmp_path_factory.mktemp("helm"))
    yield program
    program.clear()


@pytest.fixture
def fresh(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    """Helm on a control plane that nobody has ever installed anything on, not so much as a namespace."""
    with ControlPlane() as started, record.kept(started):
        yield Helm(started, tmp_path_factory.mktemp("helm"))


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Ends what the test started."""
    with Guard() as started:
        yield started
