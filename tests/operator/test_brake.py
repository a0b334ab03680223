"""decisions/brake.py and observe/fleet.py: when most sessions are lost at once, on a fake clock (I7, fault 8)."""

from dataclasses import replace

import pytest

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.reasons import SubscriptionReason
from belay_kube.clock import FakeClock
from belay_operator.decisions.brake import Release, engages, releases, without_a_word
from belay_operator.decisions.view import AgentView, SessionView
from belay_operator.observe.fleet import Fleet
from belay_operator.observe.presence_records import Row

from .builders import T0, agent, at, row

LOST = SubscriptionReason.CONNECTION_LOST
CLOSED = SubscriptionReason.CLOSED


@pytest.mark.parametrize(
    ("live", "lost", "expected"),
    [
        pytest.param(0, 9, False, id="nine of nine: fleets under 10 are never braked"),
        pytest.param(0, 10, True, id="ten of ten"),
        pytest.param(9, 10, True, id="ten of nineteen"),
        pytest.param(10, 10, False, id="ten of twenty: half is not more than half"),
        pytest.param(1000, 999, False, id="a minority, however many"),
        pytest.param(999, 1000, True, id="a majority by one"),
    ],
)
def test_I7_brakes_when_more_than_half_and_at_least_ten_are_lost(live: int, lost: int, expected: bool) -> None:
    """The rule in numbers."""
    assert engages(live, lost) is expected


@pytest.mark.parametrize(
    ("lost", "back", "seconds", "expected"),
    [
        pytest.param(20, 9, 599, None, id="less than half are back, in time"),
        pytest.param(20, 10, 1, Release.BACK, id="half are back"),
        pytest.param(21, 10, 1, None, id="not quite half"),
        pytest.param(20, 0, 600, Release.TIME, id="nobody came"),
        pytest.param(0, 0, 0, Release.BACK, id="nobody is waited for"),
    ],
)
def test_I7_releases_when_half_are_back_or_after_its_time(
    lost: int, back: int, seconds: float, expected: Release | None
) -> None:
    """At 600 s whatever happens."""
    assert releases(lost, back, seconds, 600) is expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (SubscriptionReason.CONNECTION_LOST, True),
        (SubscriptionReason.SILENT, True),
        (SubscriptionReason.STALE, True),
        (SubscriptionReason.CLOSED, False),
        (SubscriptionReason.GOODBYE, False),
        (SubscriptionReason.UNSUBSCRIBED, False),
        (SubscriptionReason.GATEWAY_SHUTDOWN, False),
    ],
)
def test_I7_only_losses_without_a_word_count(reason: SubscriptionReason, expected: bool) -> None:
    """A close frame, a goodbye and a gateway that ends on purpose are words."""
    assert without_a_word(SubscriptionPhase.DISCONNECTED, reason) is expected
    assert not without_a_word(SubscriptionPhase.LIVE, reason)


class Watched:
    """A fleet of sessions `0` to `n - 1`, all live, on a fake clock."""

    def __init__(self, live: int) -> None:
        self.clock = FakeClock(T0)
        self.fleet = Fleet(self.clock, 600)
        self.back(*range(live))

    def back(self, *sessions: int) -> None:
        """These are live (again)."""
        for session in sessions:
            self.fleet.saw(self._row(session))

    def lost(self, *sessions: int, reason: SubscriptionReason = LOST) -> None:
        """These are gone."""
        for session in sessions:
            self.fleet.saw(self._row(session, SubscriptionPhase.DISCONNECTED, reason))

    def _row(
        self,
        session: int,
        phase: SubscriptionPhase = SubscriptionPhase.LIVE,
        reason: SubscriptionReason | None = None,
    ) -> Row:
        return row(str(session), phase, reason=reason)


async def test_I7_losses_spread_over_more_than_the_window_are_single_losses() -> None:
    """Fourteen of twenty, 10 s apart: never more than seven within the window."""
    seen = Watched(20)
    for session in range(14):
        seen.lost(session)
        await seen.clock.advance(10)
    assert not seen.fleet.braked


async def test_I7_losses_within_the_window_brake() -> None:
    """The same fourteen, 4 s apart: the eleventh is more than half."""
    seen, braked = Watched(20), []
    for session in range(14):
        seen.lost(session)
        braked.append(seen.fleet.braked)
        await seen.clock.advance(4)
    assert braked == [False] * 10 + [True] * 4


def test_I7_closing_everything_never_brakes() -> None:
    """A hundred agents are shut down on purpose."""
    seen = Watched(100)
    seen.lost(*range(100), reason=CLOSED)
    assert not seen.fleet.braked


def test_I7_who_comes_back_at_once_is_not_lost() -> None:
    """A gateway's end after which agents reconnect one by one."""
    seen = Watched(20)
    for session in range(20):
        seen.lost(session)
        seen.back(session)
    assert not seen.fleet.braked


def test_I7_rows_first_seen_dead_were_lost_before() -> None:
    """An operator that starts and finds a hundred old rows."""
    seen = Watched(0)
    seen.lost(*range(100))
    assert not seen.fleet.braked


def test_I7_stale_rows_count_before_they_are_marked() -> None:
    """And marking them counts them no second time."""
    seen = Watched(12)
    for number in range(12):
        seen.fleet.stale(row(str(number)).ref)
    seen.fleet.judge()
    seen.lost(*range(12), reason=SubscriptionReason.STALE)
    assert (seen.fleet.braked, seen.fleet.counts()) == (True, (0, 12))


def test_I7_released_by_half_of_the_lost_or_as_many_new_ones() -> None:
    """Twelve lost: four are back and two came under new names."""
    seen = Watched(12)
    seen.lost(*range(12))
    seen.back(*range(4))
    assert seen.fleet.braked
    seen.back(100)
    assert seen.fleet.braked
    seen.back(101)
    assert not seen.fleet.braked


async def test_I7_released_after_its_time_and_not_set_again_by_the_same_losses() -> None:
    """At 600 s, and each grace starts then."""
    seen = Watched(12)
    seen.lost(*range(12))
    assert seen.fleet.graces_from == at(600)
    await seen.clock.advance(599)
    assert not seen.fleet.judge()
    await seen.clock.advance(1)
    assert seen.fleet.judge()
    assert (seen.fleet.braked, seen.fleet.graces_from, seen.fleet.judge()) == (False, at(600), False)


async def test_I7_a_later_operator_goes_on_braking() -> None:
    """It finds the rows dead and the condition set 100 s ago: 500 s are left."""
    seen = Watched(0)
    dead = [row(str(n), SubscriptionPhase.EXPIRED, reason=SubscriptionReason.STALE) for n in range(12)]
    seen.fleet.resume(dead, at(-100))
    assert (seen.fleet.judge(), seen.fleet.braked, seen.fleet.seconds_left()) == (False, True, 500)


def _gone(view: AgentView) -> tuple[object, object]:
    return view.session_gone_at("s"), view.agent_gone_at()


@pytest.mark.parametrize(
    ("closed", "expected"), [(False, (at(630), at(630))), (True, (at(30), at(30)))], ids=["lost", "closed"]
)
def test_I7_only_graces_of_sessions_that_nobody_closed_wait(closed: bool, expected: tuple[object, object]) -> None:
    """While the brake is on until 600: who closed properly has its ordinary grace."""
    view = agent({"s": SessionView(live=False, lost_at=at(0), closed=closed)})
    assert _gone(replace(view, brake_ends=at(600))) == expected


def test_C7_a_goodbye_is_never_braked() -> None:
    """Its session is gone at once."""
    view = agent({"s": SessionView(live=False, lost_at=at(5), left=True, closed=True)})
    assert replace(view, brake_ends=at(600)).session_gone_at("s") == at(5)
