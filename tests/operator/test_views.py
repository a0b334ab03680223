"""observe/views.py: how rows, presence and time become the view that decisions are made on (P6, G6, G11, I7)."""

import pytest

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.names import Ref
from belay_api.reasons import SubscriptionReason
from belay_api.times import to_wire
from belay_api.timing import Times
from belay_kube.clock import FakeClock
from belay_operator.observe.index import Index
from belay_operator.observe.presence import Presence
from belay_operator.observe.presence_records import Row
from belay_operator.observe.records import AgentRecord
from belay_operator.observe.views import Gatherer

from .builders import GATEWAY, NAMESPACE, T0, Json, at, lease, row

AGENT = Ref(NAMESPACE, "a")
DISCONNECTED = SubscriptionPhase.DISCONNECTED


class Given:
    """One agent, seen by an operator that is in contact."""

    def __init__(self, status: Json | None = None) -> None:
        self.clock = FakeClock(T0)
        self.presence = Presence(self.clock, 45)
        self.presence.contact("start")
        self.index = Index(Times())
        self.gatherer = Gatherer(self.index, self.presence, self.clock)
        meta = {"namespace": NAMESPACE, "name": "a", "uid": "u", "resourceVersion": "1"}
        self.index.put_agent(AgentRecord.read({"metadata": meta, "spec": {}, "status": status or {}}))
        self._version = 0

    def lease_beat(self, identity: str = GATEWAY, *, released: bool = False) -> None:
        """A gateway is heard."""
        self.presence.lease_seen(lease(identity, renewed=str(self.clock.monotonic()), released=released))

    def rows(self, *rows: Row) -> None:
        """Rows as they are now."""
        for seen in rows:
            self._version += 1
            seen.version = str(self._version)
            self.presence.row_seen(seen)
            self.index.put_row(seen)

    async def silence(self, seconds: int) -> None:
        """Another gateway is heard all the time, this one no more."""
        for _ in range(seconds):
            await self.clock.advance(1)
            self.lease_beat("gateway-2")


async def test_P6_a_stale_row_is_not_counted_before_it_is_marked() -> None:
    """A Live row that nobody renews doesn't make its agent routable."""
    given = Given()
    given.lease_beat()
    given.rows(row("s"))
    await given.silence(44)
    assert given.gatherer.view(AGENT).routable
    await given.silence(2)
    assert not given.gatherer.view(AGENT).routable


async def test_a_stale_row_is_lost_since_it_turned_stale_whatever_an_earlier_loss_left_in_it() -> None:
    """The grace runs from the moment of staleness, not from an old disconnectedTime, and not from each look anew."""
    given = Given()
    given.lease_beat()
    given.rows(row("s", lost=-500))
    await given.silence(50)
    view = given.gatherer.view(AGENT)
    assert view.sessions["s"].lost_at == at(45)
    assert view.agent_gone_at() == at(75)


async def test_I7_in_blind_time_a_stale_row_counts_as_live() -> None:
    """We can't know."""
    given = Given()
    given.lease_beat()
    given.rows(row("s"))
    await given.clock.advance(46)
    assert given.gatherer.view(AGENT).blind
    assert given.gatherer.view(AGENT).routable


def test_P7_rows_of_a_gateway_that_ended_on_purpose_are_not_live() -> None:
    """A released Lease ends its rows before they are marked."""
    given = Given()
    given.rows(row("s"))
    given.lease_beat(released=True)
    assert not given.gatherer.view(AGENT).routable


async def test_G6_a_session_that_came_and_went_between_two_looks_counts() -> None:
    """The agent is offline since the newest drop, also when its session was never seen live in between."""
    given = Given()
    given.rows(row("s", DISCONNECTED, lost=0))
    assert given.gatherer.view(AGENT).offline_since == at(0)
    await given.clock.advance(12)
    given.rows(row("t", DISCONNECTED, lost=12))
    assert given.gatherer.view(AGENT).offline_since == at(12)


async def test_removing_a_dead_row_does_not_move_the_time_of_the_drop() -> None:
    """The grace of an agent isn't prolonged by its rows being tidied up."""
    given = Given()
    dead = row("s", DISCONNECTED, lost=0)
    await given.clock.advance(20)
    given.rows(dead, row("t", DISCONNECTED, lost=20))
    given.gatherer.view(AGENT)
    await given.clock.advance(10)
    given.index.drop_row(dead.ref)
    given.presence.row_gone(dead)
    assert given.gatherer.view(AGENT).offline_since == at(20)


@pytest.mark.parametrize(
    ("written", "dropped", "since"),
    [
        pytest.param(-20, -20, -20, id="as its status says"),
        pytest.param(-500, -20, -20, id="a newer drop than its status knows"),
        pytest.param(-20, None, -20, id="no row left"),
        pytest.param(None, None, 0, id="nothing known: from now"),
    ],
)
def test_G9_after_a_restart_offline_since_is_what_was_written(
    written: float | None, dropped: float | None, since: float
) -> None:
    """The newest of offlineSince and the drops of its rows."""
    given = Given({"offlineSince": to_wire(at(written))} if written is not None else None)
    if dropped is not None:
        given.rows(row("s", DISCONNECTED, lost=dropped))
    assert given.gatherer.view(AGENT).offline_since == at(since)


def test_C7_a_goodbye_is_known_by_its_reason() -> None:
    """A session that said goodbye has left."""
    given = Given()
    given.rows(row("s", DISCONNECTED, lost=0, reason=SubscriptionReason.GOODBYE))
    given.rows(row("t", DISCONNECTED, lost=0, reason=SubscriptionReason.CLOSED))
    sessions = given.gatherer.view(AGENT).sessions
    assert (sessions["s"].left, sessions["t"].left) == (True, False)


async def test_an_agent_that_is_not_there_has_a_view_too() -> None:
    """Missing, offline since it was first asked about."""
    given = Given()
    other = Ref(NAMESPACE, "other")
    given.gatherer.view(other)
    await given.clock.advance(10)
    view = given.gatherer.view(other)
    assert (view.exists, view.routable, view.offline_since) == (False, False, at(0))


async def test_S10_a_restart_does_not_move_offline_since() -> None:
    """Work is addressed to a session whose row is gone, which is noted again at a start: the written time is right."""
    given = Given({"offlineSince": to_wire(at(-500))})
    given.presence.note_missing(AGENT, "gone")
    given.lease_beat()
    assert given.gatherer.view(AGENT).offline_since == at(-500)


async def test_G6_a_session_that_went_missing_since_the_start_counts() -> None:
    """That is a later drop than the one that was written."""
    given = Given({"offlineSince": to_wire(at(-500))})
    given.lease_beat()
    await given.clock.advance(3)
    given.presence.note_missing(AGENT, "gone")
    assert given.gatherer.view(AGENT).offline_since == at(3)


async def test_I7_a_model_agent_is_seen_without_any_gateway() -> None:
    """Nobody attaches to it: that no gateway is heard hides nothing of it, that a watch isn't does."""
    given = Given()
    assert given.gatherer.view(AGENT).blind
    meta = {"namespace": NAMESPACE, "name": "a", "uid": "u", "resourceVersion": "2"}
    spec = {"runtime": "Model", "model": {"provider": "echo", "name": "e"}}
    given.index.put_agent(AgentRecord.read({"metadata": meta, "spec": spec, "status": {}}))
    assert not given.gatherer.view(AGENT).blind
    given.presence.contact_lost("delegations")
    assert given.gatherer.view(AGENT).blind


async def test_I7_a_deleted_agent_without_rows_is_seen_without_any_gateway() -> None:
    """Work that it held is ended though nobody ever attached; where rows are left, gateways count."""
    given = Given()
    given.index.drop_agent(AGENT, "2")
    assert not given.gatherer.view(AGENT).blind
    given.rows(row("s"))
    assert given.gatherer.view(AGENT).blind
