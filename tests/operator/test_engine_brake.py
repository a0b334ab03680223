"""The operator on a real API server: most of the fleet is lost at once, and nothing is done about it (I7, fault 8)."""

from contextlib import suppress

import pytest

from belay_api.conditions import ConditionType
from belay_api.meta import SWEEPER_NAME
from belay_api.reasons import SubscriptionReason
from belay_kube.client import EVENTS, SUBSCRIPTIONS, SWEEPERS, Json, Kube
from belay_kube.errors import NotFound
from waiting import eventually

from .builders import delegation
from .faulty import Faulty, refusing
from .played import BELAY, PlayedGateway, PlayedSession
from .world import LONG_STEP, World

pytestmark = pytest.mark.usefixtures("alone")
FLEET = 12
SILENT = 11
HALF = 6
HELD = "InProgress Dispatched"
CANCELLED = "Cancelled AgentOffline"


@pytest.fixture
async def alone(admin_kube: Kube) -> None:
    """No session of earlier tests: the brake counts those of all namespaces."""
    for row in (await admin_kube.list(SUBSCRIPTIONS))["items"]:
        with suppress(NotFound):
            await admin_kube.delete(SUBSCRIPTIONS, row["metadata"]["namespace"], row["metadata"]["name"])


async def fleet(world: World, gateway: PlayedGateway) -> list[PlayedSession]:
    """Agents `a0` and so on with a session each; the first and the last of them have work."""
    sessions = []
    for number in range(FLEET):
        await world.agent(f"a{number}")
        sessions.append(await gateway.attach(f"a{number}", f"s{number}"))
    await world.create(delegation("first").to("a0"), delegation("last").to(f"a{FLEET - 1}"))
    await world.settled()
    await sessions[0].accept("first")
    await sessions[-1].accept("last")
    return sessions


async def condition(world: World) -> Json:
    """The Braked condition; empty when there is none."""
    await world.settled()
    status = (await world.admin.get(SWEEPERS, BELAY, SWEEPER_NAME)).get("status") or {}
    found = [c for c in status.get("conditions") or [] if c["type"] == ConditionType.BRAKED]
    return found[0] if found else {}


async def braked(world: World) -> tuple[str | None, str | None]:
    """Whether the brake is on as the condition says, and why."""
    told = await condition(world)
    return told.get("status"), told.get("reason")


async def back(world: World, sessions: list[PlayedSession]) -> None:
    """Half of the lost return, which releases the brake."""
    for session in sessions[:HALF]:
        await session.attach()
    await world.pass_time(3)
    assert (await braked(world))[0] == "False"


def metric(world: World) -> float | None:
    """What /metrics says of the brake."""
    return world.operator.metrics.registry.get_sample_value("belay_operator_braked")


async def test_I7_fault_8_a_silent_fleet_is_shown_and_not_acted_on(world: World, gateway: PlayedGateway) -> None:
    """90 % go silent within 15 s: rows Expired, agents offline, condition and metric, and no work is cancelled."""
    sessions = await fleet(world, gateway)
    for session in sessions[: SILENT // 2]:
        session.crash()
    await world.pass_time(15)
    for session in sessions[SILENT // 2 : SILENT]:
        session.crash()
    await world.pass_time(60)
    assert list((await world.rows()).values()).count("Expired") == SILENT
    assert (await world.agent_status("a0"))["routable"] is False
    assert await braked(world) == ("True", "FleetLost")
    assert metric(world) == 1
    await world.pass_time(300, LONG_STEP)
    assert [await world.told("first"), await world.told("last")] == [HELD, HELD]
    await back(world, sessions)
    assert await braked(world) == ("False", "FleetBack")
    assert [await world.told("first"), await world.told("last"), metric(world)] == [HELD, HELD, 0]


async def test_I7_released_when_half_are_back_and_each_grace_starts_anew(world: World, gateway: PlayedGateway) -> None:
    """The other half has 30 s from then on, not from when it was lost."""
    sessions = await fleet(world, gateway)
    for session in sessions[:SILENT]:
        await session.drop()
    await world.pass_time(200, LONG_STEP)
    assert await world.told("first") == HELD
    for session in sessions[1 : 1 + HALF]:
        await session.attach()
    await world.pass_time(29.9)
    assert await world.told("first") == HELD
    await world.pass_time(0.1)
    assert await world.told("first") == CANCELLED
    assert await world.told("last") == HELD


async def test_I7_released_after_its_time_when_nobody_returns(world: World, gateway: PlayedGateway) -> None:
    """After 600 s it was no fault of ours: one grace later the work is treated; an Event tells both."""
    for session in (await fleet(world, gateway))[:SILENT]:
        await session.drop()
    await world.pass_time(600, LONG_STEP)
    assert (await braked(world), await world.told("first")) == (("False", "BrakeTimedOut"), HELD)
    await world.pass_time(29.9)
    assert await world.told("first") == HELD
    await world.pass_time(0.1)
    assert await world.told("first") == CANCELLED
    events = (await world.admin.list(EVENTS, BELAY))["items"]
    assert {"FleetLost", "BrakeTimedOut"} <= {event["reason"] for event in events}


@pytest.mark.parametrize("reason", [SubscriptionReason.CLOSED, SubscriptionReason.GATEWAY_SHUTDOWN])
async def test_I7_a_fleet_that_closes_is_never_braked(
    world: World, gateway: PlayedGateway, reason: SubscriptionReason
) -> None:
    """Closed properly, all at once: each has its ordinary grace."""
    before = await condition(world)
    for session in await fleet(world, gateway):
        await session.drop(reason)
    await world.pass_time(30)
    assert [await world.told("first"), await condition(world)] == [CANCELLED, before]


async def test_I7_a_restart_of_the_operator_releases_nothing(world: World, gateway: PlayedGateway) -> None:
    """Another process reads in the condition that the brake is on, and since when."""
    for session in (await fleet(world, gateway))[:SILENT]:
        await session.drop()
    await world.pass_time(100, LONG_STEP)
    assert await braked(world) == ("True", "FleetLost")
    await world.stop()
    await world.start()
    await world.pass_time(100, LONG_STEP)
    assert await world.told("first") == HELD
    await world.pass_time(600, LONG_STEP)
    assert await world.told("first") == CANCELLED
    assert (await braked(world))[0] == "False"


async def test_I7_without_any_grace_the_brake_is_faster(world: World, gateway: PlayedGateway) -> None:
    """Agents with no grace, stale at the same moment: the brake is on before the first of them is treated."""
    sessions = await fleet(world, gateway)
    await world.stop()
    await world.start(grace_seconds=0)
    for session in sessions[:SILENT]:
        session.crash()
    await world.pass_time(60)
    assert [await world.told("first"), (await braked(world))[0]] == [HELD, "True"]
    await back(world, sessions)


async def test_I7_a_sweeper_made_again_during_the_brake_is_told(world: World, gateway: PlayedGateway) -> None:
    """The condition stands in the new object, too."""
    sessions = await fleet(world, gateway)
    for session in sessions[:SILENT]:
        await session.drop()
    await world.pass_time(30)
    assert (await braked(world))[0] == "True"
    uid = (await world.admin.get(SWEEPERS, BELAY, SWEEPER_NAME))["metadata"]["uid"]
    await world.admin.delete(SWEEPERS, BELAY, SWEEPER_NAME)

    async def is_told() -> bool:
        try:
            found = await world.admin.get(SWEEPERS, BELAY, SWEEPER_NAME)
        except NotFound:
            return False
        return found["metadata"]["uid"] != uid and await braked(world) == ("True", "FleetLost")

    await eventually(is_told)
    await back(world, sessions)


async def test_S7_a_condition_that_cannot_be_written_is_tried_again(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """The brake holds all the same, and is told as soon as that can be."""
    world, kube = stopped_world, Faulty(operator_kube)
    kube.before_write = refusing(SWEEPERS)
    await world.start(kube)
    sessions = await fleet(world, gateway)
    for session in sessions[:SILENT]:
        await session.drop()
    await world.pass_time(60)
    assert ((await condition(world)).get("status"), await world.told("first")) != ("True", CANCELLED)
    kube.before_write = None
    await world.pass_time(60)
    assert [await world.told("first"), (await braked(world))[0]] == [HELD, "True"]
    await back(world, sessions)


async def test_I7_fault_8_work_of_a_silent_fleet_is_not_given_to_others(world: World, gateway: PlayedGateway) -> None:
    """It turns Stuck, which is shown; attempt 2 waits for the end of the brake, as the silent may be at work still."""
    sessions = await fleet(world, gateway)
    sibling = await gateway.attach("a0", "sibling")
    await world.create(delegation("retried").to("a0").attempts(3).stuck_after(60).due_in(20_000))
    await sibling.complete("first")
    await world.settled()
    await sessions[0].accept("retried")
    await sessions[0].beat("retried")
    for session in sessions[:SILENT]:
        session.crash()
    await world.pass_time(100)
    assert [await world.told("retried"), (await braked(world))[0]] == ["Stuck NoHeartbeat", "True"]
    await back(world, sessions[1:])
    assert (await world.told("retried")).startswith("Queued")
    assert (await world.status("retried"))["attempt"] == 2
