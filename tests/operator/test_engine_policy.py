"""The operator on a real API server: orphans by their onAgentLost (G10)."""

import pytest

from belay_api.agent import OnAgentLost

from .builders import delegation
from .played import PlayedGateway, PlayedSession
from .world import World


async def orphan(
    world: World, gateway: PlayedGateway, policy: OnAgentLost, attempts: int = 1, due_in: int = 20_000
) -> PlayedSession:
    """`d` was accepted by `s`, which was lost, and the grace is over."""
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.create(delegation("d").on_lost(policy).attempts(attempts).due_in(due_in))
    await world.settled()
    await lose(world, session)
    return session


async def lose(world: World, session: PlayedSession) -> None:
    """The session accepts `d`, beats once, is lost and does not return."""
    await session.accept("d")
    await session.beat("d")
    await session.drop()
    await world.pass_time(30)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (OnAgentLost.CANCEL, "Cancelled AgentOffline"),
        (OnAgentLost.FAIL, "Failed AgentLost"),
        (OnAgentLost.WAIT, "InProgress Dispatched"),
        (OnAgentLost.REQUEUE, "Failed AgentLost"),
    ],
)
async def test_G10_an_orphan_of_one_attempt(
    world: World, gateway: PlayedGateway, policy: OnAgentLost, expected: str
) -> None:
    """Cancelled, Failed, left alone; and Failed when it may not be tried again."""
    await orphan(world, gateway, policy)
    assert await world.told("d") == expected


async def test_G10_requeue_goes_on_while_attempts_remain(world: World, gateway: PlayedGateway) -> None:
    """Back in the queue as a clean attempt 2, offered when the agent is back and the backoff (10 s and up to 15 % more)
    over, Failed when that is lost as well."""
    session = await orphan(world, gateway, OnAgentLost.REQUEUE, attempts=2)
    await world.settled()
    status = await world.status("d")
    assert (status["phase"], status["attempt"]) == ("Queued", 2)
    assert not {"sessionId", "gateway", "acceptedTime", "lastHeartbeatTime"} & status.keys()
    await session.attach()
    assert await world.told("d") == "Queued AgentLost"
    await world.pass_time(12)
    assert await world.told("d") == "Dispatched Dispatched"
    await lose(world, session)
    assert await world.told("d") == "Failed AgentLost"
    assert (await world.status("d"))["attempt"] == 2


async def test_G10_wait_is_left_to_the_deadline(world: World, gateway: PlayedGateway) -> None:
    """However long the agent is away; the deadline then fails it."""
    await orphan(world, gateway, OnAgentLost.WAIT, due_in=200)
    await world.pass_time(120)
    assert await world.told("d") == "InProgress Dispatched"
    await world.pass_time(90)
    assert await world.told("d") == "Failed DeadlineExceeded"
