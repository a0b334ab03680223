"""When an Agent's status is written: presence at once, counts in their turn."""

from belay_api.names import Ref
from belay_kube.clock import FakeClock
from belay_operator.telling import COUNTS_PER_SECOND, COUNTS_SECONDS, STATUS_SECONDS, Telling

AGENT = Ref("default", "writer")


async def test_presence_is_told_at_once_and_not_more_often_than_once_a_second() -> None:
    """The first is not kept waiting by anything, the next by the first."""
    clock = FakeClock()
    telling = Telling(clock)
    assert telling.wait(AGENT, counts_only=False) <= 0
    telling.told(AGENT)
    assert telling.wait(AGENT, counts_only=False) == STATUS_SECONDS
    await clock.advance(STATUS_SECONDS)
    assert telling.wait(AGENT, counts_only=False) <= 0


async def test_counts_are_told_when_they_have_lasted() -> None:
    """For a second; and a few seconds after what was told last."""
    clock = FakeClock()
    telling = Telling(clock)
    assert telling.wait(AGENT, counts_only=True) == STATUS_SECONDS
    await clock.advance(STATUS_SECONDS)
    assert telling.wait(AGENT, counts_only=True) == 0
    telling.told(AGENT)
    assert telling.wait(AGENT, counts_only=True) == COUNTS_SECONDS


async def test_counts_that_are_as_before_begin_anew() -> None:
    """What went up and down again is no reason to write sooner."""
    clock = FakeClock()
    telling = Telling(clock)
    telling.wait(AGENT, counts_only=True)
    await clock.advance(STATUS_SECONDS)
    telling.same(AGENT)
    assert telling.wait(AGENT, counts_only=True) == STATUS_SECONDS


async def test_counts_of_many_agents_have_their_turns() -> None:
    """However many change, so many a second are written; nobody is passed over, and presence doesn't wait for them."""
    clock = FakeClock()
    telling = Telling(clock)
    agents = [Ref("default", f"a{n}") for n in range(3 * COUNTS_PER_SECOND)]
    for agent in agents:
        telling.wait(agent, counts_only=True)
    await clock.advance(STATUS_SECONDS)
    waits = [telling.wait(agent, counts_only=True) for agent in agents]
    assert waits == sorted(waits)
    assert waits[0] == 0
    assert sum(wait < 1 for wait in waits) == COUNTS_PER_SECOND
    assert [telling.wait(agent, counts_only=True) for agent in agents] == waits, "asking again changes no turn"
    assert telling.wait(agents[-1], counts_only=False) <= 0


async def test_a_turn_that_is_not_used_is_the_next_ones() -> None:
    """Who needs it no more keeps nobody waiting for long."""
    clock = FakeClock()
    telling = Telling(clock)
    for n in range(COUNTS_PER_SECOND):
        telling.wait(Ref("default", f"a{n}"), counts_only=True)
    await clock.advance(STATUS_SECONDS)
    for n in range(COUNTS_PER_SECOND):
        telling.wait(Ref("default", f"a{n}"), counts_only=True)
        telling.gone(Ref("default", f"a{n}"))
    telling.wait(AGENT, counts_only=True)
    await clock.advance(STATUS_SECONDS)
    assert telling.wait(AGENT, counts_only=True) == 0
