"""Fault 14: a user's namespace is deleted while there is no operator."""

from collections.abc import Awaitable, Callable

from belay_api.meta import API_VERSION, GROUP
from belay_api.schema import KINDS
from belay_dev.controlplane import ControlPlane
from belay_kube.client import NAMESPACES, SWEEPERS, Json, Kube, belay
from belay_kube.errors import NotFound
from faults.operating import World, delegation, staged
from waiting import eventually

SECONDS = 60.0
PLURALS = [kind.RESOURCE.plural for kind in KINDS]


async def _inhabited(world: World) -> None:
    """Every kind of ours is there, as a user's namespace holds it: an agent at work, its rows, work in each state."""
    await world.agent()
    session = await world.gateway().attach("a", "s")
    await world.create(delegation("running"), delegation("waiting"), delegation("lonely").to("nobody"))
    await world.settled()
    await session.accept("running")
    sweeper = {"apiVersion": API_VERSION, "kind": "DelegationSweeper", "metadata": {"name": "default"}, "spec": {}}
    await world.admin.create(SWEEPERS, world.namespace, sweeper)
    spec = {"agentRef": {"name": "a"}, "sessionId": "s", "requestId": "1", "tool": "Bash"}
    asked = {"apiVersion": API_VERSION, "kind": "PermissionRequest", "metadata": {"name": "p"}, "spec": spec}
    await world.gateway_kube.create(belay("permissionrequests"), world.namespace, asked)
    await world.pass_time(20)


async def _objects(world: World) -> list[Json]:
    """Every object of our kinds in the namespace."""
    return [obj for plural in PLURALS for obj in (await world.admin.list(belay(plural), world.namespace))["items"]]


async def test_I5_fault_14_deletion_finishes_without_the_operator(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube
) -> None:
    """No object of ours carries a finalizer, the namespace goes, and a later operator has nothing of it."""
    made = await admin_kube.create(NAMESPACES, None, {"metadata": {"generateName": "fault-"}})
    namespace = made["metadata"]["name"]
    async with staged(installed, admin_kube, operator_kube, gateway_kube, namespace) as world:
        await world.start()
        await _inhabited(world)
        await world.stop()
        there = await _objects(world)
        assert {obj["metadata"]["name"] for obj in there} >= {"running", "waiting", "lonely", "a", "default", "p"}
        blocked = [obj for obj in there if any(GROUP in name for name in obj["metadata"].get("finalizers") or [])]
        assert blocked == []
        await admin_kube.delete(NAMESPACES, None, namespace)
        world.gateways.clear()
        await eventually(_gone(admin_kube, namespace), SECONDS)
        await world.start()
        index = world.operator.seen.index
        assert [ref for ref in (*index.work, *index.agents) if ref.namespace == namespace] == []


def _gone(admin: Kube, namespace: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        try:
            await admin.get(NAMESPACES, None, namespace)
        except NotFound:
            return True
        return False

    return check
