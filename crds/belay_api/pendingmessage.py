"""PendingMessage: one piece of mail that a session has not read yet; who drains the mailbox deletes what was read."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from belay_api.resource import (
    ATOMIC_MAP,
    NO_CONTROLS,
    Column,
    Kind,
    Part,
    Resource,
    Rule,
    ToolUseId,
    kept_once,
    never_removed,
    unchanged,
)

MAX_CONTENT_BYTES = 65536
"""Most UTF-8 bytes of one message."""


class MessageType(StrEnum):
    """What a message does to the session (BEHAVIOUR.md, section 3)."""

    USER = "UserMessage"
    SUBAGENT = "Subagent"
    BACKGROUND = "Background"
    TOOL_RESPONSE = "ToolResponse"


ACTIVE_TYPES = frozenset({MessageType.USER, MessageType.SUBAGENT})
"""Types that start a round, one a round (L8)."""


class MessagePhase(StrEnum):
    """Where a message stands; all but Pending are final."""

    PENDING = "Pending"
    BOUNCED = "Bounced"
    PARKED = "Parked"


RETURNED = frozenset({MessagePhase.BOUNCED, MessagePhase.PARKED})


class SessionRef(Part):
    """An AgentSession of the same namespace."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    name: Annotated[
        str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    ] = Field(description="Name of the AgentSession.")


class Source(Part):
    """Who sent it."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    kind: Literal["User", "Delegation", "AgentSession", "Tool"] = Field(
        default="User", description="User; the others are said by Belay's own processes alone."
    )
    name: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=NO_CONTROLS)] = Field(
        description="The user, or the name of the object; must be the caller, but for Belay's own processes."
    )


class PendingMessageSpec(Part):
    """What is said; never changes."""

    session_ref: SessionRef = Field(description="The session it is for.")
    type: MessageType = Field(
        default=MessageType.USER,
        description="UserMessage and Subagent start a round; Background waits for one; ToolResponse answers a call.",
    )
    source: Source | None = Field(default=None, description="Who sent it.")
    content: Annotated[str, StringConstraints(max_length=MAX_CONTENT_BYTES)] = Field(
        description="What is said, at most 64 KiB of UTF-8."
    )
    tool_use_id: ToolUseId | None = Field(default=None, description="For ToolResponse: the call that it answers.")
    success: bool | None = Field(default=None, description="For ToolResponse: whether the tool did its work (true).")
    bounce_back: bool = Field(
        default=False,
        description="When the model can't be reached: true returns it to its sender, false keeps it for another try.",
    )


class PendingMessageStatus(Part):
    """What became of it; written by the operator alone."""

    phase: MessagePhase | None = Field(default=None, description="Pending; Bounced or Parked, which is final.")
    reason: Annotated[str, StringConstraints(max_length=64)] | None = Field(default=None, description="Why, in a word.")
    message: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="Why, in a sentence."
    )
    completion_time: datetime | None = Field(default=None, description="When it was returned or parked.")


class PendingMessage(Kind):
    """A PendingMessage is mail in a session's mailbox: read in order, one active message a round, and then deleted."""

    RESOURCE: ClassVar[Resource] = Resource(
        kind="PendingMessage",
        plural="pendingmessages",
        short="bmsg",
        columns=(
            Column("Session", ".spec.sessionRef.name"),
            Column("Type", ".spec.type"),
            Column("From", ".spec.source.name"),
            Column("Phase", ".status.phase"),
            Column("Reason", ".status.reason"),
            Column("Call", ".spec.toolUseId", "string", 1),
            Column("Content", ".spec.content", "string", 1),
            Column("Message", ".status.message", "string", 1),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable=(".spec.sessionRef.name", ".spec.type", ".spec.toolUseId", ".status.phase"),
        rules=(
            *unchanged("sessionRef", "type", "source", "content", "toolUseId", "success", "bounceBack"),
            Rule(
                "has(self.spec.toolUseId) == (self.spec.type == 'ToolResponse')",
                "spec.toolUseId: goes with type ToolResponse, which needs it, and with no other",
            ),
            Rule(
                "!has(self.spec.success) || self.spec.type == 'ToolResponse'",
                "spec.success: goes with type ToolResponse",
            ),
            Rule(
                "self.spec.content.size() > 0 || self.spec.type == 'ToolResponse'",
                "spec.content: say something; only a ToolResponse may be empty",
            ),
            Rule(
                f"bytes(self.spec.content).size() <= {MAX_CONTENT_BYTES}",
                "spec.content: more than 64 KiB of UTF-8; put it where the agent can read it and name the URI",
            ),
            Rule(
                r"!self.spec.content.contains('\u0000')",
                "spec.content: contains a NUL character, which models can't be handed; take it out",
            ),
            never_removed("phase", "delete the message instead"),
            *(
                kept_once(RETURNED, field, f"status.{field} can't change once the message is Bounced or Parked")
                for field in ("phase", "reason", "message", "completionTime")
            ),
        ),
    )

    spec: PendingMessageSpec = Field(description="What is said.")
    status: PendingMessageStatus | None = Field(default=None, description="What became of it.")
