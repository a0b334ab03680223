"""Gathers what is known of one agent into the view that decisions are made on."""

from dataclasses import replace
from datetime import datetime, timedelta

from belay_api.agent import Runtime
from belay_api.agentsubscription import SubscriptionPhase
from belay_api.names import Ref
from belay_api.reasons import SubscriptionReason
from belay_api.times import from_wire
from belay_api.transitions import LIVE
from belay_kube.clock import Clock
from belay_operator.decisions.brake import without_a_word
from belay_operator.decisions.rows import RowFacts
from belay_operator.decisions.view import AgentView, SessionView
from belay_operator.observe.index import Index
from belay_operator.observe.presence import Presence
from belay_operator.observe.presence_records import Row
from belay_operator.observe.records import AgentRecord

_WAS_LIVE = frozenset({SubscriptionPhase.DISCONNECTED, SubscriptionPhase.EXPIRED})
_KEEP_SECONDS = 0.05
"""How long a view serves when nothing of its agent was seen to change: a burst asks for it thousands of times."""


class Gatherer:
    """Reads index, presence and clock; remembers since when each agent is offline."""

    def __init__(self, index: Index, presence: Presence, clock: Clock) -> None:
        self._index = index
        self._presence = presence
        self._clock = clock
        self._offline_since: dict[Ref, datetime] = {}
        self._views: dict[Ref, tuple[float, tuple[int, int], AgentView]] = {}

    def view(self, agent: Ref) -> AgentView:
        """The agent as it is seen now."""
        now, seen = self._clock.monotonic(), (self._index.changes, self._presence.changes)
        kept = self._views.get(agent)
        if kept and kept[1] == seen and now - kept[0] < _KEEP_SECONDS:
            return kept[2]
        view = self._gather(agent)
        self._views[agent] = (now, seen, view)
        return view

    def _gather(self, agent: Ref) -> AgentView:
        record = self._index.agents.get(agent)
        times = self._index.times_of(agent)
        attaches = record is None or record.runtime is not Runtime.MODEL
        sessions = self._sessions(agent) if attaches else {}
        offline = self._offline(agent, sessions) if attaches else None
        view = AgentView(
            ref=agent,
            exists=record is not None,
            times=times,
            sessions=sessions,
            offline_since=offline,
            blind=self._blind(agent, record, times.stale_after),
            sighted_since=self._presence.sighted_since(times.stale_after),
            brake_ends=self._presence.fleet.graces_from,
        )
        if record is None:
            return view
        return replace(
            view,
            runtime=record.runtime,
            provider=record.provider,
            max_active=record.max_active,
            suspended=record.suspended,
            on_agent_lost=record.on_agent_lost,
        )

    def _blind(self, agent: Ref, record: AgentRecord | None, stale_after: float) -> bool:
        """Whether nothing of an agent may be taken for gone. What has no sessions isn't seen through any gateway: a
        Model agent, and one that was deleted and of which no row is left."""
        attaches = record.runtime is not Runtime.MODEL if record else bool(self._index.rows_of(agent))
        return self._presence.blind(stale_after) if attaches else not self._presence.in_contact()

    def row_facts(self, agent: Ref) -> list[RowFacts]:
        """Each row of an agent with what is known around it."""
        times, wanted = self._index.times_of(agent), self._wanted(agent)
        return [
            RowFacts(
                row=row,
                stale_in=self._presence.stale_in(row, times),
                released=self._presence.released(row.holder),
                holds_work=row.session in wanted,
            )
            for row in self._index.rows_of(agent)
        ]

    def notice_stale(self) -> bool:
        """Count every row that is stale, marked or not; True when that set or released the brake."""
        for ref in self._index.row_refs():
            row = self._index.row(ref)
            if row and self._presence.stale_in(row, self._index.times_of(row.agent)) <= 0:
                self._presence.fleet.stale(ref)
        return self._presence.fleet.judge()

    def tidy(self, agent: Ref) -> None:
        """Forget what nothing needs any more."""
        if self._presence.missing(agent):
            self._presence.forget_missing(agent, self._wanted(agent))
        if self._index.prune(agent):
            self._offline_since.pop(agent, None)
            self._views.pop(agent, None)

    def _wanted(self, agent: Ref) -> set[str]:
        """Sessions that hold or are addressed by unfinished work."""
        return {w.session for w in self._index.work_of(agent, LIVE) if w.session}

    def _sessions(self, agent: Ref) -> dict[str, SessionView]:
        missing = {s: SessionView(live=False, lost_at=at) for s, at in self._presence.missing(agent).items()}
        return missing | {row.session: self._session(row) for row in self._index.rows_of(agent)}

    def _session(self, row: Row) -> SessionView:
        now = self._clock.now()
        if row.phase is SubscriptionPhase.LIVE:
            times = self._index.times_of(row.agent)
            stale_in = self._presence.stale_in(row, times)
            if stale_in > 0 or self._presence.blind(times.stale_after):
                return SessionView(live=not self._presence.released(row.holder), lost_at=now)
            # Not yet marked: lost when it turned stale. A disconnectedTime in it is that of an earlier loss.
            return SessionView(live=False, lost_at=now + timedelta(seconds=stale_in))
        left = row.reason == SubscriptionReason.GOODBYE
        closed = not without_a_word(row.phase, row.reason)
        return SessionView(live=False, lost_at=self._presence.dead_since(row), left=left, closed=closed)

    def _offline(self, agent: Ref, sessions: dict[str, SessionView]) -> datetime | None:
        """Since when no session is live: as its status says, else when the last session was lost, else now."""
        if any(s.live for s in sessions.values()):
            self._offline_since.pop(agent, None)
            return None
        since = self._offline_since.get(agent) or self._first_noticed(agent, sessions)
        # A session that came and went between two looks counts as well: each drop has its own grace (G6).
        rows = self._index.rows_of(agent)
        drops = [self._presence.dead_since(row) for row in rows if row.phase in _WAS_LIVE]
        self._offline_since[agent] = max([since, *drops])
        return self._offline_since[agent]

    def _first_noticed(self, agent: Ref, sessions: dict[str, SessionView]) -> datetime:
        record = self._index.agents.get(agent)
        written = from_wire(record.status.get("offlineSince")) if record else None
        sighted = self._presence.sighted_since(self._index.times_of(agent).stale_after)
        # What was noted at a restart happened before; if it was written when, that is known better.
        lost = [s.lost_at for s in sessions.values() if s.lost_at and not (written and s.lost_at <= sighted)]
        return max([*lost, *([written] if written else [])], default=self._clock.now())
