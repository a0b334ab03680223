"""What should become of one unfinished delegation: an ordered chain of findings, the first one wins (DESIGN.md 5).

The deadline stands first (S2): overdue work is Failed, whatever else is true of it.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from belay_api.agent import OnAgentLost, Runtime
from belay_api.reasons import (
    Reason,
    agent_lost,
    agent_was_deleted,
    cancelled_as_asked,
    deadline_exceeded,
    no_heartbeat,
    not_accepted,
    retry_asked,
    session_left,
)
from belay_api.times import to_wire
from belay_api.transitions import HELD, TERMINAL, Phase
from belay_operator.decisions.retry import asks_noted, next_attempt
from belay_operator.decisions.view import AgentView, Change, SessionView
from belay_operator.observe.records import Work

Check = Callable[[Work, AgentView, datetime], Change | None]


def overdue(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """Its deadline has passed, beats or not (S11)."""
    if now < work.deadline(agent.times):
        return None
    return Change(Phase.FAILED, Reason.DEADLINE_EXCEEDED, deadline_exceeded())


def cancel_wanted(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """Somebody asked for its end; the slot is free at once, the proof comes later (D9)."""
    if not work.cancel_wanted:
        return None
    return Change(Phase.CANCELLED, Reason.CANCELLED, cancelled_as_asked())


def agent_deleted(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """It was handed to an agent that no longer exists."""
    if agent.exists or agent.blind or work.phase not in HELD:
        return None
    return Change(Phase.FAILED, Reason.AGENT_DELETED, agent_was_deleted(agent.ref.name), live_read=True)


def orphaned(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """Its session, or the whole agent, was lost and the grace is over (G1 to G11)."""
    gone = gone_at(work, agent)
    if gone is None or now < gone or agent.blind:
        return None
    return _treated(work, _policy(work, agent), _loss(work, agent, now), now)


def _loss(work: Work, agent: AgentView, now: datetime) -> str:
    """Who was lost, in a sentence."""
    seen = agent.sessions.get(work.session) if work.session else None
    if work.session and seen and seen.left:
        return session_left(agent.ref.name, work.session)
    session = work.session if _session_gone(work, agent, now) else None
    return agent_lost(agent.ref.name, session, agent.times.grace)


def _policy(work: Work, agent: AgentView) -> OnAgentLost:
    return work.on_agent_lost or agent.on_agent_lost


def _session_gone(work: Work, agent: AgentView, now: datetime) -> bool:
    gone = agent.session_gone_at(work.session) if work.session else None
    return gone is not None and now >= gone and agent.routable


def _treated(work: Work, policy: OnAgentLost, message: str, now: datetime) -> Change:
    """G10. Requeue says what is done, `retry` how often: none left, or `retry.on` without AgentLost, is Failed."""
    if policy is OnAgentLost.CANCEL:
        return Change(Phase.CANCELLED, Reason.AGENT_OFFLINE, message, live_read=True)
    if policy is OnAgentLost.REQUEUE and work.tries.may_follow(Reason.AGENT_LOST):
        return next_attempt(work, Reason.AGENT_LOST, message, now, live=True)
    return Change(Phase.FAILED, Reason.AGENT_LOST, message, live_read=True)


def handed_back(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """Its holder gave the attempt up: by `fail`, by `release`, or because it had forgotten it (C9)."""
    if work.handed_back is None or work.reason is None:
        return None
    reason = Reason(work.reason)
    if reason is Reason.AGENT_FORGOT:
        return _forgotten(work, _policy(work, agent), work.handed_back, now)
    if work.tries.may_follow(reason):
        return next_attempt(work, reason, work.handed_back, now)
    return Change(Phase.FAILED, reason, work.handed_back)


def _forgotten(work: Work, policy: OnAgentLost, message: str, now: datetime) -> Change | None:
    """An orphan at once; its own words rest on nothing but the delegation, so no live read is needed."""
    if policy is OnAgentLost.WAIT:
        return None
    if policy is OnAgentLost.CANCEL:
        return Change(Phase.CANCELLED, Reason.AGENT_FORGOT, message)
    if policy is OnAgentLost.REQUEUE and work.tries.may_follow(Reason.AGENT_FORGOT):
        return next_attempt(work, Reason.AGENT_FORGOT, message, now)
    return Change(Phase.FAILED, Reason.AGENT_FORGOT, message)


def asked_again(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """A person raised spec.retryAttempt for Stuck work: the next attempt, at once and beyond any limit (S12).

    Only while it is Stuck: what was asked for before is taken note of with Stuck itself, and with each new attempt.
    """
    if work.phase is not Phase.STUCK or work.retry_asked <= work.retry_done:
        return None
    why = retry_asked(work.retry_asked)
    return next_attempt(work, Reason.RETRIED, why, now)


def given_up(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """It is Stuck, and its policy says that silence is tried again (S12)."""
    due = given_up_at(work, agent)
    if due is None or now < due or agent.blind:
        return None
    age = int((now - work.beat).total_seconds()) if work.beat else work.threshold(agent.times)
    return next_attempt(work, Reason.NO_HEARTBEAT, no_heartbeat(age), now)


def silent(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """It beat once, and then no more for longer than the threshold (S3); never beaten is not Stuck (S4)."""
    due = stuck_at(work, agent)
    if due is None or now < due or agent.blind or work.beat is None:
        return None
    age = int((now - work.beat).total_seconds())
    return Change(Phase.STUCK, Reason.NO_HEARTBEAT, no_heartbeat(age), asks_noted(work))


def unaccepted(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """It was offered for as long as the threshold and nobody gave a sign of life: its slot is freed (D7)."""
    due = unaccepted_at(work, agent)
    if due is None or now < due or agent.blind:
        return None
    message = not_accepted(work.threshold(agent.times))
    # It waits from now on, behind what waited before: one that nobody takes must not hold up the others.
    return Change(Phase.QUEUED, Reason.NOT_ACCEPTED, message, {"queuedTime": to_wire(now)})


_BY_TIME = frozenset(
    {
        (Phase.FAILED, Reason.DEADLINE_EXCEEDED),
        (Phase.STUCK, Reason.NO_HEARTBEAT),
        (Phase.QUEUED, Reason.NOT_ACCEPTED),
    }
)
CHAIN: tuple[Check, ...] = (
    overdue,
    cancel_wanted,
    agent_deleted,
    asked_again,
    handed_back,
    orphaned,
    silent,
    given_up,
    unaccepted,
)


def decide(work: Work, agent: AgentView, now: datetime) -> Change | None:
    """What should become of `work` now; None: nothing."""
    change = next((change for check in CHAIN if (change := check(work, agent, now))), None)
    return without_holder(work, change) if change else None


def without_holder(work: Work, change: Change) -> Change:
    """`change`; the end of an attempt that was given up before, or that no session has taken yet, leaves nobody who has
    to be told, and to answer. (Only the work of a Model agent names its session before that is so.)"""
    untaken = work.holder is not None and work.phase not in (Phase.IN_PROGRESS, Phase.STUCK)
    if (work.handed_back is None and not untaken) or change.target not in TERMINAL:
        return change
    return replace(change, fields={**change.fields, "sessionId": None, "gateway": None})


def is_prompted(change: Change) -> bool:
    """Whether something that happened brought the change about, not only time gone by since."""
    return (change.target, change.reason) not in _BY_TIME


def gone_at(work: Work, agent: AgentView) -> datetime | None:
    """When `work` is orphaned if nobody returns; None: it can't be as things are, or it waits all the same (G10)."""
    if work.phase not in HELD or agent.runtime is Runtime.MODEL or not agent.exists:
        return None
    if _policy(work, agent) is OnAgentLost.WAIT:
        return None
    ends = [agent.agent_gone_at(), agent.session_gone_at(work.session) if work.session else None]
    return min((end for end in ends if end is not None), default=None)


def stuck_at(work: Work, agent: AgentView) -> datetime | None:
    """When `work` is Stuck if no beat comes: past the threshold in whole seconds, and not within one flush period of
    the end of blind time, since a beat may be on its way (DESIGN.md section 4)."""
    if work.phase is not Phase.IN_PROGRESS or work.beat is None:
        return None
    threshold = work.threshold(agent.times)
    flushed = agent.sighted_since + timedelta(seconds=threshold / 4)
    return max(work.beat + timedelta(seconds=threshold + 1), flushed)


def unaccepted_at(work: Work, agent: AgentView) -> datetime | None:
    """When an offer that nobody takes goes back to the queue."""
    if work.phase is not Phase.DISPATCHED or work.dispatched is None:
        return None
    return max(work.dispatched, agent.sighted_since) + timedelta(seconds=work.threshold(agent.times))


def given_up_at(work: Work, agent: AgentView) -> datetime | None:
    """When Stuck work may be tried again: at once, but not before the end of the brake if its holder went without a
    word, as it may be at work still (I7); None: it isn't Stuck, or is not tried again."""
    if work.phase is not Phase.STUCK or not work.tries.may_follow(Reason.NO_HEARTBEAT):
        return None
    holder = agent.sessions.get(work.holder or "", SessionView(live=False))
    return agent.sighted_since if holder.live or holder.closed else max(agent.brake_ends, agent.sighted_since)


def next_due(work: Work, agent: AgentView) -> datetime:
    """When `work` should be looked at again if nothing else happens."""
    findings = (stuck_at, unaccepted_at, given_up_at, gone_at)
    dues = [work.deadline(agent.times), *(finding(work, agent) for finding in findings)]
    return min(due for due in dues if due is not None)
