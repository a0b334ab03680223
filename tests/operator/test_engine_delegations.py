"""The operator on a real API server: a delegation, its queue and its ends (D3, D4, D6, D9, S1 to S4, S11)."""

import asyncio
from typing import Any

from belay_kube.client import AGENTS, DELEGATIONS, Kube
from belay_kube.errors import KubeError

from .builders import delegation
from .faulty import Faulty, refusing
from .played import PlayedGateway, PlayedSession
from .world import LONG_STEP, World

ROUNDS = 12


async def working(world: World, gateway: PlayedGateway, **spec: Any) -> PlayedSession:
    """Agent `a` with one session."""
    await world.agent(**spec)
    session = await gateway.attach("a", "s")
    await world.settled()
    return session


# --- one end ---


async def test_D3_of_completed_cancelled_and_deadline_at_one_instant_exactly_one_results(
    world: World, gateway: PlayedGateway
) -> None:
    """Three writers, many rounds: one phase, its own reason, never another afterwards; who lost was told so."""
    names = [f"d{number}" for number in range(ROUNDS)]
    session = await working(world, gateway, maxActiveDelegations=ROUNDS)
    await world.create(*(delegation(name).due_in(30) for name in names))
    await world.settled()
    for name in names:
        await session.accept(name)
    await world.settled()

    async def complete(name: str) -> bool:
        try:
            await session.complete(name)
        except KubeError:
            return False
        return True

    passing = asyncio.ensure_future(world.clock.advance(60))
    completed = await asyncio.gather(*(complete(name) for name in names), *(world.cancel(name) for name in names))
    await passing
    await world.settled()
    ends = [await world.status(name) for name in names]
    reasons = {"Completed": "Completed", "Cancelled": "Cancelled", "Failed": "DeadlineExceeded"}
    assert [end["reason"] for end in ends] == [reasons[end["phase"]] for end in ends]
    assert [end["phase"] == "Completed" for end in ends] == completed[:ROUNDS]
    await world.pass_time(60)
    assert [await world.status(name) for name in names] == ends


async def test_D9_a_wanted_cancel_is_cancelled_at_once_whatever_it_was_doing(
    world: World, gateway: PlayedGateway
) -> None:
    """Queued, offered and accepted work; and the slots are free for the next."""
    session = await working(world, gateway, maxActiveDelegations=2)
    await world.create(delegation("accepted").priority(9), delegation("offered").priority(8), delegation("queued"))
    await world.settled()
    await session.accept("accepted")
    for name in ("accepted", "offered", "queued"):
        await world.cancel(name)
    assert {await world.told(name) for name in ("accepted", "offered", "queued")} == {"Cancelled Cancelled"}
    conditions = (await world.status("accepted"))["conditions"]
    assert {c["type"]: c["status"] for c in conditions} == {"Finished": "True", "CancelRequested": "True"}
    await world.create(delegation("next"))
    assert await world.told("next") == "Dispatched Dispatched"


async def test_a_deleted_delegation_frees_its_slot(world: World, gateway: PlayedGateway) -> None:
    """`kubectl delete` is an end like any other."""
    await working(world, gateway)
    await world.create(delegation("first"))
    await world.settled()
    await world.create(delegation("second"))
    assert await world.told("second") == "Queued AgentBusy"
    await world.admin.delete(DELEGATIONS, world.namespace, "first")
    assert await world.told("second") == "Dispatched Dispatched"


# --- the queue ---


async def test_D4_a_busy_agents_queue_goes_by_priority_then_age(world: World, gateway: PlayedGateway) -> None:
    """One slot, four that wait: each end lets in the next, the high one first, then the oldest."""
    session = await working(world, gateway)
    for given in (
        delegation("first"),
        delegation("z-older"),
        delegation("y-younger"),
        delegation("high").priority(5),
        delegation("low").priority(-5),
    ):
        await world.create(given)
        await world.pass_time(1)
    assert await world.told("high") == "Queued AgentBusy"
    order = []
    for _ in range(5):
        [running] = await _offered(world)
        order.append(running)
        await session.complete(running)
    assert order == ["first", "high", "z-older", "y-younger", "low"]


async def test_D4_never_more_than_the_agents_slots_are_in_hand(world: World, gateway: PlayedGateway) -> None:
    """Ten at once for three slots: three are offered; raising the limit offers more, lowering it takes none away."""
    await working(world, gateway, maxActiveDelegations=3)
    await world.create(*(delegation(f"d{number}") for number in range(10)))
    assert len(await _offered(world)) == 3
    for limit, expected in ((5, 5), (1, 5)):
        await world.admin.patch(AGENTS, world.namespace, "a", {"spec": {"maxActiveDelegations": limit}})
        await world.settled()
        assert len(await _offered(world)) == expected


async def _offered(world: World) -> list[str]:
    await world.settled()
    items = (await world.admin.list(DELEGATIONS, world.namespace))["items"]
    return [item["metadata"]["name"] for item in items if item["status"]["phase"] == "Dispatched"]


async def test_D6_a_missing_agent_is_waited_for(world: World, gateway: PlayedGateway) -> None:
    """Pending (AgentNotFound) until it is created, Queued until it is attached, then offered."""
    await world.create(delegation("d"))
    assert await world.told("d") == "Pending AgentNotFound"
    await world.agent()
    assert await world.told("d") == "Queued AgentOffline"
    await gateway.attach("a", "s")
    assert await world.told("d") == "Dispatched Dispatched"


async def test_a_suspended_agent_takes_nothing_new_and_finishes_what_runs(world: World, gateway: PlayedGateway) -> None:
    """What runs goes on; what comes waits until it is resumed."""
    session = await working(world, gateway, maxActiveDelegations=2)
    await world.create(delegation("runs"))
    await world.settled()
    await session.accept("runs")
    await world.admin.patch(AGENTS, world.namespace, "a", {"spec": {"suspend": True}})
    await world.settled()
    await world.create(delegation("new"))
    assert [await world.told("runs"), await world.told("new")] == ["InProgress Dispatched", "Queued AgentSuspended"]
    await world.admin.patch(AGENTS, world.namespace, "a", {"spec": {"suspend": False}})
    assert await world.told("new") == "Dispatched Dispatched"


# --- time ---


async def test_S2_the_deadline_is_checked_before_silence(world: World, gateway: PlayedGateway) -> None:
    """Both due at the same look: Failed "deadline exceeded by sweeper", not Stuck."""
    session = await working(world, gateway)
    await world.create(delegation("d").due_in(60).stuck_after(60))
    await world.settled()
    await session.accept("d")
    await session.beat("d")
    await world.settled()
    await world.clock.advance(100)
    assert await world.told("d") == "Failed DeadlineExceeded"
    assert (await world.status("d"))["message"] == "deadline exceeded by sweeper"


async def test_S3_silent_for_longer_than_the_threshold_is_stuck_and_frees_the_slot(
    world: World, gateway: PlayedGateway
) -> None:
    """At 600 s not yet, at 601 s Stuck "no heartbeat for 601s"; the next in the queue is offered to another session."""
    session = await working(world, gateway)
    await world.create(delegation("d"))
    await world.settled()
    await session.accept("d")
    await session.beat("d")
    await world.create(delegation("next"))
    await world.pass_time(600, LONG_STEP)
    assert await world.told("d") == "InProgress Dispatched"
    await world.pass_time(1)
    assert await world.told("d") == "Stuck NoHeartbeat"
    assert (await world.status("d"))["message"] == "no heartbeat for 601s"
    assert await world.told("next") == "Queued AgentUnresponsive"
    await gateway.attach("a", "t")
    assert await world.told("next") == "Dispatched Dispatched"


async def test_S4_never_beaten_is_left_to_the_deadline(world: World, gateway: PlayedGateway) -> None:
    """Accepted and then silent from the start: InProgress until its deadline."""
    session = await working(world, gateway)
    await world.create(delegation("d").due_in(120).stuck_after(10))
    await world.settled()
    await session.accept("d")
    await world.pass_time(100)
    assert await world.told("d") == "InProgress Dispatched"
    await world.pass_time(50)
    assert await world.told("d") == "Failed DeadlineExceeded"


async def test_S11_a_wedged_agent_that_beats_for_ever_fails_at_its_deadline(
    world: World, gateway: PlayedGateway
) -> None:
    """Beats every 15 s do not help."""
    session = await working(world, gateway)
    await world.create(delegation("d").due_in(90).stuck_after(30))
    await world.settled()
    await session.accept("d")
    for _ in range(5):
        await session.beat("d")
        await world.pass_time(15)
        assert await world.told("d") == "InProgress Dispatched"
    await session.beat("d")
    await world.pass_time(40)
    assert await world.told("d") == "Failed DeadlineExceeded"


async def test_S1_deadlines_of_what_waits_and_of_missing_agents_act_too(world: World, gateway: PlayedGateway) -> None:
    """Pending and Queued work fails at its deadline, without any agent."""
    await world.agent()
    await world.create(delegation("queued").due_in(60), delegation("pending").to("nobody").due_in(60))
    assert [await world.told("queued"), await world.told("pending")] == ["Queued AgentOffline", "Pending AgentNotFound"]
    await world.pass_time(90)
    assert {await world.told("queued"), await world.told("pending")} == {"Failed DeadlineExceeded"}


async def test_I6_nothing_is_written_when_nothing_happens(world: World, gateway: PlayedGateway) -> None:
    """Work in progress, work that waits, an agent: their versions stand still for ten minutes."""
    session = await working(world, gateway)
    await world.create(delegation("runs").stuck_after(2000))
    await world.settled()
    await session.accept("runs")
    await world.create(delegation("waits"))
    await world.agent_status()
    before = await _versions(world)
    await world.pass_time(600, LONG_STEP)
    assert await _versions(world) == before


async def _versions(world: World) -> list[str]:
    found = []
    for collection in (AGENTS, DELEGATIONS):
        items = (await world.admin.list(collection, world.namespace))["items"]
        found += [item["metadata"]["resourceVersion"] for item in items]
    return found


async def test_S7_many_writes_that_fail_at_once_count_as_one_failure(stopped_world: World, operator_kube: Kube) -> None:
    """Ten delegations of one agent can't be written: that is tried again in seconds, not in minutes."""
    world, kube = stopped_world, Faulty(operator_kube)
    await world.start(kube)
    await world.agent()
    await world.create(*(delegation(f"d{number}") for number in range(10)))
    await world.pass_time(3)
    kube.before_write = refusing(DELEGATIONS)
    await world.admin.patch(AGENTS, world.namespace, "a", {"spec": {"suspend": True}})
    await world.pass_time(3)
    kube.before_write = None
    await world.pass_time(20)
    assert {await world.told(f"d{number}") for number in range(10)} == {"Queued AgentSuspended"}
