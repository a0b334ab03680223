"""Fault 1: the operator is killed after each of its writes, one run for each, and the next one goes on.

The runs for each write have the operator in this process, on a clock of the test: its client stops for good once the
API server has that write, and its tasks are cancelled. Real processes that get a real SIGKILL stand at the end.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from belay_api.reasons import Reason
from belay_dev.controlplane import ControlPlane
from belay_dev.guard import Guard
from belay_kube.client import AGENTS, DELEGATIONS, NAMESPACES, SUBSCRIPTIONS, Json, Kube
from belay_kube.clock import SystemClock
from faults.invariants import Excused
from faults.mortal import Mortal
from faults.operating import PlayedGateway, World, delegation, staged
from faults.playing import Play
from faults.relay import Relay, renewing
from waiting import eventually

AGENTS_THERE = ("a", "b", "c")
EXCUSED = Excused(lost={"orphan", "again"})
"""Of these an agent is lost, or an attempt is given up."""
MOST = 100
"""More writes than the scenario has."""


async def play(world: World, client: Mortal) -> Json:
    """Done, cancelled with its child, late, orphaned, and tried again; returns how everything ended."""
    scene = Play(world, client)
    gateway = world.gateway()
    await scene.start()
    for name in AGENTS_THERE:
        await world.agent(name, maxActiveDelegations=9)
    a, b, c = [await gateway.attach(name, f"s-{name}") for name in AGENTS_THERE]
    await scene.settled()
    await world.create(
        delegation("done"),
        delegation("parent"),
        delegation("child").to("b").under("parent"),
        delegation("late").to("b").due_in(20),
        delegation("orphan").to("c"),
        delegation("again").attempts(2, backoff=5, on=["AgentFailed"]),
    )
    await scene.settled()
    for name, session in {"done": a, "parent": a, "child": b, "late": b, "orphan": c, "again": a}.items():
        await session.accept(name)
    await scene.settled()
    await a.complete("done")
    await a.hand_back("again", Reason.AGENT_FAILED)
    await world.cancel("parent")
    await c.drop()
    await scene.passes(45)
    await a.accept("again")
    await scene.settled()
    await a.complete("again")
    await scene.passes(45)
    return await ends(world)


async def ends(world: World) -> Json:
    """What there is at the end, without times and versions."""
    works = (await world.admin.list(DELEGATIONS, world.namespace))["items"]
    agents = (await world.admin.list(AGENTS, world.namespace))["items"]
    rows = (await world.admin.list(SUBSCRIPTIONS, world.namespace))["items"]
    counts = ("routable", "liveSessions", "activeDelegations", "queuedDelegations")
    return {
        "delegations": {obj["metadata"]["name"]: _told(obj["status"]) for obj in works},
        "agents": {obj["metadata"]["name"]: [obj["status"].get(name) for name in counts] for obj in agents},
        "rows": {obj["spec"]["sessionId"]: obj["status"]["phase"] for obj in rows},
    }


def _told(status: Json) -> Json:
    fields = ("phase", "reason", "message", "attempt", "failures", "sessionId")
    conditions = {c["type"]: [c["status"], c["reason"]] for c in status.get("conditions") or []}
    return {**{field: status.get(field) for field in fields}, "conditions": conditions}


async def _run(plane: ControlPlane, kubes: Sequence[Kube], last: int) -> tuple[Json, Mortal]:
    admin, operator, gateway = kubes
    made = await admin.create(NAMESPACES, None, {"metadata": {"generateName": "fault-"}})
    namespace = made["metadata"]["name"]
    client = Mortal(operator, last)
    try:
        async with staged(plane, admin, operator, gateway, namespace, EXCUSED) as world:
            return await play(world, client), client
    finally:
        await admin.delete(NAMESPACES, None, namespace)


@pytest.mark.timeout(600)
async def test_G9_fault_01_killed_after_each_write_it_ends_as_without(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube
) -> None:
    """Work done, cancelled with its child, late, orphaned, tried again: whichever write was the last, the same end."""
    kubes = admin_kube, operator_kube, gateway_kube
    without, unharmed = await _run(installed, kubes, 0)
    phases = {name: told["phase"] for name, told in without["delegations"].items()}
    assert phases == {
        "done": "Completed",
        "again": "Completed",
        "parent": "Cancelled",
        "child": "Cancelled",
        "late": "Failed",
        "orphan": "Cancelled",
    }
    for last in range(1, MOST):
        end, client = await _run(installed, kubes, last)
        assert end == without, f"killed after {client.writes[-1]}, write {last} of {len(unharmed.writes)}"
        if not client.dead.is_set():
            break
    else:
        raise AssertionError(f"the scenario has more than {MOST} writes: {unharmed.writes}")


# --- real processes ---

SECONDS = 60.0
KILLS = 4


async def test_G9_fault_01_processes_killed_as_soon_as_a_write_is_seen(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str,
    guard: Guard, tmp_path: Path
) -> None:  # fmt: skip
    """A real SIGKILL after the offer, the cancel, the deadline and the orphan's end: each ends as it has to."""
    account = installed.service_account_kubeconfig("belay", "belay-operator", tmp_path / "operator.kubeconfig")
    async with staged(installed, admin_kube, operator_kube, gateway_kube, namespace, EXCUSED) as world:
        world.clock = SystemClock()  # type: ignore[assignment]
        gateway = world.gateway()
        beating = asyncio.ensure_future(renewing(world))
        relay = Relay(guard, account, tmp_path)
        try:
            await _relayed(world, gateway, relay)
        finally:
            beating.cancel()
            relay.end()
    assert relay.killed == KILLS


async def _relayed(world: World, gateway: PlayedGateway, relay: Relay) -> None:
    async def is_told(name: str, expected: str) -> bool:
        status = await world.status(name)
        return f"{status.get('phase')} {status.get('reason')}" == expected

    async def until(name: str, expected: str) -> None:
        await eventually(lambda: is_told(name, expected), SECONDS)

    await world.agent(maxActiveDelegations=9)
    await world.agent("b")
    await world.agent("c")
    a, b, c = [await gateway.attach(name, f"s-{name}") for name in AGENTS_THERE]
    await world.create(delegation("done"), delegation("parent"), delegation("child").to("b").under("parent"))
    await world.create(delegation("orphan").to("c"), delegation("late").due_in(15))
    relay.next()
    await until("done", "Dispatched Dispatched")
    relay.next()
    for name, session in {"parent": a, "child": b, "orphan": c, "done": a}.items():
        await until(name, "Dispatched Dispatched")
        await session.accept(name)
    await a.complete("done")
    await world.cancel("parent")
    await until("parent", "Cancelled Cancelled")
    relay.next()
    await c.drop()
    await until("late", "Failed DeadlineExceeded")
    relay.next()
    await until("orphan", "Cancelled AgentOffline")
    relay.next()
    await until("child", "Cancelled ParentCancelled")
    assert await is_told("done", "Completed Completed")
