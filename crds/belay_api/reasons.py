"""Reasons and the sentences that go with them; no such word stands elsewhere, but for those of permission_words.py,
session_words.py, handover_words.py and tool_words.py."""

from datetime import UTC, datetime
from enum import StrEnum


class Reason(StrEnum):
    """Why an object is as it is: `status.reason` and Events."""

    ACCEPTED = "Accepted"
    AGENT_ABOVE_IN_TREE = "AgentAboveInTree"
    AGENT_BUSY = "AgentBusy"
    AGENT_DELETED = "AgentDeleted"
    AGENT_FAILED = "AgentFailed"
    AGENT_FORGOT = "AgentForgot"
    AGENT_LOST = "AgentLost"
    AGENT_NOT_FOUND = "AgentNotFound"
    AGENT_OFFLINE = "AgentOffline"
    AGENT_ONLINE = "AgentOnline"
    AGENT_SUSPENDED = "AgentSuspended"
    ALL_IS_TREATED = "AllIsTreated"
    AGENT_UNRESPONSIVE = "AgentUnresponsive"
    BRAKE_TIMED_OUT = "BrakeTimedOut"
    CANCELLED = "Cancelled"
    COMPLETED = "Completed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    DELETED = "Deleted"
    DISPATCHED = "Dispatched"
    FLEET_BACK = "FleetBack"
    FLEET_LOST = "FleetLost"
    KEEPS_FAILING = "KeepsFailing"
    LINEAGE_CYCLE = "LineageCycle"
    LINEAGE_TOO_DEEP = "LineageTooDeep"
    MODEL_FAILED = "ModelFailed"
    MODEL_REFUSED = "ModelRefused"
    NO_HEARTBEAT = "NoHeartbeat"
    NOT_ACCEPTED = "NotAccepted"
    NOT_HOLDER = "NotHolder"
    PARENT_CANCELLED = "ParentCancelled"
    PARENT_DELETED = "ParentDeleted"
    PARENT_FAILED = "ParentFailed"
    PROVIDER_UNKNOWN = "ProviderUnknown"
    RELEASED = "Released"
    RESUMED = "Resumed"
    RETRIED = "Retried"
    SESSION_DELETED = "SessionDeleted"
    SESSION_MISMATCH = "SessionMismatch"
    SESSION_OFFLINE = "SessionOffline"
    SUPERSEDED = "Superseded"
    SWEPT = "Swept"


class SubscriptionReason(StrEnum):
    """Why a session isn't live: `AgentSubscription.status.reason`."""

    CLOSED = "Closed"
    CONNECTION_LOST = "ConnectionLost"
    GATEWAY_SHUTDOWN = "GatewayShutdown"
    GOODBYE = "Goodbye"
    SILENT = "Silent"
    STALE = "Stale"
    UNSUBSCRIBED = "Unsubscribed"


class SessionReason(StrEnum):
    """Why a session, a turn or a message of a Model agent stands as it does (BEHAVIOUR.md, section 3)."""

    AGENT_MISSING = "AgentMissing"
    AGENT_SUSPENDED = "AgentSuspended"
    NOT_A_MODEL = "NotAModel"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    AUTHENTICATED = "Authenticated"
    CALLS_EXHAUSTED = "CallsExhausted"
    DELEGATION_ENDED = "DelegationEnded"
    FLOWING = "Flowing"
    INTERRUPTED = "Interrupted"
    KEY_MISSING = "KeyMissing"
    KEEPS_FAILING = "KeepsFailing"
    NOT_OPEN = "NotOpen"
    NOT_STORED = "NotStored"
    OVERLOADED = "Overloaded"
    PROVIDER_UNKNOWN = "ProviderUnknown"
    REJECTED = "Rejected"
    SESSION_MISSING = "SessionMissing"
    SYSTEM_MISSING = "SystemMissing"
    UNREACHABLE = "Unreachable"


def deadline_exceeded() -> str:
    """S2."""
    return "deadline exceeded by sweeper"


def no_heartbeat(seconds: int) -> str:
    """S3: whole seconds since the last beat."""
    return f"no heartbeat for {seconds}s"


def session_left(agent: str, session_id: str) -> str:
    """C7: a goodbye needs no grace."""
    return f"session {session_id} of agent {agent} said goodbye"


def keeps_failing(count: int, first: str, said: str) -> str:
    """Fault 22: how much can't be written, one of it by name, and what the API server said."""
    return f"{count} objects can't be treated, tried again ever more slowly; {first}: {said}"


def all_is_treated() -> str:
    """What could not be written was, or is gone."""
    return "nothing fails again and again"


def fleet_lost(lost: int, live: int, seconds: int) -> str:
    """The brake: what was seen, and how long nothing is done about it."""
    return (
        f"{lost} sessions were lost at once without a word, {live} are live: "
        f"their work is left alone until half of them are back, at most {seconds}s"
    )


def fleet_back(live: int) -> str:
    """The brake is off."""
    return f"half of the lost sessions are back, {live} are live: each other one has its grace from now on"


def fleet_never_back() -> str:
    """The brake is off, and those who were waited for are not there."""
    return "the lost sessions did not return in time: each has its grace from now on"


def agent_lost(agent: str, session_id: str | None, grace: int) -> str:
    """G1, G3: who was lost, and how long it was waited for."""
    who = f"session {session_id} of agent {agent}" if session_id else f"agent {agent}"
    return f"{who} was lost and did not return within {grace}s"


def agent_forgot(agent: str, session_id: str) -> str:
    """C9: the agent came back and said what it has in hand."""
    return f"session {session_id} of agent {agent} resumed without it"


def not_accepted(seconds: int) -> str:
    """D7: nobody took the offer."""
    return f"offered for {seconds}s and not accepted"


def cancelled_as_asked() -> str:
    """D9: somebody set spec.desiredState."""
    return "cancelled as desiredState asks"


def agent_was_deleted(agent: str) -> str:
    """There is nobody left to work on it."""
    return f"agent {agent} was deleted while it had the work"


def retry_asked(number: int) -> str:
    """S12: a person wants the next attempt."""
    return f"spec.retryAttempt was raised to {number}"


def offered(agent: str, session_id: str | None) -> str:
    """Who may take it."""
    return f"offered to {f'session {session_id}' if session_id else 'the sessions'} of {agent}"


def agent_missing(agent: str, namespace: str) -> str:
    """D6: references come in any order."""
    return f"agent {agent} does not exist in namespace {namespace}: create it"


def session_of_another(session: str, agent: str, other: str) -> str:
    """spec.sessionId of work for a Model agent names somebody else's conversation."""
    return f"AgentSession {session} is of agent {other}, not of {agent}: name one of its own, or leave sessionId out"


def session_unnameable(session: str) -> str:
    """spec.sessionId of work for a Model agent is the name of an object."""
    return f"sessionId {session!r} can't be the name of an AgentSession: use at most 63 of a-z, 0-9, - and ."


def session_was_deleted(session: str) -> str:
    """The conversation it was worked on in is gone."""
    return f"AgentSession {session}, in which it was worked on, was deleted"


def model_takes(session: str) -> str:
    """A Model agent's work goes into a mailbox."""
    return f"goes into the mailbox of AgentSession {session}"


def model_took(session: str) -> str:
    """Its prompt is in the mailbox."""
    return f"is in the mailbox of AgentSession {session}"


def model_answered(session: str) -> str:
    """The conversation came to an end."""
    return f"answered in AgentSession {session}"


def agent_suspended(agent: str) -> str:
    """Its spec.suspend is set."""
    return f"agent {agent} is suspended: it takes nothing new"


def agent_offline(agent: str) -> str:
    """There is nobody to offer it to."""
    return f"no session of agent {agent} is attached"


def session_offline(agent: str, session_id: str) -> str:
    """The only session that may have it isn't there."""
    return f"session {session_id} of agent {agent} is not attached"


def agent_unresponsive(agent: str, session_id: str | None) -> str:
    """Whoever could be asked is wedged."""
    who = f"session {session_id}" if session_id else "each session that is attached"
    return f"{who} of agent {agent} has work that it doesn't answer for"


def agent_busy(agent: str, slots: int) -> str:
    """D4."""
    return f"agent {agent} has its {slots} slots in use"


def retried(attempt: int, last: int, reason: str, why: str, at: datetime) -> str:
    """Which attempt comes next, of how many, after what, and since when."""
    return f"attempt {attempt} of {last} after {reason}: {why}, at {at.astimezone(UTC):%H:%M:%S}Z"


def agent_above(agent: str, ancestor: str) -> str:
    """D6: an agent may wait for what is below it, so it must not be below itself."""
    return f"agent {agent} already works above it, on {ancestor}: delegate to another, or set allowReentry on the Agent"


def lineage_cycle(name: str) -> str:
    """D6."""
    return f"delegation {name} is its own ancestor by parentRef: create it again with another parent"


def lineage_too_deep(most: int) -> str:
    """D6."""
    return f"more than {most} delegations on one line of parentRef: do it further up in the tree"


def parent_missing(kind: str, name: str, namespace: str) -> str:
    """D6: references come in any order."""
    return f"parentRef: {kind} {name} does not exist in namespace {namespace}: create it"


def parent_overdue(name: str) -> str:
    """D6: no deadline is later than the parent's."""
    return f"the deadline of {name}, of which this is a part, is past: create it again without that parentRef"


def parent_ended(name: str, phase: str) -> str:
    """D9: cancels cascade."""
    return f"{name}, of which this is a part, is {phase}"


def parent_deleted(name: str) -> str:
    """D9: `kubectl delete` is a cancel without proof."""
    return f"{name}, of which this is a part, was deleted"
