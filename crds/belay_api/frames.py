"""The frames of `/cable`: Action Cable's wire protocol and what Belay says inside it (docs/protocol.md).

Both ends build and read frames with these models; a frame that doesn't fit is answered with an error that names the
field. Identifiers travel as the exact text the client sent.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from belay_api.agentsubscription import AgentRef
from belay_api.delegation import MAX_TEXT_BYTES, Progress, Result
from belay_api.permissionrequest import Behavior as Behavior
from belay_api.permissionrequest import RequestId as RequestId
from belay_api.permissionrequest import ToolName
from belay_api.resource import ObjectName, SessionId

SUBPROTOCOL = "actioncable-v1-json"
CHANNEL = "AgentChannel"
MAX_FRAME_BYTES = 256 * 1024
PING_SECONDS = 3
"""Seconds between two JSON pings to a client."""


class Frame(BaseModel):
    """Snake-case JSON, as Action Cable and its clients write it; fields nobody knows are refused."""

    model_config = ConfigDict(extra="forbid")

    def wire(self) -> dict[str, Any]:
        """The JSON of this frame, without what is unset."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


class DisconnectReason(StrEnum):
    """Why the server closes; `reconnect` beside it says whether to come back."""

    UNAUTHORIZED = "unauthorized"
    REPLACED = "replaced"
    LEASE_LOST = "lease_lost"
    SILENT = "silent"
    SLOW = "slow_consumer"
    PROTOCOL = "invalid_request"
    FLOOD = "rate_limited"
    AGENT_DELETED = "agent_deleted"
    SERVER_RESTART = "server_restart"
    UNAVAILABLE = "unavailable"
    REMOTE = "remote"


# --- client to server: the cable's own commands --------------------------------------------------------------------


class Command(Frame):
    """One text frame of a client. `data` is JSON in a string, for `message` only."""

    command: Literal["subscribe", "unsubscribe", "message"]
    identifier: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    data: str | None = None


class Identifier(Frame):
    """What the identifier's text says: an agent's session, or a topic. With both, the agent wins (C1)."""

    model_config = ConfigDict(extra="ignore")

    channel: str
    agent_id: str | None = None
    session_id: SessionId | None = None
    topic_id: str | None = None


# --- client to server: actions on an agent's subscription ----------------------------------------------------------


class Action(Frame):
    """Every action may carry `ref`, which its answer repeats."""

    ref: Annotated[str, StringConstraints(max_length=128)] | int | None = None


class OnAttempt(Action):
    """An action on one attempt of one delegation of the agent's namespace."""

    name: ObjectName
    attempt: int = Field(ge=1)


class Accept(OnAttempt):
    """Take an offered delegation; the first one wins."""

    action: Literal["accept"] = "accept"


class Heartbeat(OnAttempt):
    """Still at it."""

    action: Literal["heartbeat"] = "heartbeat"


class ProgressMade(OnAttempt):
    """How far it is; counts as a beat."""

    action: Literal["progress"] = "progress"
    progress: Progress


class Complete(OnAttempt):
    """Done, with the result."""

    action: Literal["complete"] = "complete"
    result: Result


class Fail(OnAttempt):
    """Given up, with a sentence that says why."""

    action: Literal["fail"] = "fail"
    message: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Cancelled(OnAttempt):
    """The work has really stopped; the proof of a cancel."""

    action: Literal["cancelled"] = "cancelled"


class Release(OnAttempt):
    """Give the work back unfinished: it goes to the queue, attempt + 1."""

    action: Literal["release"] = "release"
    message: Annotated[str, StringConstraints(max_length=1024)] | None = None


class RequestPermission(Action):
    """Ask people whether a tool may be used; the answer comes as `permission_decision`, now or after a replay."""

    action: Literal["request_permission"] = "request_permission"
    request_id: RequestId
    tool: ToolName
    description: Annotated[str, StringConstraints(max_length=4096)] = ""
    input_preview: Annotated[str, StringConstraints(max_length=4096)] = ""
    delegation: ObjectName | None = None
    """The work it is asked for; the request expires with it."""
    expires_after_seconds: int | None = Field(default=None, ge=1, le=2592000)


class ReplayPermissions(Action):
    """Send again what was decided on these, to this socket only (C4, C5)."""

    action: Literal["replay_permissions"] = "replay_permissions"
    request_ids: list[RequestId] = Field(min_length=1, max_length=100)


class Resolved(Action):
    """The request was answered elsewhere, at the agent's own terminal: it is no longer asked."""

    action: Literal["resolved"] = "resolved"
    request_id: RequestId


class Delegate(Action):
    """Hand work to another agent of the same namespace; its events come on the session's own topic."""

    action: Literal["delegate"] = "delegate"
    agent: ObjectName
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_BYTES)]
    inputs: dict[str, str] | None = Field(default=None, max_length=32)
    session_id: SessionId | None = None
    topic: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    parent: ObjectName | None = None
    """The delegation this is a part of: the session must hold it."""
    priority: int = Field(default=0, ge=-1000, le=1000)
    deadline_seconds: int | None = Field(default=None, ge=1, le=2592000)
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None


class HeldAttempt(Frame):
    """One piece of work the client says it holds."""

    name: ObjectName
    attempt: int = Field(ge=1)


class Resume(Action):
    """All that the client holds, after a (re)connect; authoritative for the session (C9)."""

    action: Literal["resume"] = "resume"
    held: list[HeldAttempt] = Field(max_length=1000)


class Goodbye(Action):
    """The session will not come back (C7)."""

    action: Literal["goodbye"] = "goodbye"


AnyAction = Annotated[
    Accept
    | Heartbeat
    | ProgressMade
    | Complete
    | Fail
    | Release
    | Cancelled
    | RequestPermission
    | ReplayPermissions
    | Resolved
    | Delegate
    | Resume
    | Goodbye,
    Field(discriminator="action"),
]
ACTIONS: TypeAdapter[AnyAction] = TypeAdapter(AnyAction)


# --- server to client: messages inside `{"identifier", "message"}` -------------------------------------------------


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


# --- server to client: the cable's own frames ----------------------------------------------------------------------


class Welcome(Frame):
    """The first frame: the token was accepted, subscribe."""

    type: Literal["welcome"] = "welcome"


class Ping(Frame):
    """A sign of life for the client, every 3 s; `message` is the server's time in seconds since 1970."""

    type: Literal["ping"] = "ping"
    message: int


class ConfirmSubscription(Frame):
    """The subscription is made; its messages follow."""

    type: Literal["confirm_subscription"] = "confirm_subscription"
    identifier: str


class RejectSubscription(Frame):
    """There is no such subscription, or no more: `message` says why and what to do."""

    type: Literal["reject_subscription"] = "reject_subscription"
    identifier: str
    reason: str
    message: str


class Disconnect(Frame):
    """The last frame: why, and whether to come back; `message` is for people."""

    type: Literal["disconnect"] = "disconnect"
    reason: DisconnectReason
    reconnect: bool
    message: str | None = None


CableFrame = Annotated[
    Welcome | Ping | ConfirmSubscription | RejectSubscription | Disconnect, Field(discriminator="type")
]
CABLE_FRAMES: TypeAdapter[CableFrame] = TypeAdapter(CableFrame)


class Addressed(Frame):
    """A message to one subscription."""

    identifier: str
    message: AnyMessage


class ServerFrame(Frame):
    """Any text frame of the server, as a client reads it that ignores what it doesn't know: either a `type` of the
    cable, or a `message` for one identifier."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["welcome", "ping", "confirm_subscription", "reject_subscription", "disconnect"] | None = None
    identifier: str | None = None
    message: Any = None
    reason: str | None = None
    reconnect: bool | None = None

    @model_validator(mode="after")
    def _typed_or_addressed(self) -> Self:
        if self.type is None and self.identifier is None:
            raise ValueError("a server frame has a type or an identifier")
        return self
