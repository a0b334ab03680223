"""Which waiting delegations are offered now, and what the others are told they wait for (DESIGN.md section 5, D4)."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime

from belay_api import reasons
from belay_api.names import opened_session_name
from belay_api.queueing import QueueKey, queue_key
from belay_api.reasons import Reason
from belay_api.session_words import provider_unknown
from belay_api.times import to_wire, to_wire_seconds
from belay_api.transitions import Phase
from belay_operator.decisions.retry import backs_off_until
from belay_operator.decisions.view import PROVIDERS, AgentView, Change
from belay_operator.observe.records import Work

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,63}}\Z){_LABEL}(\.{_LABEL})*")
"""Of an AgentSession: its turns are named after it."""
SHOWN_PLACES = 10
"""Of so many from the head of the queue the place is shown (DESIGN.md section 5)."""


def plan(
    queue: Sequence[Work], active: int, agent: AgentView, now: datetime, unfit: Collection[str] = ()
) -> list[tuple[Work, Change]]:
    """Changes for the agent's Pending and Queued delegations, while others hold `active` of its slots.

    `queue`: these, `in_order`. What waits already for the same reason is not written again.
    `unfit`: sessions that have work they don't answer for, to which nothing is offered.
    """
    free = max(0, agent.max_active - active)
    place = 0
    changes: list[tuple[Work, Change]] = []
    for work in queue:
        if refusal := _refused(work, agent):
            changes.append((work, refusal))
            continue
        backs_off = backs_off_until(work, now) is not None
        hindrance = None if backs_off else _hindrance(work, agent, free, unfit)
        if not backs_off and hindrance is None:
            free -= 1
            changes.append((work, _dispatched(work, agent, now)))
            continue
        place += 1
        if hindrance and not (work.has_status and work.reason == hindrance[0]):
            changes.append((work, _waits(work, agent, hindrance, shown(place), now)))
    return changes


def in_order(waiting: Sequence[Work], now: datetime) -> list[Work]:
    """The queue, its head first (D4). What comes now is behind what waits: creation is told in whole seconds only."""
    return sorted(waiting, key=lambda work: _place(work, now))


def _place(work: Work, now: datetime) -> QueueKey:
    return queue_key(priority=work.priority, queued=work.queued, created=work.created, name=work.ref.name, now=now)


def shown(place: int) -> int | None:
    """What queuePosition says of a place."""
    return place if place <= SHOWN_PLACES else None


def misplaced(queue: Sequence[Work]) -> list[tuple[Work, int | None]]:
    """Queued delegations whose queuePosition isn't their place, with the one that is; `queue`: who waits, in order."""
    queued = (work for work in queue if work.phase is Phase.QUEUED)
    places = ((work, shown(place)) for place, work in enumerate(queued, start=1))
    return [(work, place) for work, place in places if work.position != place]


def may_lag(work: Work, change: Change) -> bool:
    """Whether a change only gives another reason to one that has no place to be shown: only the head is precise."""
    if not (work.phase is change.target is Phase.QUEUED):
        return False
    return change.fields.get("queuePosition") is None


def session_name(work: Work) -> str:
    """The AgentSession in which a Model agent works on `work`: the one that it names, else one of its own."""
    return work.addressed or opened_session_name(work.agent.name, work.uid)


def _refused(work: Work, agent: AgentView) -> Change | None:
    """It names a session that no AgentSession can be, so it would wait for ever."""
    if not (agent.exists and agent.is_model and work.addressed) or is_nameable(work.addressed):
        return None
    # Rests on the agent's runtime, which may have been changed since it was seen.
    return unnameable(work, live_read=True)


def unnameable(work: Work, *, live_read: bool = False) -> Change:
    """Failed, as what it names in spec.sessionId can't be the name of an object."""
    message = reasons.session_unnameable(work.addressed or "")
    return Change(Phase.FAILED, Reason.SESSION_MISMATCH, message, live_read=live_read)


def is_nameable(session: str) -> bool:
    """Whether an AgentSession can have this name."""
    return _NAME.fullmatch(session) is not None


def _hindrance(work: Work, agent: AgentView, free: int, unfit: Collection[str]) -> tuple[Reason, str] | None:
    """Why `work` can't be offered now; None: it can."""
    name = agent.ref.name
    if not agent.exists:
        return Reason.AGENT_NOT_FOUND, reasons.agent_missing(name, agent.ref.namespace)
    if agent.suspended:
        return Reason.AGENT_SUSPENDED, reasons.agent_suspended(name)
    if unreached := _undriven(agent) if agent.is_model else _unattached(work, agent, unfit):
        return unreached
    if free <= 0:
        return Reason.AGENT_BUSY, reasons.agent_busy(name, agent.max_active)
    return None


def _undriven(agent: AgentView) -> tuple[Reason, str] | None:
    """Why Belay can't drive a Model agent. It needs no session to be attached."""
    if agent.routable:
        return None
    return Reason.PROVIDER_UNKNOWN, provider_unknown(agent.provider or "", PROVIDERS)


def _unattached(work: Work, agent: AgentView, unfit: Collection[str]) -> tuple[Reason, str] | None:
    """Why no session of a Channel agent could take it."""
    name, session = agent.ref.name, work.addressed
    if not agent.routable:
        return Reason.AGENT_OFFLINE, reasons.agent_offline(name)
    if session and not _is_live(session, agent):
        return Reason.SESSION_OFFLINE, reasons.session_offline(name, session)
    if not any(_is_live(asked, agent) and asked not in unfit for asked in _askable(work, agent)):
        return Reason.AGENT_UNRESPONSIVE, reasons.agent_unresponsive(name, session)
    return None


def _is_live(session: str, agent: AgentView) -> bool:
    seen = agent.sessions.get(session)
    return seen is not None and seen.live


def _askable(work: Work, agent: AgentView) -> Collection[str]:
    return (work.addressed,) if work.addressed else agent.sessions


def _dispatched(work: Work, agent: AgentView, now: datetime) -> Change:
    message = reasons.offered(agent.ref.name, work.addressed)
    fields = {**_admitted(work, agent), "dispatchedTime": to_wire(now), "queuePosition": None}
    if agent.is_model:
        fields["sessionId"] = session_name(work)
        message = reasons.model_takes(session_name(work))
    return Change(Phase.DISPATCHED, Reason.DISPATCHED, message, fields)


def _waits(work: Work, agent: AgentView, hindrance: tuple[Reason, str], place: int | None, now: datetime) -> Change:
    reason, message = hindrance
    if not agent.exists and work.phase is Phase.PENDING:
        return Change(Phase.PENDING, reason, message, _since(work, now))
    fields = {**_admitted(work, agent), **_since(work, now), "queuePosition": place}
    return Change(Phase.QUEUED, reason, message, fields)


def _admitted(work: Work, agent: AgentView) -> dict[str, object]:
    """What is settled when a delegation is first taken up: its deadline and the number of its attempt."""
    deadline = work.deadline(agent.times)
    shown = to_wire(deadline) if deadline.microsecond else to_wire_seconds(deadline)
    return {"deadline": shown, "attempt": max(1, work.attempt)}


def _since(work: Work, now: datetime) -> dict[str, object]:
    return {} if work.queued else {"queuedTime": to_wire(now)}
