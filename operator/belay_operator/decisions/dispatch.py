"""Which waiting delegations are offered now, and what the others are told they wait for (DESIGN.md section 5, D4)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from belay_api.agent import Runtime
from belay_api.reasons import Reason
from belay_api.times import to_wire, to_wire_seconds
from belay_api.transitions import Phase
from belay_operator.decisions.view import AgentView, Change
from belay_operator.observe.records import Work


def plan(waiting: Sequence[Work], active: int, agent: AgentView, now: datetime) -> list[tuple[Work, Change]]:
    """Changes for the agent's Pending and Queued delegations, of which `active` others hold slots.

    Order: priority, then since when it waits, then name. What waits already for the same reason is not written again.
    """
    free = max(0, agent.max_active - active)
    changes: list[tuple[Work, Change]] = []
    for work in sorted(waiting, key=_place):
        if backs_off_until(work, now):
            continue
        hindrance = _hindrance(work, agent, free)
        if hindrance is None:
            free -= 1
            changes.append((work, _dispatched(work, agent, now)))
        elif not (work.has_status and work.reason == hindrance[0]):
            changes.append((work, _waits(work, agent, hindrance, now)))
    return changes


def backs_off_until(work: Work, now: datetime) -> datetime | None:
    """Until when work that nobody accepted is not offered again (retry.backoffSeconds); None: it may be now."""
    if work.reason != Reason.NOT_ACCEPTED or work.queued is None:
        return None
    until = work.queued + timedelta(seconds=work.backoff)
    return until if now < until else None


def _place(work: Work) -> tuple[int, datetime, str]:
    return -work.priority, work.queued or work.created, work.ref.name


def _hindrance(work: Work, agent: AgentView, free: int) -> tuple[Reason, str] | None:
    """Why `work` can't be offered now; None: it can."""
    name = agent.ref.name
    if not agent.exists:
        return Reason.AGENT_NOT_FOUND, f"agent {name} does not exist in namespace {agent.ref.namespace}: create it"
    if agent.runtime is Runtime.MODEL:
        return Reason.MODEL_RUNTIME_UNAVAILABLE, f"agent {name} has runtime Model, which this release can't drive yet"
    if agent.suspended:
        return Reason.AGENT_SUSPENDED, f"agent {name} is suspended: it takes nothing new"
    if not agent.routable:
        return Reason.AGENT_OFFLINE, f"no session of agent {name} is attached"
    if work.addressed and not _is_live(work.addressed, agent):
        return Reason.SESSION_OFFLINE, f"session {work.addressed} of agent {name} is not attached"
    if free <= 0:
        return Reason.AGENT_BUSY, f"agent {name} has its {agent.max_active} slots in use"
    return None


def _is_live(session: str, agent: AgentView) -> bool:
    seen = agent.sessions.get(session)
    return seen is not None and seen.live


def _dispatched(work: Work, agent: AgentView, now: datetime) -> Change:
    message = f"offered to {'session ' + work.addressed if work.addressed else 'the sessions'} of {agent.ref.name}"
    fields = {**_admitted(work, agent), "dispatchedTime": to_wire(now), "queuePosition": None}
    return Change(Phase.DISPATCHED, Reason.DISPATCHED, message, fields)


def _waits(work: Work, agent: AgentView, hindrance: tuple[Reason, str], now: datetime) -> Change:
    reason, message = hindrance
    if not agent.exists and work.phase is Phase.PENDING:
        return Change(Phase.PENDING, reason, message)
    return Change(Phase.QUEUED, reason, message, {**_admitted(work, agent), **_since(work, now)})


def _admitted(work: Work, agent: AgentView) -> dict[str, object]:
    """What is settled when a delegation is first taken up: its deadline and the number of its attempt."""
    deadline = work.deadline(agent.times)
    shown = to_wire(deadline) if deadline.microsecond else to_wire_seconds(deadline)
    return {"deadline": shown, "attempt": max(1, work.attempt)}


def _since(work: Work, now: datetime) -> dict[str, object]:
    return {} if work.queued else {"queuedTime": to_wire(now)}
