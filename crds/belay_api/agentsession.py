"""AgentSession: one conversation of a Model agent. Its status is the claim under which its mailbox is drained.

    Idle ──claim──▶ Awaiting ──text──▶ Idle
                       │  ▲
            tool calls │  │ claim, once every open call has its response
                       ▼  │
                     Executing ──interrupt──▶ Idle

A new session has no phase and counts as Idle.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from belay_api.agentsubscription import AgentRef
from belay_api.conditions import Condition, conditions_field
from belay_api.delegation import ParentRef
from belay_api.resource import (
    NO_CONTROLS,
    SET,
    Column,
    Kind,
    ModelToolName,
    ObjectName,
    Part,
    Resource,
    Rule,
    ToolUseId,
    map_list,
    never_removed,
    unchanged,
)
from belay_api.usage import Usage

MAX_OPEN_CALLS = 64
"""Most tool calls of one answer."""
MAX_SERVING = 64
"""Most delegations that one session works on at once."""


class SessionPhase(StrEnum):
    """Where a session stands (DESIGN.md section 5)."""

    IDLE = "Idle"
    AWAITING = "Awaiting"
    EXECUTING = "Executing"


class Claim(Part):
    """Who drains the mailbox now; judged by the observer's clock, as every lease."""

    holder_identity: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="The process that drains it."
    )
    token: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="Epoch of the claim: random, another one for each claim."
    )
    renew_time: datetime = Field(description="When it was last renewed, by the holder's clock.")
    duration_seconds: int = Field(
        ge=1, le=3600, description="Seconds without a renewal, by the observer's clock, after which it may be taken."
    )


class OpenToolCall(Part):
    """A tool call of the last answer that the next round needs the response of."""

    id: ToolUseId = Field(description="The call, as the model named it; one is made up when it did not.")
    tool: ModelToolName = Field(description="Name of the tool.")
    started_time: datetime = Field(description="When it was handed to the tool; its timeout counts from here.")
    timeout_seconds: int | None = Field(
        default=None, ge=1, description="Seconds after which it is answered as timed out; unset: the tool ends itself."
    )
    delegation: ObjectName | None = Field(default=None, description="The Delegation whose end is the response.")
    permission_request: ObjectName | None = Field(
        default=None, description="The PermissionRequest that must be allowed first."
    )


class LastError(Part):
    """Why the last round came to nothing."""

    reason: Annotated[str, StringConstraints(max_length=64)] = Field(description="Why, in a word.")
    message: Annotated[str, StringConstraints(max_length=1024)] = Field(description="Why, in a sentence.")
    time: datetime = Field(description="When it was.")


class AgentSessionSpec(Part):
    """Whose conversation it is; only interruptRequest may change."""

    agent_ref: AgentRef = Field(description="The agent, of runtime Model.")
    parent_ref: ParentRef | None = Field(default=None, description="The delegation that it was opened for.")
    interrupt_request: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=NO_CONTROLS)] | None = (
        Field(default=None, description="Any new value cuts the running round short, once (L17).")
    )


class AgentSessionStatus(Part):
    """How the conversation goes; written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0, description="Generation this status was made for.")
    phase: SessionPhase | None = Field(default=None, description="Idle; Awaiting the model; Executing tools.")
    claim: Claim | None = Field(default=None, description="Who drains the mailbox, while Awaiting.")
    turns: int | None = Field(default=None, ge=0, description="Number of the last SessionTurn.")
    open_tool_calls: list[OpenToolCall] | None = Field(
        default=None,
        max_length=MAX_OPEN_CALLS,
        description="Calls of the last answer, while Executing, and while their responses are Awaiting the model.",
        json_schema_extra=map_list("id"),
    )
    executor: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="The process that runs the open calls; what it left undone is answered interrupted."
    )
    serving: list[ObjectName] | None = Field(
        default=None,
        max_length=MAX_SERVING,
        description="Delegations whose prompt has entered the conversation and that wait for its end.",
        json_schema_extra=SET,
    )
    usage: Usage | None = Field(default=None, description="What the session has spent.")
    progress: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="The end of the answer as it grows; unset when no answer is under way."
    )
    failed_message: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Uid of the message whose rounds failed last."
    )
    failed_rounds: int | None = Field(default=None, ge=0, description="How many of its rounds failed in a row.")
    last_error: LastError | None = Field(default=None, description="Why the last round came to nothing, if it did.")
    observed_interrupt_request: Annotated[str, StringConstraints(max_length=128)] | None = Field(
        default=None, description="The interruptRequest that was last acted on."
    )
    conditions: list[Condition] | None = conditions_field(
        "Blocked: mail waits, and why. AuthenticationRequired: the provider refused the key."
    )


class AgentSession(Kind):
    """An AgentSession is one conversation of a Model agent: mail goes in, turns come out, one half-step at a time."""

    RESOURCE: ClassVar[Resource] = Resource(
        kind="AgentSession",
        plural="agentsessions",
        short="bsess",
        columns=(
            Column("Agent", ".spec.agentRef.name"),
            Column("Phase", ".status.phase"),
            Column("Turns", ".status.turns", "integer"),
            Column("Calls", ".status.usage.calls", "integer"),
            Column("Error", ".status.lastError.reason"),
            Column("Tokens-In", ".status.usage.inputTokens", "integer", 1),
            Column("Tokens-Out", ".status.usage.outputTokens", "integer", 1),
            Column("Parent", ".spec.parentRef.name", "string", 1),
            Column("Holder", ".status.claim.holderIdentity", "string", 1),
            Column("Tool", ".status.openToolCalls[0].tool", "string", 1),
            Column("Doing", ".status.progress", "string", 1),
            Column("Message", ".status.lastError.message", "string", 1),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable=(".spec.agentRef.name", ".spec.parentRef.name", ".status.phase"),
        rules=(
            Rule("self.metadata.name.size() <= 63", "metadata.name: at most 63 characters, turns are named after it"),
            *unchanged("agentRef", "parentRef"),
            Rule(
                "!has(oldSelf.spec.interruptRequest) || has(self.spec.interruptRequest)",
                "spec.interruptRequest: can't be removed, write another value to interrupt again",
            ),
            never_removed("phase", "delete the session instead"),
            Rule(
                "!has(oldSelf.status) || !has(oldSelf.status.turns) || "
                "(has(self.status) && has(self.status.turns) && self.status.turns >= oldSelf.status.turns)",
                "status.turns only grows",
            ),
            Rule(
                "!has(self.status) || "
                "(has(self.status.phase) && self.status.phase == 'Awaiting') == has(self.status.claim)",
                "status.claim: there while Awaiting, and only then",
            ),
        ),
    )

    spec: AgentSessionSpec = Field(description="Whose conversation it is.")
    status: AgentSessionStatus | None = Field(default=None, description="How the conversation goes.")
