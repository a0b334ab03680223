"""observe/presence.py: rows and gateways aged by our own watching, and blind time, on a fake clock (P3, I7)."""

import pytest

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.names import Ref
from belay_api.timing import Times
from belay_kube.clock import FakeClock
from belay_operator.observe.presence import Presence

from .builders import GATEWAY, NAMESPACE, T0, at, lease, row

AGENT = Ref(NAMESPACE, "a")
OTHER = "gateway-2"


class Watched:
    """Presence on a fake clock, in contact, with one gateway and one row of it."""

    def __init__(self, touch: float = 0) -> None:
        self.clock = FakeClock(T0)
        self.presence = Presence(self.clock, 45)
        self.touch = touch
        self._beats = 0
        self.presence.contact("start")
        self.renew_lease()
        self.renew_row()

    def renew_lease(self, identity: str = GATEWAY) -> bool:
        """A gateway's Lease moves; True when that ended a blind time."""
        return self.presence.lease_seen(lease(identity, renewed=self._next(), touch=self.touch))

    def renew_row(self) -> None:
        """The row moves."""
        self.last_row = row(renewed=self._next())
        self.presence.row_seen(self.last_row)

    async def renewing(self, seconds: int, *, leases: bool = True, rows: bool = True) -> None:
        """Time passes in steps of a second, in which one or both are renewed every 5 s."""
        for second in range(1, seconds + 1):
            await self.clock.advance(1)
            if second % 5 == 0 and leases:
                self.renew_lease()
            if second % 5 == 0 and rows:
                self.renew_row()

    @property
    def stale(self) -> bool:
        """Whether the row counts as stale."""
        return self.presence.stale_in(self.last_row, Times()) <= 0

    def _next(self) -> str:
        self._beats += 1
        return f"beat {self._beats}"


@pytest.mark.parametrize(("seconds", "stale"), [(44, False), (46, True)])
async def test_P3_a_row_is_live_at_44_s_and_stale_at_46_s(seconds: float, stale: bool) -> None:
    """Its gateway is heard all the time, the row itself no more."""
    seen = Watched()
    await seen.renewing(seconds=int(seconds), rows=False)
    assert seen.stale is stale


@pytest.mark.parametrize(("seconds", "stale"), [(44, False), (46, True)])
async def test_P3_the_rows_of_a_silent_gateway_are_stale_with_it(seconds: float, stale: bool) -> None:
    """A dead gateway is one fact: its rows are stale 45 s after it was last heard, however slow their own touch is."""
    seen = Watched(touch=500)
    await seen.clock.advance(seconds)
    assert seen.stale is stale


async def test_P3_one_missed_beat_never_flaps() -> None:
    """With a 15 s beat, a row that misses one is alive all along."""
    seen = Watched()
    for second in range(1, 121):
        await seen.clock.advance(1)
        if second % 5 == 0:
            seen.renew_lease()
        if second % 30 == 0:
            seen.renew_row()
        assert not seen.stale


@pytest.mark.parametrize(
    ("touch", "limit"),
    [
        pytest.param(0, 45, id="none published"),
        pytest.param(15, 45, id="3 x 15 s is no more than staleAfter"),
        pytest.param(20, 60, id="3 x 20 s"),
        pytest.param(500, 1500, id="10,000 sockets: 3 x 500 s"),
    ],
)
async def test_P3_a_row_has_three_of_its_gateways_touch_periods(touch: float, limit: int) -> None:
    """The limit of a row is max(staleAfter, 3 x the touch period on its gateway's Lease)."""
    seen = Watched(touch)
    await seen.renewing(seconds=limit - 1, rows=False)
    assert not seen.stale
    await seen.renewing(seconds=1, rows=False)
    assert seen.stale


async def test_P3_a_moving_row_is_a_sign_of_its_gateway() -> None:
    """A gateway whose Lease can't be written is alive while any row of it moves, for all its rows."""
    seen = Watched(touch=500)
    sibling = seen.last_row
    for _ in range(10):
        await seen.clock.advance(20)
        seen.presence.row_seen(row("t", renewed=seen._next()))
    assert seen.presence.stale_in(sibling, Times()) > 0


async def test_P3_the_same_view_again_is_no_sign_of_life() -> None:
    """A relist shows what is known: that the row did not move."""
    seen = Watched()
    await seen.renewing(seconds=44, rows=False)
    seen.presence.row_seen(seen.last_row)
    await seen.renewing(seconds=2, rows=False)
    assert seen.stale


async def test_P3_wall_time_on_the_row_is_not_subtracted() -> None:
    """A gateway whose clock is a year off is as alive as its rows move."""
    seen = Watched()
    await seen.clock.advance(44)
    seen.last_row = row(renewed="1999-01-01T00:00:00.000000Z")
    seen.presence.row_seen(seen.last_row)
    seen.renew_lease()
    await seen.clock.advance(2)
    assert not seen.stale


# --- blind time ---


async def test_I7_blind_until_first_contact() -> None:
    """A start is blind until every reader has seen everything and a gateway is heard."""
    presence = Presence(FakeClock(T0), 45)
    presence.contact_lost("rows")
    assert presence.contact("rows") is False
    assert presence.blind()
    assert presence.contact("start") is True
    assert presence.blind(), "no gateway was heard yet"
    presence.lease_seen(lease())
    assert not presence.blind()


async def test_I7_lost_contact_is_blind_and_its_end_starts_every_observation_anew() -> None:
    """After an outage of 100 s a row has its full time again."""
    seen = Watched()
    seen.presence.contact_lost("subscriptions")
    assert seen.presence.blind()
    await seen.clock.advance(100)
    assert seen.presence.contact("subscriptions") is True
    seen.renew_lease()
    assert seen.presence.sighted_since() == at(100)
    await seen.renewing(seconds=44, rows=False)
    assert not seen.stale
    await seen.renewing(seconds=2, rows=False)
    assert seen.stale


async def test_I7_contact_counts_when_every_reader_has_it() -> None:
    """Two readers lost it: one of them back is not enough."""
    seen = Watched()
    seen.presence.contact_lost("subscriptions")
    seen.presence.contact_lost("leases")
    assert seen.presence.contact("leases") is False
    assert seen.presence.blind()
    assert seen.presence.contact("subscriptions") is True


@pytest.mark.parametrize(("seconds", "blind"), [(44, False), (45, True), (46, True)])
async def test_I7_no_fresh_gateway_is_blind_before_a_row_is_stale(seconds: float, blind: bool) -> None:
    """When the only gateway falls silent we are blind, at the same moment at which its rows would be stale."""
    seen = Watched()
    await seen.clock.advance(seconds)
    assert seen.presence.blind() is blind
    assert seen.presence.blind() or not seen.stale


async def test_I7_the_first_gateway_heard_again_starts_everything_anew() -> None:
    """All gateways were gone for 200 s; the one that comes ends the blind time."""
    seen = Watched()
    await seen.clock.advance(200)
    assert seen.renew_lease(OTHER) is True
    assert not seen.presence.blind()
    assert seen.presence.sighted_since() == at(200)
    assert not seen.stale


async def test_P7_with_another_gateway_up_nobody_is_blind() -> None:
    """One of two gateways dies: its row is stale at 46 s, and we are not blind."""
    seen = Watched()
    for _ in range(46):
        await seen.clock.advance(1)
        seen.renew_lease(OTHER)
    assert not seen.presence.blind()
    assert seen.stale


def test_P7_a_released_lease_is_known_and_no_sign_of_life() -> None:
    """A Lease without a holder says that its gateway ends on purpose."""
    seen = Watched()
    assert not seen.presence.released(GATEWAY)
    seen.presence.lease_seen(lease(renewed="last", released=True))
    assert seen.presence.released(GATEWAY)
    assert not seen.presence.released(None)


# --- sessions without a row ---


async def test_a_session_without_a_row_is_missing_since_it_was_first_noticed() -> None:
    """Noted again it keeps its time; a Live row ends it; a deleted row begins it."""
    seen = Watched()
    seen.presence.note_missing(AGENT, "s")
    await seen.clock.advance(10)
    seen.presence.note_missing(AGENT, "s")
    assert seen.presence.missing(AGENT) == {"s": at(0)}
    seen.renew_row()
    assert seen.presence.missing(AGENT) == {}
    seen.presence.row_gone(seen.last_row)
    assert seen.presence.missing(AGENT) == {"s": at(10)}


def test_a_dead_row_does_not_end_a_miss() -> None:
    """Only a Live row brings a session back."""
    seen = Watched()
    seen.presence.note_missing(AGENT, "s")
    seen.presence.row_seen(row(phase=SubscriptionPhase.EXPIRED, lost=0))
    assert "s" in seen.presence.missing(AGENT)


def test_what_no_work_needs_is_forgotten() -> None:
    """Memory stays bounded by the work there is."""
    seen = Watched()
    for session in ("s", "t"):
        seen.presence.note_missing(AGENT, session)
    seen.presence.forget_missing(AGENT, keep={"t"})
    assert set(seen.presence.missing(AGENT)) == {"t"}


async def test_I7_an_agent_of_short_times_is_blind_as_soon_as_its_rows_would_be_stale() -> None:
    """The only gateway died: an agent with staleAfter 10 is blind from then on, not only after the default 45."""
    seen = Watched()
    await seen.clock.advance(11)
    assert (seen.presence.blind(10), seen.presence.blind(45)) == (True, False)
    seen.renew_lease()
    assert not seen.presence.blind(10)
    assert (seen.presence.sighted_since(10), seen.presence.sighted_since(45)) == (at(11), at(0))


async def test_I7_a_lease_that_was_there_before_is_no_sign_of_life() -> None:
    """What the first list shows may be the Lease of a gateway long dead: only what moves afterwards ends blindness."""
    presence = Presence(FakeClock(T0), 45)
    presence.lease_seen(lease(renewed="before"))
    presence.contact("start")
    assert presence.blind()
    assert presence.lease_seen(lease(renewed="after"))
    assert not presence.blind()


@pytest.mark.parametrize(
    ("away", "anew"),
    [pytest.param(1, False, id="hiccup"), pytest.param(6, True, id="outage")],
)
async def test_I7_only_a_real_outage_begins_every_grace_anew(away: float, anew: bool) -> None:
    """A watch that breaks and goes on at once has missed nothing."""
    seen = Watched()
    await seen.renewing(10)
    seen.presence.contact_lost("rows")
    assert seen.presence.blind()
    await seen.clock.advance(away)
    seen.presence.contact("rows")
    assert (seen.presence.sighted_since() == seen.clock.now()) is anew


@pytest.mark.parametrize("written", [-31, 0, 3600], ids=["gateway's clock is slow", "right", "gateway's clock is fast"])
async def test_I7_a_drop_counts_from_when_we_saw_it(written: float) -> None:
    """disconnectedTime is another machine's word: the grace runs from when the row was seen not to be Live."""
    seen = Watched()
    await seen.renewing(10)
    dropped = row(phase=SubscriptionPhase.DISCONNECTED, lost=10 + written)
    seen.presence.row_seen(dropped)
    await seen.clock.advance(5)
    seen.presence.row_seen(dropped)
    assert seen.presence.dead_since(dropped) == at(10)


async def test_a_row_that_was_dead_before_we_looked_counts_from_what_is_written() -> None:
    """But never from a time to come."""
    presence = Presence(FakeClock(at(100)), 45)
    early, ahead = (row(s, SubscriptionPhase.DISCONNECTED, lost=lost) for s, lost in (("s", 40), ("t", 500)))
    for one in (early, ahead):
        presence.row_seen(one)
    assert (presence.dead_since(early), presence.dead_since(ahead)) == (at(40), at(100))
