"""Reasons and the sentences that go with them; no such word stands elsewhere."""

from enum import StrEnum


class Reason(StrEnum):
    """Why an object is as it is: `status.reason` and Events."""

    ACCEPTED = "Accepted"
    AGENT_BUSY = "AgentBusy"
    AGENT_DELETED = "AgentDeleted"
    AGENT_FAILED = "AgentFailed"
    AGENT_FORGOT = "AgentForgot"
    AGENT_LOST = "AgentLost"
    AGENT_NOT_FOUND = "AgentNotFound"
    AGENT_OFFLINE = "AgentOffline"
    AGENT_ONLINE = "AgentOnline"
    AGENT_SUSPENDED = "AgentSuspended"
    CANCELLED = "Cancelled"
    COMPLETED = "Completed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    DELETED = "Deleted"
    DISPATCHED = "Dispatched"
    MODEL_RUNTIME_UNAVAILABLE = "ModelRuntimeUnavailable"
    NO_HEARTBEAT = "NoHeartbeat"
    NOT_ACCEPTED = "NotAccepted"
    NOT_HOLDER = "NotHolder"
    RELEASED = "Released"
    RESUMED = "Resumed"
    SESSION_OFFLINE = "SessionOffline"
    SUPERSEDED = "Superseded"


class SubscriptionReason(StrEnum):
    """Why a session isn't live: `AgentSubscription.status.reason`."""

    CLOSED = "Closed"
    CONNECTION_LOST = "ConnectionLost"
    GATEWAY_SHUTDOWN = "GatewayShutdown"
    GOODBYE = "Goodbye"
    SILENT = "Silent"
    STALE = "Stale"
    UNSUBSCRIBED = "Unsubscribed"


def deadline_exceeded() -> str:
    """S2."""
    return "deadline exceeded by sweeper"


def no_heartbeat(seconds: int) -> str:
    """S3: whole seconds since the last beat."""
    return f"no heartbeat for {seconds}s"


def session_left(agent: str, session_id: str) -> str:
    """C7: a goodbye needs no grace."""
    return f"session {session_id} of agent {agent} said goodbye"


def agent_lost(agent: str, session_id: str | None, grace: int) -> str:
    """G1, G3: who was lost, and how long it was waited for."""
    who = f"session {session_id} of agent {agent}" if session_id else f"agent {agent}"
    return f"{who} was lost and did not return within {grace}s"
