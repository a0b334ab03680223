"""The frames of `/cable`: Action Cable's wire protocol (docs/protocol.md); what is said inside it is in actions.py
(by the client) and in messages.py (by the server).

Both ends build and read frames with these models; a frame that doesn't fit is answered with an error that names the
field. Identifiers travel as the exact text the client sent.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from belay_api.resource import SessionId

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


# --- client to server ----------------------------------------------------------------------------------------------


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


# --- server to client ----------------------------------------------------------------------------------------------


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
