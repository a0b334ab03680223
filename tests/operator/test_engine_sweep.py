"""The operator on a real API server: the sweep, and writes that meet somebody else's (S6 to S10, faults 10 to 12)."""

import asyncio
from datetime import datetime, timedelta

import pytest

from belay_api.times import from_wire
from belay_kube.client import DELEGATIONS, EVENTS, SUBSCRIPTIONS, SWEEPERS, Collection, Json, Kube
from belay_kube.errors import Unreachable
from belay_operator.sweep import UNFINISHED
from waiting import eventually

from .builders import delegation
from .faulty import Faulty, refusing
from .played import BELAY, PlayedGateway, PlayedSession
from .world import LONG_STEP, SIGHT_SECONDS, World


@pytest.fixture
async def faulty(stopped_world: World, gateway: PlayedGateway, operator_kube: Kube) -> Faulty:
    """The operator's client, with hooks; the operator runs on it."""
    kube = Faulty(operator_kube)
    await stopped_world.start(kube)
    return kube


async def accepted(world: World, gateway: PlayedGateway, *names: str, **how: int) -> PlayedSession:
    """Delegations that one session has accepted."""
    await world.agent(maxActiveDelegations=10)
    session = await gateway.attach("a", "s")
    await world.create(*(delegation(name).due_in(how.get("due_in", 20_000)) for name in names))
    await world.settled()
    for name in names:
        await session.accept(name)
    await world.settled()
    return session


async def reported(world: World) -> Json:
    """What the DelegationSweeper says."""
    status: Json = (await world.admin.get(SWEEPERS, BELAY, "default")).get("status") or {}
    return status


async def swept_now(world: World) -> bool:
    """Whether a sweep is reported that began at this very moment."""
    return await swept_at(world) == world.clock.now()


async def swept_first(world: World) -> bool:
    """Whether the first sweep of this operator is reported, and not one of an earlier test's; it runs at its start."""
    sweeper = world.operator.sweeper
    since = world.clock.now() - timedelta(seconds=SIGHT_SECONDS)
    return sweeper._began is not None and sweeper._began >= since and await swept_at(world) == sweeper._began


async def swept_at(world: World) -> datetime | None:
    """When the last sweep that is reported began."""
    return from_wire(((await reported(world)).get("lastSweep") or {}).get("startedTime"))


async def test_S5_the_sweepers_own_settings_stand_over_the_environment(world: World, gateway: PlayedGateway) -> None:
    """Its threshold and interval are in force as soon as they are set, and shown as effective."""

    async def effective(threshold: int, interval: int) -> bool:
        sweeper, times = world.operator.sweeper, world.operator.seen.index.times
        return (times.stuck_threshold, sweeper.interval()) == (threshold, interval)

    given = {"stuckThresholdSeconds": 30, "intervalSeconds": 60}
    try:
        await world.admin.patch(SWEEPERS, BELAY, "default", {"spec": given})
        await eventually(lambda: effective(30, 60))
        await eventually(lambda: swept_first(world))
        await world.pass_time(60)
        await eventually(lambda: swept_now(world))
        shown = await reported(world)
        assert given.items() <= shown.items()
    finally:
        await world.admin.patch(SWEEPERS, BELAY, "default", {"spec": dict.fromkeys(given)})
    await eventually(lambda: effective(600, 300))


async def test_S5_changed_settings_are_shown_without_a_sweep(world: World, gateway: PlayedGateway) -> None:
    """Also while it is suspended: whoever waits for the generation they made, as GitOps does, is told at once."""
    await eventually(lambda: swept_first(world))
    sweeps, given = world.operator.sweeper._sweeps, {"stuckThresholdSeconds": 45, "suspend": True}

    async def shown() -> bool:
        sweeper = await world.admin.get(SWEEPERS, BELAY, "default")
        status = sweeper["status"]
        told: bool = status["observedGeneration"] == sweeper["metadata"]["generation"]
        return told and status["stuckThresholdSeconds"] == given["stuckThresholdSeconds"]

    try:
        await world.admin.patch(SWEEPERS, BELAY, "default", {"spec": given})
        await eventually(shown)
        assert world.operator.sweeper._sweeps == sweeps
    finally:
        await world.admin.patch(SWEEPERS, BELAY, "default", {"spec": dict.fromkeys(given)})


async def test_S6_the_first_sweep_runs_at_start_and_the_next_an_interval_later(
    world: World, gateway: PlayedGateway
) -> None:
    """Time stands still at the start, and yet a sweep is reported; the next one after 300 s."""
    await eventually(lambda: swept_first(world))
    first = await swept_at(world)
    assert first is not None
    await world.pass_time((first + timedelta(seconds=299) - world.clock.now()).total_seconds(), LONG_STEP)
    await world.operator.sweeper.tick()
    assert not await swept_now(world)
    await world.pass_time(1)
    await eventually(lambda: swept_now(world))


async def test_S6_a_restart_finds_what_fell_due_meanwhile(world: World, gateway: PlayedGateway) -> None:
    """A deadline that passed while no operator ran is acted on at once."""
    await accepted(world, gateway, "d", due_in=60)
    await world.stop()
    await world.pass_time(120)
    await world.start()
    assert await world.told("d") == "Failed DeadlineExceeded"


async def test_S7_a_write_that_is_refused_stops_no_other(
    stopped_world: World, gateway: PlayedGateway, faulty: Faulty
) -> None:
    """Three are overdue, one can't be written: the others are Failed, it counts as an error, and is tried again."""
    world = stopped_world
    await accepted(world, gateway, "one", "refused", "two", due_in=60)
    faulty.before_write = refusing(DELEGATIONS, "refused")
    await world.pass_time(90)
    assert {await world.told("one"), await world.told("two")} == {"Failed DeadlineExceeded"}
    assert await world.told("refused") == "InProgress Dispatched"
    result = await world.operator.sweeper.sweep()
    assert (result.deadline_failures, result.errors) == (0, 1)
    assert world.operator.engine.totals()["errors"] >= 1
    faulty.before_write = None
    await world.pass_time(120)
    assert await world.told("refused") == "Failed DeadlineExceeded"


async def test_S7_a_row_that_cannot_be_read_stops_no_other(
    stopped_world: World, gateway: PlayedGateway, faulty: Faulty
) -> None:
    """One delegation and one session of the lists make no sense: two errors, and the rest is treated."""
    world = stopped_world
    await accepted(world, gateway, "one", "two", due_in=60)
    await gateway.attach("a", "t")
    await world.settled()

    async def garble(path: Collection, answer: Json) -> None:
        mine = [o for o in answer["items"] if world.is_mine(o)]
        if path in (DELEGATIONS, SUBSCRIPTIONS) and mine:
            mine[0]["status"]["phase"] = "Gibberish"

    faulty.after_list = garble
    result = await world.operator.sweeper.sweep()
    assert (result.errors, result.in_flight >= 1) == (2, True)


async def test_S8_a_list_that_fails_is_one_error_and_the_next_sweep_runs(
    stopped_world: World, gateway: PlayedGateway, faulty: Faulty
) -> None:
    """The sweep reports all the same."""
    world = stopped_world

    async def fail(path: Collection, query: Json) -> None:
        if path == DELEGATIONS and query.get("fieldSelector") == UNFINISHED:
            raise Unreachable("broken by the test")

    await eventually(lambda: swept_first(world))
    faulty.before_list = fail
    await world.pass_time(300, LONG_STEP)
    await eventually(lambda: swept_now(world))
    assert (await reported(world))["lastSweep"]["errors"] == 1
    sweeper = world.operator.sweeper
    faulty.before_list = None
    assert (await sweeper.sweep()).errors == 0


async def test_S9_without_the_fast_path_only_sweeps_act_on_time(stopped_world: World, gateway: PlayedGateway) -> None:
    """Overdue, silent and unaccepted work stays until the next tick, whose lastSweep counts it; a cancel doesn't."""
    world = stopped_world
    await world.start(fast_path=False)
    await eventually(lambda: swept_first(world))
    session = await accepted(world, gateway, "silent", "cancelled")
    await world.create(delegation("late").due_in(60), delegation("offered").due_in(20_000).stuck_after(30))
    await world.settled()
    await session.accept("late")
    await session.beat("silent")
    await world.pass_time(200, LONG_STEP)
    told = [await world.told(name) for name in ("late", "offered")]
    assert told == ["InProgress Dispatched", "Dispatched Dispatched"]
    await world.cancel("cancelled")
    assert await world.told("cancelled") == "Cancelled Cancelled"
    await world.admin.patch(SWEEPERS, BELAY, "default", {"spec": {"stuckThresholdSeconds": 60}})
    try:
        await eventually(lambda: _has_threshold(world, 60))
        assert await world.told("silent") == "InProgress Dispatched"
        await world.pass_time(100, LONG_STEP)
        await eventually(lambda: swept_now(world))
    finally:
        await world.admin.patch(SWEEPERS, BELAY, "default", {"spec": {"stuckThresholdSeconds": None}})
    last = (await reported(world))["lastSweep"]
    assert (last["deadlineFailures"], last["stuckMarked"], last["errors"]) == (1, 1, 0)
    told = [await world.told(name) for name in ("late", "silent", "offered")]
    assert told == ["Failed DeadlineExceeded", "Stuck NoHeartbeat", "Queued NotAccepted"]
    assert (await reported(world))["totals"]["deadlineFailures"] == 1
    counted = world.operator.metrics.registry.get_sample_value("belay_swept_total", {"kind": "deadlineFailures"})
    assert counted == 1
    await eventually(lambda: _said(world, "deadlineFailures 1, stuckMarked 1, errors 0"))


async def _said(world: World, note: str) -> bool:
    events = (await world.admin.list(EVENTS, BELAY))["items"]
    return any(event["reason"] == "Swept" and event.get("note") == note for event in events)


async def _has_threshold(world: World, seconds: int) -> bool:
    return world.operator.seen.index.times.stuck_threshold == seconds


async def test_S9_the_result_is_in_the_sweepers_status(world: World, gateway: PlayedGateway) -> None:
    """This sweep's numbers under lastSweep, those of both paths under totals."""

    async def swept(times: int) -> bool:
        return world.operator.sweeper._sweeps == times and await swept_at(world) is not None

    await eventually(lambda: swept(1))
    await accepted(world, gateway, "d", due_in=60)
    await world.pass_time(300, LONG_STEP)
    await eventually(lambda: swept(2))

    async def told() -> bool:
        return bool((await reported(world))["totals"]["sweeps"] == 2)

    await eventually(told)
    status = await reported(world)
    assert {"inFlight", "deadlineFailures", "stuckMarked", "errors"} < status["lastSweep"].keys()
    assert (status["totals"]["deadlineFailures"], status["totals"]["sweeps"]) == (1, 2)
    assert (status["intervalSeconds"], status["stuckThresholdSeconds"]) == (300, 600)


@pytest.mark.parametrize("by", ["fast path", "sweep"])
async def test_S10_what_completed_between_read_and_write_is_left_completed(
    stopped_world: World, gateway: PlayedGateway, faulty: Faulty, by: str
) -> None:
    """Overdue as it was read, Completed when it is to be written: it stays Completed, and nothing is counted."""
    world = stopped_world
    session = await accepted(world, gateway, "d", due_in=60)

    completing: asyncio.Future[None] | None = None

    async def complete_first(path: Collection, obj: Json) -> None:
        nonlocal completing
        if path == DELEGATIONS and world.is_mine(obj):
            completing = completing or asyncio.ensure_future(session.complete("d"))
            await completing

    faulty.before_write = complete_first
    await world.clock.advance(120)
    if by == "sweep":
        assert (await world.operator.sweeper.sweep()).deadline_failures == 0
    await world.settled()
    assert await world.told("d") == "Completed Completed"
    assert world.operator.engine.totals()["deadlineFailures"] == 0


async def test_S10_a_sweep_does_not_bring_back_what_ended_since_it_listed(
    stopped_world: World, gateway: PlayedGateway, faulty: Faulty
) -> None:
    """A page may be old: work that completed since holds no slot."""
    world = stopped_world
    session = await accepted(world, gateway, "d")

    async def complete_since(path: Collection, answer: Json) -> None:
        if path == DELEGATIONS:
            faulty.after_list = None
            await session.complete("d")
            await eventually(lambda: all(ref.namespace != world.namespace for ref in world.operator.seen.index.work))

    faulty.after_list = complete_since
    result = await world.operator.sweeper.sweep()
    assert faulty.after_list is None
    assert result.errors == 0
    assert (await world.agent_status())["activeDelegations"] == 0


async def test_S10_sweeping_twice_changes_nothing_more(world: World, gateway: PlayedGateway) -> None:
    """The second sweep finds nothing to do."""
    session = await accepted(world, gateway, "late", "silent", "fine", due_in=90)
    await session.beat("silent")
    await world.pass_time(120)
    await world.operator.sweeper.sweep()
    await world.settled()
    before = (await world.admin.list(DELEGATIONS, world.namespace))["items"]
    again = await world.operator.sweeper.sweep()
    await world.settled()
    assert again.quiet()
    assert (await world.admin.list(DELEGATIONS, world.namespace))["items"] == before


async def test_three_conflicts_running_are_decided_again_and_foreign_conditions_kept(
    stopped_world: World, gateway: PlayedGateway, faulty: Faulty
) -> None:
    """Somebody writes before each of three tries: the fourth is made on what they wrote, and keeps it."""
    world = stopped_world
    session = await accepted(world, gateway, "d", due_in=60)
    tries = 0

    async def write_first(path: Collection, obj: Json) -> None:
        nonlocal tries
        if path == DELEGATIONS and world.is_mine(obj) and tries < 3:
            tries += 1
            theirs = {"type": f"Theirs{tries}", "status": "True", "reason": "R", "message": "", **_AT}
            old = (await world.status("d")).get("conditions") or []
            await session.write("d", conditions=[*old, theirs])

    faulty.before_write = write_first
    await world.clock.advance(120)
    assert await world.told("d") == "Failed DeadlineExceeded"
    assert tries == 3
    conditions = [c["type"] for c in (await world.status("d"))["conditions"]]
    assert conditions == ["Theirs1", "Theirs2", "Theirs3", "Finished"]


_AT = {"lastTransitionTime": "2026-01-02T03:04:05Z"}
