"""Fixtures of the fault tests: a whole Belay as processes, with two gateways and short times, and room for sockets.

Times are a fifth of the defaults: a session is stale after 9 s instead of 45, its grace is 6 s instead of 30. The
rules don't depend on them, and a run takes a minute less.
"""

import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from belay_dev.controlplane import ControlPlane
from belay_dev.guard import Guard
from belay_dev.stack import Stack, Times
from belay_kube.client import Kube, connect
from faults.behind import Behind
from faults.site import Site
from gateway.stage import Stage
from rights.record import Record

STALE_SECONDS = 9
GRACE_SECONDS = 6
FILES = 8192
"""Two for each of 2,000 sockets, and some."""


@pytest.fixture(scope="session", autouse=True)
def room() -> None:
    """Raise the limit of open files as far as is needed, for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= FILES, f"ulimit -n: {FILES} are needed, {hard} allowed"


@pytest.fixture(scope="session")
def stack(room: None, record: Record) -> Iterator[Stack]:
    """A running Belay with one gateway; tests start the second one."""
    times = Times(grace=GRACE_SECONDS, stale_after=STALE_SECONDS)
    with Stack(times=times, environment={"BELAY_DRAIN_SECONDS": "2"}) as started, record.kept(started.control_plane):
        yield started


@pytest.fixture(scope="session")
async def admin(stack: Stack) -> AsyncIterator[Kube]:
    """A client of that Belay's administrator."""
    kube = await connect(stack.ready.kubeconfig)
    yield kube
    await kube.close()


@pytest.fixture
async def site(stack: Stack, admin: Kube) -> AsyncIterator[Site]:
    """A namespace in that Belay, recorded; what must always hold is checked at the end of each test."""
    token = stack.ready.token_file.read_text().strip()
    async with Site.opened(stack.control_plane.audit_log, token, admin) as opened:
        yield opened
    stack.tend()


@pytest.fixture
async def behind(installed: ControlPlane, guard: Guard, tmp_path: Path) -> AsyncIterator[Behind]:
    """Belay's processes, as the test starts them, with relays before the API server."""
    async with Behind.opened(installed, guard, tmp_path) as opened:
        yield opened


@pytest.fixture
async def place(behind: Behind, admin_kube: Kube) -> AsyncIterator[Site]:
    """A namespace for them, recorded; what must always hold is checked at the end of each test."""
    async with Site.opened(behind.control_plane.audit_log, behind.token, admin_kube) as opened:
        yield opened


@pytest.fixture
def stage(namespace: str, installed: ControlPlane, admin_kube: Kube, operator_kube: Kube) -> Stage:
    """A namespace in which the test plays the operator, beside a gateway in this process."""
    return Stage(namespace, installed, admin_kube, operator_kube)


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Processes that end with the test."""
    with Guard() as held:
        yield held
