"""The operator on a real API server: what becomes of work when its sessions are lost (G1 to G9, G11, C7)."""

import pytest

from belay_api.reasons import SubscriptionReason
from belay_api.times import from_wire
from belay_kube.client import AGENTS

from .builders import delegation
from .played import PlayedGateway, PlayedSession
from .world import SIGHT_SECONDS, World

CANCELLED = "Cancelled AgentOffline"
IN_PROGRESS = "InProgress Dispatched"
OFFERED = "Dispatched Dispatched"


async def busy(world: World, gateway: PlayedGateway) -> PlayedSession:
    """Agent `a` with one session `s` that has accepted `held`; `offered` waits for somebody to take it."""
    await world.agent(maxActiveDelegations=5)
    session = await gateway.attach("a", "s")
    await world.create(delegation("held"), delegation("offered"))
    await world.settled()
    await session.accept("held")
    return session


async def told(world: World, *names: str) -> list[str]:
    """Phase and reason of each of these, settled."""
    return [await world.told(name) for name in names]


async def test_G1_after_the_grace_everything_the_agent_had_is_cancelled(world: World, gateway: PlayedGateway) -> None:
    """Offered, accepted and Stuck work: untouched at 29.9 s, Cancelled (AgentOffline) at 30 s, and the slots free."""
    session = await busy(world, gateway)
    await world.create(delegation("stuck").stuck_after(10))
    await world.settled()
    await session.accept("stuck")
    await session.beat("stuck")
    await world.pass_time(11)
    await session.drop()
    await world.pass_time(29.9)
    assert await told(world, "held", "offered", "stuck") == [IN_PROGRESS, OFFERED, "Stuck NoHeartbeat"]
    await world.pass_time(0.1)
    assert set(await told(world, "held", "offered", "stuck")) == {CANCELLED}
    assert (await world.agent_status())["activeDelegations"] == 0
    assert await world.rows() == {}


async def test_G1_a_cancelled_orphan_says_so_in_its_conditions(world: World, gateway: PlayedGateway) -> None:
    """Finished, so that nobody waits for ever, and CancelRequested, so that the holder is told when it returns."""
    session = await busy(world, gateway)
    await session.drop()
    await world.pass_time(30)
    await world.settled()
    status = await world.status("held")
    assert {c["type"]: c["status"] for c in status["conditions"]} == {"Finished": "True", "CancelRequested": "True"}
    assert status["message"] == "agent a was lost and did not return within 30s"


@pytest.mark.parametrize("returns_as", ["s", "another"])
async def test_G2_an_agent_that_returns_in_time_keeps_its_work(
    world: World, gateway: PlayedGateway, returns_as: str
) -> None:
    """The same or another session is back after 29 s: agent-wide work is not cancelled."""
    session = await busy(world, gateway)
    await session.drop()
    await world.pass_time(29)
    await (session.attach() if returns_as == "s" else gateway.attach("a", returns_as))
    await world.pass_time(60)
    assert await world.told("offered") == OFFERED


async def test_G3_a_live_sibling_keeps_what_is_not_the_lost_sessions(world: World, gateway: PlayedGateway) -> None:
    """Only work addressed to or held by the dropped session is cancelled."""
    session = await busy(world, gateway)
    sibling = await gateway.attach("a", "t")
    await world.create(delegation("addressed").to("a", session="s"), delegation("siblings").to("a", session="t"))
    await world.settled()
    await sibling.accept("siblings")
    await session.drop()
    await world.pass_time(30)
    assert await told(world, "held", "addressed") == [CANCELLED, CANCELLED]
    assert await told(world, "offered", "siblings") == [OFFERED, IN_PROGRESS]
    assert (await world.status("held"))["message"] == "session s of agent a was lost and did not return within 30s"


async def test_G4_the_same_session_back_in_time_keeps_everything(world: World, gateway: PlayedGateway) -> None:
    """With a sibling live all along, nothing is cancelled."""
    session = await busy(world, gateway)
    await gateway.attach("a", "t")
    await session.drop()
    await world.pass_time(29)
    await session.attach()
    await world.pass_time(60)
    assert await told(world, "held", "offered") == [IN_PROGRESS, OFFERED]


async def test_G5_a_crash_orphaned_row_is_no_live_session(world: World, gateway: PlayedGateway) -> None:
    """A row that nobody renews any more does not save agent-wide work at the end of the grace."""
    session = await busy(world, gateway)
    sibling = await gateway.attach("a", "t")
    sibling.crash()
    await world.pass_time(46)
    await session.drop()
    await world.pass_time(29.9)
    assert await world.told("offered") == OFFERED
    await world.pass_time(0.1)
    assert await world.told("offered") == CANCELLED


async def test_G6_a_newer_session_gives_agent_wide_work_a_grace_of_its_own(
    world: World, gateway: PlayedGateway
) -> None:
    """Dropped at 0, another came and dropped at 20: agent-wide work waits until 50, held work does not."""
    session = await busy(world, gateway)
    await session.drop()
    await world.pass_time(15)
    newer = await gateway.attach("a", "t")
    await world.pass_time(5)
    await newer.drop()
    await world.pass_time(29.9)
    assert await told(world, "held", "offered") == [CANCELLED, OFFERED]
    await world.pass_time(0.1)
    assert await world.told("offered") == CANCELLED


async def test_G7_rows_of_a_deleted_agent_are_removed_and_its_work_fails(world: World, gateway: PlayedGateway) -> None:
    """Held work is Failed (AgentDeleted) at once; the dead row has nothing to wait for."""
    session = await busy(world, gateway)
    await world.settled()
    await world.admin.delete(AGENTS, world.namespace, "a")
    await world.settled()
    assert await told(world, "held", "offered") == ["Failed AgentDeleted", "Failed AgentDeleted"]
    await session.drop()
    assert await world.rows() == {}


async def test_G7_presence_of_a_model_agent_is_not_acted_on(world: World, gateway: PlayedGateway) -> None:
    """A row of a Model agent is removed once it isn't live, and its work stays as it is."""
    await world.agent(runtime="Model", model={"provider": "p", "name": "m"})
    session = await gateway.attach("a", "s")
    await world.create(delegation("d"))
    before = await world.told("d")
    await session.drop()
    assert await world.rows() == {}
    await world.pass_time(31)
    assert await world.told("d") == before == "Queued ProviderUnknown"


async def test_G8_work_that_was_never_sent_waits_for_an_offline_agent(world: World, gateway: PlayedGateway) -> None:
    """Queued work stays Queued with the reason, and is offered when the agent is back."""
    await world.agent(maxActiveDelegations=1)
    session = await gateway.attach("a", "s")
    await world.create(delegation("first"), delegation("second"))
    assert await world.told("second") == "Queued AgentBusy"
    await session.drop()
    await world.pass_time(60)
    assert await told(world, "first", "second") == [CANCELLED, "Queued AgentOffline"]
    await session.attach()
    assert await world.told("second") == OFFERED


@pytest.mark.parametrize(
    ("away", "due"),
    [
        pytest.param(5, 45, id="back within the grace: one grace after it can see"),
        pytest.param(100, 140, id="back after the grace: one grace after it can see"),
    ],
)
async def test_G9_an_operator_killed_during_grace_cancels_once_and_not_too_early(
    world: World, gateway: PlayedGateway, away: float, due: float
) -> None:
    """Dropped at 0, operator gone from 10 on for a while: cancelled one grace after the new one's start."""
    session = await busy(world, gateway)
    await session.drop()
    began = world.clock.now()
    await world.pass_time(10)
    await world.stop()
    await world.pass_time(away)
    await world.start()
    await world.pass_time(29.9)
    assert await world.told("held") == IN_PROGRESS
    await world.pass_time(0.1)
    assert await world.told("held") == CANCELLED
    ended = from_wire((await world.status("held"))["completionTime"])
    assert ended is not None
    assert (ended - began).total_seconds() == pytest.approx(due + SIGHT_SECONDS)


async def test_G11_each_sessions_work_has_its_own_grace(world: World, gateway: PlayedGateway) -> None:
    """A drops at 0, B at 29: work held by B is untouched until 59."""
    session = await busy(world, gateway)
    sibling = await gateway.attach("a", "t")
    await world.create(delegation("siblings").to("a", session="t"))
    await world.settled()
    await sibling.accept("siblings")
    await session.drop()
    await world.pass_time(29)
    await sibling.drop()
    await world.pass_time(29.9)
    assert await told(world, "held", "siblings", "offered") == [CANCELLED, IN_PROGRESS, OFFERED]
    await world.pass_time(0.1)
    assert await told(world, "siblings", "offered") == [CANCELLED, CANCELLED]


async def test_C7_a_goodbye_needs_no_grace(world: World, gateway: PlayedGateway) -> None:
    """What the session held is cancelled at once, agent-wide work after the agent's grace."""
    session = await busy(world, gateway)
    await session.drop(SubscriptionReason.GOODBYE)
    assert await told(world, "held", "offered") == [CANCELLED, OFFERED]
    assert await world.rows() == {}
    await world.pass_time(30)
    assert await world.told("offered") == CANCELLED
