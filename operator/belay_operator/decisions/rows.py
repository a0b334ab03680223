"""What should become of a session's row: kept, marked Expired or Disconnected, or removed (DESIGN.md section 5)."""

from dataclasses import dataclass
from datetime import datetime

from belay_api.agent import Runtime
from belay_api.agentsubscription import SubscriptionPhase
from belay_api.reasons import SubscriptionReason
from belay_operator.decisions.view import AgentView
from belay_operator.observe.presence_records import Row


@dataclass(frozen=True)
class Mark:
    """Write this phase and reason."""

    phase: SubscriptionPhase
    reason: SubscriptionReason


class Remove:
    """Delete the row."""


@dataclass(frozen=True)
class Keep:
    """Leave it; look again after so many seconds (None: when something changes)."""

    seconds: float | None = None


@dataclass(frozen=True)
class RowFacts:
    """A row with what is known around it."""

    row: Row
    stale_in: float
    """Seconds until its lease is stale, by our own watching; zero or less: it is."""
    released: bool
    """Whether its gateway said that it ends."""
    holds_work: bool
    """Whether an unfinished delegation is held by or addressed to its session."""


def fate(facts: RowFacts, agent: AgentView, now: datetime) -> Mark | Remove | Keep:
    """What should become of the row now (P3, P6, P7, G7)."""
    if agent.blind:
        return Keep()
    row = facts.row
    if row.phase is SubscriptionPhase.LIVE:
        return _live(facts)
    if row.phase is None:
        return _unborn(facts)
    if not agent.exists or agent.runtime is Runtime.MODEL:
        return Remove()
    return _dead(facts, agent, now)


def _live(facts: RowFacts) -> Mark | Keep:
    if facts.released:
        return Mark(SubscriptionPhase.DISCONNECTED, SubscriptionReason.GATEWAY_SHUTDOWN)
    if facts.stale_in <= 0:
        return Mark(SubscriptionPhase.EXPIRED, SubscriptionReason.STALE)
    return Keep(facts.stale_in)


def _unborn(facts: RowFacts) -> Remove | Keep:
    """Its gateway is about to make it Live, or died between the two writes: aged as a lease that is never renewed."""
    return Remove() if facts.stale_in <= 0 else Keep(facts.stale_in)


def _dead(facts: RowFacts, agent: AgentView, now: datetime) -> Remove | Keep:
    """A dead row goes once its session is gone and what it held is dealt with."""
    gone = agent.session_gone_at(facts.row.session) or now
    if now < gone:
        return Keep((gone - now).total_seconds())
    return Keep() if facts.holds_work else Remove()
