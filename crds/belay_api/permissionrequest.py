"""PermissionRequest: an agent asks people whether it may use a tool; the decision is made once and kept."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, StringConstraints

from belay_api.agentsubscription import AgentRef
from belay_api.resource import (
    ATOMIC_MAP,
    NO_CONTROLS,
    Column,
    Kind,
    ObjectName,
    Part,
    Resource,
    Rule,
    SessionId,
    kept_once,
    never_removed,
    unchanged,
)
from belay_api.transitions import Writer

MAX_OPEN_PERMISSIONS = 64
"""Most requests of one session that may wait for a decision at once."""
MAX_PREVIEW_CHARS = 4096
"""Most of what the tool would be given that a request shows."""

RequestId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")]
ToolName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_CONTROLS)]


class Behavior(StrEnum):
    """What was decided on a permission request."""

    ALLOW = "Allow"
    DENY = "Deny"


class PermissionPhase(StrEnum):
    """Where a request stands (DESIGN.md section 5); all but Pending are final."""

    PENDING = "Pending"
    ALLOWED = "Allowed"
    DENIED = "Denied"
    EXPIRED = "Expired"


SETTLED = frozenset({PermissionPhase.ALLOWED, PermissionPhase.DENIED, PermissionPhase.EXPIRED})
PERMISSION_ARROWS: dict[Writer, dict[PermissionPhase | None, frozenset[PermissionPhase]]] = {
    Writer.OPERATOR: {None: frozenset(PermissionPhase), PermissionPhase.PENDING: SETTLED},
    Writer.GATEWAY: {
        None: frozenset({PermissionPhase.EXPIRED}),
        PermissionPhase.PENDING: frozenset({PermissionPhase.EXPIRED}),
    },
}
"""Which process may take a request from where to where: the gateway only ends what its agent no longer asks."""


class DelegationRef(Part):
    """A Delegation of the same namespace."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    name: ObjectName = Field(description="Name of the Delegation.")


class Decision(Part):
    """What was decided, and by whom."""

    behavior: Behavior = Field(description="Allow or Deny.")
    reason: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="Why, in a sentence; the agent is told."
    )
    # Required by the admission policy and not here, because only the policy can tell callers their own name.
    decided_by: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=NO_CONTROLS)] | None = Field(
        default=None, description="Who decided. Required; must be the caller, but for Belay's own processes."
    )


class PermissionRequestSpec(Part):
    """What the agent asks; only the decision is added, once."""

    agent_ref: AgentRef = Field(description="The agent that asks.")
    session_id: SessionId = Field(description="The session that asks, and that is told the decision.")
    request_id: RequestId = Field(description="What the session calls the request; short, and may come again.")
    delegation_ref: DelegationRef | None = Field(
        default=None, description="The work it is asked for; the request expires with it."
    )
    tool: ToolName = Field(description="The tool the agent wants to use.")
    description: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="What the agent wants to do, in words."
    )
    input_preview: Annotated[str, StringConstraints(max_length=MAX_PREVIEW_CHARS)] | None = Field(
        default=None, description="What the tool would be given, or the beginning of it."
    )
    expires_after_seconds: int | None = Field(
        default=None,
        ge=1,
        le=2592000,
        description="Seconds after its creation at which it expires undecided (2592000).",
    )
    requested_time: datetime | None = Field(
        default=None, description="When it was asked; orders requests of one session that have the same id."
    )
    decision: Decision | None = Field(default=None, description="What was decided; set once, and final.")


class PermissionRequestStatus(Part):
    """Where it stands: written by the operator, ended by the gateway when the agent no longer asks."""

    observed_generation: int | None = Field(default=None, ge=0, description="Generation this status was made for.")
    phase: PermissionPhase | None = Field(default=None, description="Pending, Allowed, Denied or Expired.")
    reason: Annotated[str, StringConstraints(max_length=64)] | None = Field(default=None, description="Why, in a word.")
    message: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="Why, in a sentence."
    )
    completion_time: datetime | None = Field(default=None, description="When it was seen decided, or expired.")
    asked_again_time: datetime | None = Field(
        default=None, description="When the session asked the same again after another request with that id."
    )


def _in_phase(phase: PermissionPhase) -> str:
    return f"has(self.status) && has(self.status.phase) && self.status.phase == '{phase}'"


def _is_decided(phase: PermissionPhase, behavior: Behavior) -> Rule:
    return Rule(
        f"!({_in_phase(phase)}) || (has(self.spec.decision) && self.spec.decision.behavior == '{behavior}')",
        f"status.phase: {phase} needs spec.decision.behavior {behavior}",
    )


class PermissionRequest(Kind):
    """A PermissionRequest is an agent's question whether it may use a tool, and what people decided."""

    RESOURCE: ClassVar[Resource] = Resource(
        kind="PermissionRequest",
        plural="permissionrequests",
        short="bperm",
        columns=(
            Column("Agent", ".spec.agentRef.name"),
            Column("Session", ".spec.sessionId"),
            Column("Tool", ".spec.tool"),
            Column("Phase", ".status.phase"),
            Column("By", ".spec.decision.decidedBy"),
            Column("Id", ".spec.requestId", "string", 1),
            Column("Delegation", ".spec.delegationRef.name", "string", 1),
            Column("Description", ".spec.description", "string", 1),
            Column("Input", ".spec.inputPreview", "string", 1),
            Column("Reason", ".status.reason", "string", 1),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable=(
            ".spec.agentRef.name",
            ".spec.sessionId",
            ".spec.requestId",
            ".spec.delegationRef.name",
            ".status.phase",
        ),
        rules=(
            *unchanged(
                "agentRef",
                "sessionId",
                "requestId",
                "delegationRef",
                "tool",
                "description",
                "inputPreview",
                "expiresAfterSeconds",
                "requestedTime",
            ),
            Rule(
                "!has(oldSelf.spec.decision) || "
                "(has(self.spec.decision) && self.spec.decision == oldSelf.spec.decision)",
                "spec.decision is final: it can't be changed or taken back",
            ),
            Rule(
                f"!({_in_phase(PermissionPhase.EXPIRED)}) || !has(self.spec.decision)",
                "a request that has expired can't be decided, nor can one that was decided expire",
            ),
            _is_decided(PermissionPhase.ALLOWED, Behavior.ALLOW),
            _is_decided(PermissionPhase.DENIED, Behavior.DENY),
            never_removed("phase", "delete the request instead"),
            *(
                kept_once(SETTLED, field, f"status.{field} can't change once the request is Allowed, Denied or Expired")
                for field in ("phase", "reason", "message", "completionTime")
            ),
        ),
    )

    spec: PermissionRequestSpec = Field(description="What the agent asks, and what was decided.")
    status: PermissionRequestStatus | None = Field(default=None, description="Where it stands.")
