"""What is to be looked at again, when something happens between two looks of the operator; on the simulated store."""

from datetime import UTC, datetime

from belay_api.reasons import SubscriptionReason
from belay_api.transitions import Phase, phase_of
from belay_kube.client import DELEGATIONS
from belay_kube.clock import FakeClock
from belay_operator.keys import KeyKind

from .operators import OperatorActor
from .store import SimulatedStore
from .world import Word, World

_START = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)
_DEADLINE = 200
_AFTER_GRACE = 31


async def _judge_work_only(operator: OperatorActor) -> None:
    """Work on the delegations that are due, and leave the agents for later."""
    seen = operator._seen
    seen.timers._emit_due()
    while len(seen.queue):
        key = await seen.queue.take()
        seen.queue.done(key)
        if key.kind is KeyKind.WORK:
            await operator._engine._work_on(key)
            return


async def _phases(world: World) -> list[Phase]:
    return [phase_of(obj["status"]["phase"]) for obj in await world._all(DELEGATIONS)]


async def test_S11_work_whose_session_returns_in_the_last_moment_keeps_its_deadline() -> None:
    """It was found to be an orphan, and before that was acted on its agent came back: the deadline is still known."""
    clock = FakeClock(_START)
    world = World(SimulatedStore(clock), clock, "ns")
    await world.begin()
    await world.create("b", None, None, deadlineSeconds=_DEADLINE)
    await world.catch_up()
    await world.say(("b", "u"), Word.ACCEPT, 0, late=False)
    await world.catch_up()
    await world.come_and_go(("b", "u"), 0, SubscriptionReason.CONNECTION_LOST)
    await world.catch_up()
    await clock.advance(_AFTER_GRACE)
    await world._renew()
    await _judge_work_only(world._operator)
    await world.return_if_lost(("b", "u"))
    await world.catch_up()
    assert await _phases(world) == [Phase.IN_PROGRESS]
    # Renewals seen more than 8 s apart would bring everything up again.
    await world.pass_time(_DEADLINE, step=5, watched=True)
    assert await _phases(world) == [Phase.FAILED]
