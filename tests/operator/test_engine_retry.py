"""The operator on a real API server: the next attempt of work that came to nothing (D7, D10, C9, S12)."""

from belay_api.agent import OnAgentLost
from belay_kube.client import DELEGATIONS

from .builders import DelegationBuilder, delegation
from .played import PlayedGateway, PlayedSession
from .world import World

LEFT_BEHIND = {"sessionId", "gateway", "acceptedTime", "lastHeartbeatTime", "progress", "dispatchedTime"}
"""What a new attempt hasn't got."""


async def accepted(world: World, gateway: PlayedGateway, given: DelegationBuilder) -> PlayedSession:
    """Session s of agent a has taken it and beaten once."""
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.create(given)
    await world.settled()
    await session.accept(given.name)
    await session.beat(given.name)
    await world.settled()
    return session


async def test_S12_silence_is_retried_by_policy_until_no_attempt_is_left(world: World, gateway: PlayedGateway) -> None:
    """Stuck, and at once attempt 2 of 2, offered after its backoff; silent again it stays Stuck."""
    session = await accepted(world, gateway, delegation("d").attempts(2).stuck_after(20).due_in(20_000))
    await world.pass_time(22)
    assert await world.told("d") == "Queued NoHeartbeat"
    status = await world.status("d")
    assert (status["attempt"], status["failures"]) == (2, 1)
    assert status["message"].startswith("attempt 2 of 2 after NoHeartbeat: no heartbeat for ")
    assert not LEFT_BEHIND & status.keys()
    assert world.operator.engine.totals()["stuckMarked"] == 1
    await world.pass_time(12)
    assert await world.told("d") == "Dispatched Dispatched"
    await session.accept("d")
    await session.beat("d")
    await world.pass_time(60)
    assert await world.told("d") == "Stuck NoHeartbeat"
    retried = next(c for c in (await world.status("d"))["conditions"] if c["type"] == "Retried")
    assert (retried["status"], retried["reason"]) == ("True", "NoHeartbeat")


async def test_S12_a_person_retries_stuck_work_at_once_and_once(world: World, gateway: PlayedGateway) -> None:
    """retryAttempt raised: attempt 2 is offered without backoff; silent again it waits for the next word."""
    session = await accepted(world, gateway, delegation("d").stuck_after(20).due_in(20_000))
    await world.pass_time(22)
    assert await world.told("d") == "Stuck NoHeartbeat"
    await world.admin.patch(DELEGATIONS, world.namespace, "d", {"spec": {"retryAttempt": 1}})
    assert await world.told("d") == "Dispatched Dispatched"
    status = await world.status("d")
    assert (status["attempt"], status["failures"], status["observedRetryAttempt"]) == (2, 0, 1)
    await session.accept("d")
    await session.beat("d")
    await world.pass_time(60)
    assert await world.told("d") == "Stuck NoHeartbeat"
    assert (await world.status("d"))["attempt"] == 2


async def test_D10_a_failed_attempt_is_followed_by_the_next_and_the_last_by_the_end(
    world: World, gateway: PlayedGateway
) -> None:
    """Handed back with AgentFailed: Queued with its own words, backing off; with none left, Failed."""
    session = await accepted(world, gateway, delegation("d").attempts(2))
    await session.hand_back("d", "AgentFailed", "out of luck")
    assert await world.told("d") == "Queued AgentFailed"
    assert "attempt 2 of 2 after AgentFailed: out of luck, at " in (await world.status("d"))["message"]
    await world.pass_time(12)
    await session.accept("d")
    await session.hand_back("d", "AgentFailed", "again")
    assert await world.told("d") == "Failed AgentFailed"
    status = await world.status("d")
    assert (status["message"], status["attempt"], "sessionId" in status) == ("again", 2, False)


async def test_D10_a_late_failure_of_an_offer_taken_back_makes_the_next_attempt(
    world: World, gateway: PlayedGateway
) -> None:
    """Queued as nobody accepted, then handed back from there: attempt 2, which is not taken for handed back."""
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.create(delegation("d").attempts(3, backoff=40).stuck_after(20))
    await world.pass_time(21)
    assert await world.told("d") == "Queued NotAccepted"
    await session.hand_back("d", "AgentFailed")
    assert await world.told("d") == "Queued AgentFailed"
    assert (await world.status("d"))["attempt"] == 2
    await world.pass_time(60)
    assert (await world.status("d"))["attempt"] == 2
    assert await world.told("d") in ("Dispatched Dispatched", "Queued NotAccepted")


async def test_released_work_goes_back_and_counts_against_nothing(world: World, gateway: PlayedGateway) -> None:
    """One attempt is allowed, and yet it may be given back: attempt 2, no failure; its slot goes to the next."""
    session = await accepted(world, gateway, delegation("d"))
    await world.create(delegation("next"))
    assert await world.told("next") == "Queued AgentBusy"
    await session.hand_back("d", "Released", "shutting down")
    assert [await world.told("d"), await world.told("next")] == ["Queued Released", "Dispatched Dispatched"]
    status = await world.status("d")
    assert (status["attempt"], status["failures"]) == (2, 0)
    await session.complete("next")
    await world.pass_time(12)
    assert await world.told("d") == "Dispatched Dispatched"


async def test_C9_forgotten_work_is_treated_at_once_by_its_policy(world: World, gateway: PlayedGateway) -> None:
    """The session is live all the while: Cancelled, or the next attempt, without any grace."""
    session = await accepted(world, gateway, delegation("cancel"))
    await session.hand_back("cancel", "AgentForgot", "resumed without it")
    assert await world.told("cancel") == "Cancelled AgentForgot"
    assert "sessionId" not in await world.status("cancel")
    await world.create(delegation("requeue").on_lost(OnAgentLost.REQUEUE).attempts(2))
    await world.settled()
    await session.accept("requeue")
    await session.hand_back("requeue", "AgentForgot", "resumed without it")
    assert await world.told("requeue") == "Queued AgentForgot"
    assert (await world.status("requeue"))["attempt"] == 2


async def test_retries_survive_a_restart_between_hand_back_and_next_attempt(
    world: World, gateway: PlayedGateway
) -> None:
    """What was handed back while no operator ran is seen by the next one."""
    session = await accepted(world, gateway, delegation("d").attempts(2))
    await world.stop()
    await session.hand_back("d", "AgentFailed")
    await world.start()
    status = await world.status("d")
    assert (status["attempt"], status["failures"]) == (2, 1)
