"""What decisions are made on: an agent as it is seen at one moment, and the changes that may come of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from belay_api.agent import OnAgentLost, Runtime
from belay_api.names import Ref
from belay_api.reasons import Reason
from belay_api.timing import Times
from belay_api.transitions import Phase

PROVIDERS = frozenset({"anthropic", "echo"})
"""Of models: the names that Belay knows (drain/llm/providers.py)."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class SessionView:
    """One session: live, or lost at some time; `left` when it said goodbye, `closed` when either side closed it."""

    live: bool
    lost_at: datetime | None = None
    left: bool = False
    closed: bool = False


@dataclass(frozen=True)
class AgentView:
    """An agent and its sessions at one moment."""

    ref: Ref
    exists: bool
    times: Times
    runtime: Runtime = Runtime.CHANNEL
    provider: str | None = None
    """Of its model, for runtime Model."""
    max_active: int = 1
    suspended: bool = False
    on_agent_lost: OnAgentLost = OnAgentLost.CANCEL
    sessions: Mapping[str, SessionView] = field(default_factory=dict)
    offline_since: datetime | None = None
    """When its last live session went; None while any is live."""
    blind: bool = False
    sighted_since: datetime = _LONG_AGO
    """End of the last blind time: every grace runs from here at the earliest."""
    brake_ends: datetime = _LONG_AGO
    """End of the last brake, or at the latest of this one: the same for sessions that nobody closed."""

    @property
    def is_model(self) -> bool:
        """Whether Belay drives it itself: no session of it attaches, and none can be lost (G7)."""
        return self.runtime is Runtime.MODEL

    @property
    def routable(self) -> bool:
        """Whether any session is live (P2), or Belay can drive it."""
        if self.is_model:
            return self.provider in PROVIDERS
        return any(s.live for s in self.sessions.values())

    @property
    def live_sessions(self) -> int:
        """Sessions that are live."""
        return sum(s.live for s in self.sessions.values())

    def session_gone_at(self, session: str) -> datetime | None:
        """When the session counts as gone: never while it is live, at once after a goodbye (C7), else after a grace."""
        seen = self.sessions.get(session, SessionView(live=False, lost_at=self.sighted_since))
        if seen.live:
            return None
        if seen.left:
            return seen.lost_at
        return self._after_grace(seen.lost_at or self.sighted_since, closed=seen.closed)

    def agent_gone_at(self) -> datetime | None:
        """When the agent counts as gone: never while a session is live, else a grace after the last one went (G6)."""
        if self.routable:
            return None
        closed = bool(self.sessions) and all(s.closed for s in self.sessions.values())
        return self._after_grace(self.offline_since or self.sighted_since, closed=closed)

    def _after_grace(self, lost_at: datetime, *, closed: bool) -> datetime:
        brake_ends = _LONG_AGO if closed else self.brake_ends
        return max(lost_at, self.sighted_since, brake_ends) + timedelta(seconds=self.times.grace)


@dataclass(frozen=True)
class Change:
    """One new status of a delegation: the phase and what goes with it (wire form; None removes a field)."""

    target: Phase
    reason: Reason
    message: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    live_read: bool = False
    """Whether it can't be undone and rests on things it doesn't write: decide again on a live read (DESIGN.md 3)."""
