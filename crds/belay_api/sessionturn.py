"""SessionTurn: one half-step of a session, as it happened. Creating it is the transaction (DESIGN.md section 5)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from belay_api.pendingmessage import MessageType, SessionRef, Source
from belay_api.resource import (
    ATOMIC_LIST,
    Column,
    Kind,
    ModelToolName,
    ObjectName,
    Part,
    Resource,
    Rule,
    ToolUseId,
    map_list,
)
from belay_api.usage import Usage

MAX_USER_BLOCKS = 192
MAX_ASSISTANT_BLOCKS = 128
MAX_BLOCK_BYTES = 65536
MAX_CONSUMED = 192


class TurnOutcome(StrEnum):
    """What became of the messages of a half-step; only Answered enters the conversation."""

    ANSWERED = "Answered"
    BOUNCED = "Bounced"
    PARKED = "Parked"
    INTERRUPTED = "Interrupted"


class Block(Part):
    """A piece of a conversation, as models speak: text, a tool call, or the response to one."""

    type: Literal["Text", "ToolUse", "ToolResult"] = Field(description="What the block is.")
    text: Annotated[str, StringConstraints(max_length=MAX_BLOCK_BYTES)] | None = Field(
        default=None, description="The words; of a ToolResult what the tool said."
    )
    tool_use_id: ToolUseId | None = Field(default=None, description="Of ToolUse and ToolResult: the call.")
    name: ModelToolName | None = Field(default=None, description="Of ToolUse: the tool.")
    input: Annotated[str, StringConstraints(max_length=MAX_BLOCK_BYTES)] | None = Field(
        default=None, description="Of ToolUse: the arguments as JSON text, just as the model wrote them."
    )
    is_error: bool | None = Field(default=None, description="Of ToolResult: whether the tool failed.")


class Consumed(Part):
    """A message whose fate this turn is."""

    uid: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="Uid of the PendingMessage."
    )
    name: ObjectName = Field(description="Name of the message.")
    type: MessageType = Field(description="Type of the message.")
    source: Source | None = Field(default=None, description="Who sent it.")


class SessionTurnSpec(Part):
    """What happened; never changes."""

    session_ref: SessionRef = Field(description="The session.")
    sequence: int = Field(ge=1, le=2147483647, description="Number of the turn in its session, from 1.")
    outcome: TurnOutcome = Field(description="Answered, Bounced, Parked or Interrupted.")
    reason: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Why, in a word, when it wasn't answered."
    )
    message: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="Why, in a sentence, when it wasn't answered; what was cut, when it was."
    )
    user: list[Block] | None = Field(
        default=None,
        max_length=MAX_USER_BLOCKS,
        description="What the model was told: tool responses, background messages as pairs, the active message.",
        json_schema_extra=ATOMIC_LIST,
    )
    assistant: list[Block] | None = Field(
        default=None,
        max_length=MAX_ASSISTANT_BLOCKS,
        description="What it said.",
        json_schema_extra=ATOMIC_LIST,
    )
    consumed: list[Consumed] | None = Field(
        default=None,
        max_length=MAX_CONSUMED,
        description="The messages whose fate this is.",
        json_schema_extra=map_list("uid"),
    )
    model: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="The model that answered, as the provider names it."
    )
    usage: Usage | None = Field(default=None, description="What the answer cost.")
    stop_reason: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Why the model stopped, as the provider says it."
    )
    started_time: datetime | None = Field(default=None, description="When the mailbox was claimed for it.")
    completed_time: datetime | None = Field(default=None, description="When it was over.")


class SessionTurn(Kind):
    """A SessionTurn is one half-step of an AgentSession: what was read, what was said, which messages that settled."""

    RESOURCE: ClassVar[Resource] = Resource(
        kind="SessionTurn",
        plural="sessionturns",
        short="bturn",
        columns=(
            Column("Session", ".spec.sessionRef.name"),
            Column("Turn", ".spec.sequence", "integer"),
            Column("Outcome", ".spec.outcome"),
            Column("Reason", ".spec.reason"),
            Column("Stop", ".spec.stopReason"),
            Column("Tokens-In", ".spec.usage.inputTokens", "integer"),
            Column("Tokens-Out", ".spec.usage.outputTokens", "integer"),
            Column("Model", ".spec.model", "string", 1),
            Column("Said", ".spec.assistant[0].text", "string", 1),
            Column("Message", ".spec.message", "string", 1),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable=(".spec.sessionRef.name", ".spec.outcome"),
        rules=(
            Rule("self.spec == oldSelf.spec", "spec can't be changed: a turn is what happened"),
            Rule(
                "self.metadata.name == '%s-%d'.format([self.spec.sessionRef.name, self.spec.sequence])",
                "metadata.name: is <session>-<sequence>, so that there is one turn of each number",
            ),
        ),
    )

    spec: SessionTurnSpec = Field(description="What happened.")
