"""What the server says on a subscription: the `message` beside an `identifier` (docs/protocol.md)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from belay_api.agentsubscription import AgentRef
from belay_api.delegation import MAX_TEXT_BYTES, Result
from belay_api.frames import Frame
from belay_api.permissionrequest import Behavior, RequestId
from belay_api.resource import ObjectName, SessionId


class Attached(Frame):
    """First message of an agent's subscription: the session and the epoch of its lease."""

    type: Literal["attached"] = "attached"
    agent: str
    session: SessionId
    token: str
    heartbeat_seconds: int
    stale_after_seconds: int
    grace_seconds: int


class Dispatch(Frame):
    """An offer: accept it, or let others."""

    type: Literal["dispatch"] = "dispatch"
    name: ObjectName
    namespace: str
    agent: str
    attempt: int
    prompt: Annotated[str, StringConstraints(max_length=MAX_TEXT_BYTES)]
    inputs: dict[str, str] | None = None
    topic: str | None = None
    requester: str | None = None
    deadline: datetime | None = None
    stuck_threshold_seconds: int
    addressed: bool = False
    """Whether only this session may take it."""


class Cancel(Frame):
    """Stop working on this attempt, then say `cancelled`: the server ended it as `phase` for `reason`."""

    type: Literal["cancel"] = "cancel"
    name: ObjectName
    attempt: int
    phase: str
    reason: str
    message: str = ""


class Revoked(Frame):
    """An offer that another session took, or that ended before anyone did."""

    type: Literal["revoked"] = "revoked"
    name: ObjectName
    attempt: int


class PermissionDecision(Frame):
    """What was decided on a request of this session; sent once, and again when a replay asks for it."""

    type: Literal["permission_decision"] = "permission_decision"
    request_id: RequestId
    name: ObjectName
    behavior: Behavior
    reason: str | None = None
    decided_by: str


class Broadcast(Frame):
    """A transient word to an agent's sockets or to a topic's listeners; kept nowhere, told at most once (C3).

    `agent` ("namespace/name") or `topic` ("namespace/topic") is set, as the identifier of who hears it has it.
    """

    type: Literal["broadcast"] = "broadcast"
    id: str
    sender: str
    agent: str | None = None
    topic: str | None = None
    body: Any


class ResumeVerdict(StrEnum):
    """What is to become of one held attempt; for all but `continue` the client stops."""

    CONTINUE = "continue"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"


class Resumed(Frame):
    """The answer to one entry of `resume`."""

    name: ObjectName
    attempt: int
    verdict: ResumeVerdict


class Ack(Frame):
    """The action was carried out; for `resume` with one verdict for each entry, else with the name of what it made."""

    type: Literal["ack"] = "ack"
    ref: str | int | None = None
    name: ObjectName | None = None
    held: list[Resumed] | None = None


class ErrorCode(StrEnum):
    """Why an action was refused."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    NOT_HOLDER = "not_holder"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    TAKEN = "taken"
    TOO_LARGE = "too_large"
    FORBIDDEN = "forbidden"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"


class Error(Frame):
    """The action changed nothing; `message` says what was wrong and what to do."""

    type: Literal["error"] = "error"
    ref: str | int | None = None
    code: ErrorCode
    message: str


class Event(Frame):
    """Something happened on a topic."""

    type: Literal["event"] = "event"
    topic: str
    name: ObjectName
    agent: AgentRef
    phase: str
    reason: str | None = None
    attempt: int | None = None
    percent: int | None = None
    progress: str | None = None
    """What the agent is at, as it says; until it has ended."""
    message: str | None = None
    """Why, in a sentence; once it has ended."""
    result: Result | None = None
    """What came of it; once it has ended."""


class Why(Frame):
    """A reason in a word, and the sentence for people."""

    reason: str
    message: str = ""


class SessionChanged(Frame):
    """A Model agent's session stands otherwise than before, or its answer has grown."""

    type: Literal["session"] = "session"
    topic: str
    name: ObjectName
    agent: AgentRef
    phase: str
    """Idle, Awaiting or Executing; Deleted once it is gone."""
    turns: int
    """Number of its last turn."""
    reason: str | None = None
    """Why the last round came to nothing, if it did; `message` is the sentence for people."""
    message: str | None = None
    progress: str | None = None
    """The end of the answer as it grows."""
    blocked: Why | None = None
    """Why mail waits."""
    authentication_required: Why | None = None
    """That the provider refused the key."""


class ToolCalled(Frame):
    """A tool call of a turn."""

    id: str
    name: str


class TurnTaken(Frame):
    """A Model agent's session took a turn; `text` is what the model said."""

    type: Literal["turn"] = "turn"
    topic: str
    name: ObjectName
    """Of the SessionTurn, which has the rest."""
    sequence: int
    outcome: str
    """Answered, Bounced, Parked or Interrupted."""
    reason: str | None = None
    message: str | None = None
    text: str | None = None
    tool_calls: list[ToolCalled] | None = None
    stop_reason: str | None = None
    model: str | None = None


AnyMessage = Annotated[
    Attached
    | Dispatch
    | Cancel
    | Revoked
    | PermissionDecision
    | Broadcast
    | Ack
    | Error
    | Event
    | SessionChanged
    | TurnTaken,
    Field(discriminator="type"),
]
MESSAGES: TypeAdapter[AnyMessage] = TypeAdapter(AnyMessage)


class Addressed(Frame):
    """A message to one subscription."""

    identifier: str
    message: AnyMessage
