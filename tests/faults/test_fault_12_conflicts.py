"""Fault 12: somebody writes first, three times running, before each status that the operator writes."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from belay_api.names import Ref
from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, DELEGATIONS, Collection, Json, Kube
from belay_kube.errors import Conflict
from faults.invariants import Excused
from faults.operating import Faulty, World, delegation, staged

TIMES = 3
MOST_WRITES = 6
"""More than the operator has to say of any one object here, and less than a loop would."""
CONDITION = "example.com/Audited"
EXCUSED = Excused(lost=("orphan",))


class Meddler:
    """A controller of somebody else: it writes just before the operator does, three times, and lets the fourth pass."""

    def __init__(self, admin: Kube, gateway: Kube, namespace: str) -> None:
        self._admin = admin
        self._gateway = gateway
        self._namespace = namespace
        self.tried: Counter[tuple[str, str]] = Counter()
        self.meddled = 0
        self.last: dict[str, str] = {}
        """What its condition said last, by delegation."""

    async def __call__(self, path: Collection, obj: Json) -> None:
        """Before a write of the operator: a real 409 awaits it."""
        meta = obj["metadata"]
        if meta["namespace"] != self._namespace:
            return
        ref = Ref(self._namespace, meta["name"])
        self.tried[path.plural, ref.name] += 1
        count = self.tried[path.plural, ref.name]
        if count % (TIMES + 1) == 0:
            return
        self.meddled += 1
        if path == DELEGATIONS:
            self.last[ref.name] = f"seen {count} times"
            await self._audit(ref, self.last[ref.name])
        elif path == AGENTS:
            await self._admin.patch(path, *ref, {"metadata": {"annotations": {"example.com/seen": str(count)}}})
        else:
            await self._gateway.patch(path, *ref, {"status": {"user": f"user-{count}"}}, subresource="status")

    async def _audit(self, ref: Ref, message: str) -> None:
        """Set a condition of its own, as any controller would: beside those that are there."""
        while True:
            there = await self._admin.get(DELEGATIONS, *ref)
            others = [c for c in (there.get("status") or {}).get("conditions") or [] if c["type"] != CONDITION]
            mine = {"type": CONDITION, "status": "True", "reason": "Audited", "message": message}
            mine["lastTransitionTime"] = there["metadata"]["creationTimestamp"]
            try:
                await self._gateway.patch_status(DELEGATIONS, there, {"conditions": [*others, mine]})
            except Conflict:
                continue
            return


@pytest.fixture
async def world(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str
) -> AsyncIterator[World]:
    """A namespace, an operator that is not started, and what must hold at the end."""
    async with staged(installed, admin_kube, operator_kube, gateway_kube, namespace, EXCUSED) as made:
        yield made


async def test_fault_12_decided_again_each_time_and_others_conditions_stay(world: World) -> None:
    """Each change is written in the end, tries are bounded, and the foreign condition is there, as it was last."""
    client = Faulty(world.operator_kube)
    meddler = Meddler(world.admin, world.gateway_kube, world.namespace)
    client.before_write = meddler
    gateway = world.gateway()
    await world.start(client)
    await world.agent(maxActiveDelegations=3)
    await world.agent("b")
    session, other = await gateway.attach("a", "s"), await gateway.attach("b", "t")
    await world.create(delegation("late").due_in(20), delegation("cancelled"), delegation("orphan").to("b"))
    await world.settled()
    for name in ("late", "cancelled"):
        await session.accept(name)
    await other.accept("orphan")
    await other.drop()
    await world.cancel("cancelled")
    await world.pass_time(60)
    await world.pass_time(8, step=1)  # an Agent's status is written once in a second
    told = {name: await world.told(name) for name in ("late", "cancelled", "orphan")}
    assert told == {
        "late": "Failed DeadlineExceeded",
        "cancelled": "Cancelled Cancelled",
        "orphan": "Cancelled AgentOffline",
    }
    for name in told:
        conditions = {c["type"]: c["message"] for c in (await world.status(name))["conditions"]}
        assert conditions.keys() >= {"Finished", CONDITION}
        assert conditions[CONDITION] == meddler.last[name]
    assert meddler.meddled > 0
    assert max(meddler.tried.values()) <= MOST_WRITES * (TIMES + 1), meddler.tried
    assert world.operator.metrics.conflicts._value.get() >= meddler.meddled


async def test_fault_12_what_came_in_between_is_what_is_decided_on(world: World) -> None:
    """A cancel arrives just before the offer is written: it is cancelled and was never offered."""
    client = Faulty(world.operator_kube)

    async def cancel_first(path: Collection, obj: Json) -> None:
        if path == DELEGATIONS and obj["metadata"]["name"] == "d":
            client.before_write = None
            await world.cancel("d")

    gateway = world.gateway()
    await world.start(client)
    await world.agent()
    await gateway.attach("a", "s")
    await world.settled()
    client.before_write = cancel_first
    await world.create(delegation("d"))
    assert await world.told("d") == "Cancelled Cancelled"
    assert "dispatchedTime" not in await world.status("d")
