"""Fault 23: the chart is upgraded and rolled back under load; each time every process is replaced as a rollout does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from belay_api.meta import DEFAULT_AUDIENCE
from belay_api.reasons import Reason
from belay_dev.guard import Guard
from belay_dev.stack import DEV_ACCESS
from belay_kube.client import DELEGATIONS, Kube, connect
from belay_kube.errors import Temporary
from chart.changed import changed_chart
from chart.containers import free_port, listening
from chart.helm import NAMESPACE, PREVIOUS, RELEASE, ROOT, Helm
from chart.load import AGENTS, HELD, Load, loaded, result_of
from chart.rollout import GATEWAY, Rollout, rolling_out
from chart.service import serving
from faults.site import Site
from waiting import eventually

pytestmark = pytest.mark.timeout(600)
TIMES = "timing.heartbeatSeconds=3,timing.staleAfterSeconds=9,timing.graceSeconds=6"
"""Short: a session that is forgotten on the way is gone well before the end."""
OTHERS = "timing.graceSeconds=7,operator.settings.ttlSeconds=3600,gateway.settings.wsPingSeconds=4"
"""Something of both processes."""
MEANWHILE = 15
"""So much is asked for and done between two changes."""
DEPLOYMENTS = (GATEWAY, "belay-operator")
THROUGH, UNTIL_LATER, CANCELLED = (f"{HELD}-{how}" for how in ("through", "until-later", "cancelled"))
DUE = "due"


@pytest.fixture
async def admin(helm: Helm) -> AsyncIterator[Kube]:
    """A client of the administrator, where the release before has its definitions."""
    helm.install(chart=PREVIOUS)
    keep = "helm.sh/resource-policy=keep"
    helm.plane.kubectl("annotate", "delegationsweeper/default", "--namespace", NAMESPACE, keep)
    kube = await connect(helm.plane.kubeconfig)
    await eventually(lambda: _served(kube), 60)
    yield kube
    await kube.close()


@pytest.fixture
def token(helm: Helm) -> str:
    """What agents attach with."""
    helm.plane.kubectl("apply", "--server-side", "-f", str(DEV_ACCESS))
    return helm.plane.service_account_token("default", "belay-agent", [DEFAULT_AUDIENCE])


async def _served(kube: Kube) -> bool:
    try:
        await kube.list(DELEGATIONS, "default")
    except Temporary:  # a moment after it is established
        return False
    return True


class Release:
    """The release of a Helm, what runs of it, and what it works at."""

    def __init__(self, helm: Helm, pods: Rollout, load: Load) -> None:
        self._helm = helm
        self._pods = pods
        self._load = load

    async def changed(self, *arguments: str) -> None:
        """Helm does that, and both Deployments are rolled out while work goes on; it begins once there is a release."""
        await asyncio.to_thread(self._helm, *arguments)
        found = [await asyncio.to_thread(self._helm.get, f"deployment/{name}") for name in DEPLOYMENTS]
        before = len(self._load.done)
        assert await self._pods.to(found) == len(found)
        assert not before or len(self._load.done) > before, "nothing was done while pods were replaced"
        self._load.begin()
        await self._load.more(MEANWHILE)


async def test_P7_G9_fault_23_upgraded_and_rolled_back_under_load(
    helm: Helm, guard: Guard, admin: Kube, token: str, tmp_path: Path
) -> None:
    """What was accepted is done once, by whoever had it, through other values, other definitions, and back again."""
    ours = ("--take-ownership", *listening(free_port(), free_port()), "--set", TIMES)
    later = changed_chart(tmp_path)
    async with AsyncExitStack() as held:
        service = await held.enter_async_context(serving())
        pods = await held.enter_async_context(rolling_out(helm.plane, guard, tmp_path, service))
        site = await held.enter_async_context(Site.opened(helm.plane.audit_log, token, admin))
        async with loaded(site, service.url) as load:
            await site.agents("nobody")
            release = Release(helm, pods, load)
            await release.changed("upgrade", RELEASE, str(ROOT), *ours)
            for name, agent in zip((THROUGH, UNTIL_LATER, CANCELLED), AGENTS, strict=True):
                await load.hold(name, agent)
            await load.order(DUE, "nobody", deadlineSeconds=20)

            await release.changed("upgrade", RELEASE, str(later), *ours, "--set", OTHERS)
            load.let_go(UNTIL_LATER)
            await load.cancel(CANCELLED)

            await release.changed("rollback", RELEASE, "2")
            load.let_go(THROUGH)
            await load.rest()
            await _took_effect_once(site, load)
            assert service.fewest == helm.get(f"deployment/{GATEWAY}")["spec"]["replicas"]
    assert [(pod.name, pod.process.exit_code) for pod in pods.ended if pod.process.exit_code] == []
    helm.release_sweeper()


async def _took_effect_once(site: Site, load: Load) -> None:
    """Each was begun once, in its first attempt, and ended as it had to."""
    assert set(load.begun.values()) == {1}
    assert {attempt for _, attempt in load.begun} == {1}
    others = {CANCELLED: ("Cancelled", Reason.CANCELLED), DUE: ("Failed", Reason.DEADLINE_EXCEEDED)}
    for obj in (await site.admin.list(DELEGATIONS, site.namespace))["items"]:
        name, status = obj["metadata"]["name"], await load.until_ended(obj["metadata"]["name"])
        ended = others.get(name, ("Completed", Reason.COMPLETED))
        assert (status["phase"], status["reason"]) == ended, name
        assert ended[0] != "Completed" or status["result"] == {"text": result_of(name, 1)}
        assert (name, 1) in load.begun or name == DUE
