"""What a client says on an agent's subscription: the `data` of a `message` command (docs/protocol.md)."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from belay_api.delegation import MAX_TEXT_BYTES, Progress, Result
from belay_api.frames import Frame
from belay_api.permissionrequest import RequestId, ToolName
from belay_api.resource import ObjectName, SessionId


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
