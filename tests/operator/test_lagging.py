"""lagging.py: who waits far back is told a reason later, a hundred at a time; one that flips back costs nothing."""

from collections.abc import Sequence

import pytest

from belay_api.reasons import Reason
from belay_api.transitions import Phase
from belay_kube.clock import FakeClock
from belay_operator.decisions import dispatch
from belay_operator.decisions.view import Change
from belay_operator.lagging import MOST_AT_ONCE, Lagging
from belay_operator.observe.records import Work

from .builders import DelegationBuilder, agent, at, delegation

AGENT = agent().ref


def change(target: Phase = Phase.QUEUED, place: int | None = None) -> Change:
    """Why it waits, or that it doesn't."""
    return Change(target, Reason.AGENT_OFFLINE, "", {"queuePosition": place})


def tail(number: int) -> list[tuple[Work, Change]]:
    """So many that wait behind the head, and are to be told why."""
    return [(delegation(f"d{n:03}").queued(at=0).work, change()) for n in range(number)]


class Given:
    """The tail of one queue, looked at again and again."""

    def __init__(self) -> None:
        self._clock = FakeClock(at(0))
        self._lagging = Lagging(self._clock)

    async def due(self, second: float, changes: Sequence[tuple[Work, Change]]) -> tuple[int, float | None]:
        """How many are written at this second, and when to look again."""
        await self._clock.advance(second - (self._clock.now() - at(0)).total_seconds())
        ready, wait = self._lagging.due(AGENT, changes)
        return len(ready), wait


@pytest.mark.parametrize(
    ("given", "planned", "expected"),
    [
        pytest.param(delegation().queued(at=0), change(), True, id="further back"),
        pytest.param(delegation().queued(at=0), change(place=10), False, id="the head"),
        pytest.param(delegation(), change(), False, id="a new one: its deadline goes with it"),
        pytest.param(delegation().pending(Reason.AGENT_NOT_FOUND), change(), False, id="taken up"),
        pytest.param(delegation().queued(at=0), change(Phase.DISPATCHED), False, id="offered"),
    ],
)
def test_D4_only_another_reason_far_back_may_lag(given: DelegationBuilder, planned: Change, expected: bool) -> None:
    """Whatever else is decided is written at once."""
    assert dispatch.may_lag(given.work, planned) is expected


async def test_I6_a_reason_that_comes_and_goes_is_not_written() -> None:
    """Another reason for 9 s, then for good: told 10 s after it came the second time."""
    given = Given()
    assert await given.due(0, tail(3)) == (0, 10)
    assert await given.due(9, []) == (0, None)
    assert await given.due(12, tail(3)) == (0, 10)
    assert await given.due(21, tail(3)) == (0, 1)
    assert await given.due(22, tail(3)) == (3, None)


async def test_I6_a_long_tail_is_told_a_hundred_a_second() -> None:
    """However often the agent is looked at."""
    given = Given()
    await given.due(0, tail(250))
    assert await given.due(10, tail(250)) == (MOST_AT_ONCE, 1)
    assert await given.due(10.5, tail(250)[MOST_AT_ONCE:]) == (0, 0.5)
    assert await given.due(11, tail(250)[MOST_AT_ONCE:]) == (MOST_AT_ONCE, 1)
    assert await given.due(12, tail(250)[2 * MOST_AT_ONCE :]) == (50, None)


async def test_D4_the_head_is_told_at_once() -> None:
    """And the others are waited for."""
    head = (delegation("head").queued(at=0).work, change(place=1))
    assert await Given().due(0, [head, *tail(2)]) == (1, 10)
