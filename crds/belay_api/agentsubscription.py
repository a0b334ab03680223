"""AgentSubscription: the presence of one session; its status is a lease."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, StringConstraints

from belay_api.resource import (
    ATOMIC_MAP,
    AgentName,
    Column,
    Kind,
    Part,
    Resource,
    Rule,
    SessionId,
    never_removed,
    unchanged,
)
from belay_api.transitions import Writer


class SubscriptionPhase(StrEnum):
    """Where a session's lease stands (DESIGN.md section 5)."""

    LIVE = "Live"
    DISCONNECTED = "Disconnected"
    EXPIRED = "Expired"


ROW_ARROWS: dict[Writer, dict[SubscriptionPhase | None, frozenset[SubscriptionPhase]]] = {
    Writer.OPERATOR: {
        None: frozenset({SubscriptionPhase.EXPIRED}),
        SubscriptionPhase.LIVE: frozenset({SubscriptionPhase.DISCONNECTED, SubscriptionPhase.EXPIRED}),
        SubscriptionPhase.DISCONNECTED: frozenset({SubscriptionPhase.EXPIRED}),
    },
    Writer.GATEWAY: {
        None: frozenset({SubscriptionPhase.LIVE, SubscriptionPhase.DISCONNECTED}),
        SubscriptionPhase.LIVE: frozenset({SubscriptionPhase.LIVE, SubscriptionPhase.DISCONNECTED}),
        SubscriptionPhase.DISCONNECTED: frozenset({SubscriptionPhase.LIVE, SubscriptionPhase.DISCONNECTED}),
        SubscriptionPhase.EXPIRED: frozenset({SubscriptionPhase.LIVE}),
    },
}
"""Which process may take a row from where to where (DESIGN.md section 3); the gateway's Live to Live is a renewal."""


class AgentRef(Part):
    """An Agent of the same namespace."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    name: AgentName = Field(description="Name of the Agent.")


class AgentSubscriptionSpec(Part):
    """Which session of which agent; never changes."""

    agent_ref: AgentRef = Field(description="The agent the session is attached as.")
    session_id: SessionId = Field(description="The session, as its client named it.")


class AgentSubscriptionStatus(Part):
    """The lease: written by the gateway that holds the socket; Expired by the operator."""

    phase: SubscriptionPhase | None = Field(default=None, description="Live, Disconnected or Expired.")
    holder_identity: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="Gateway process that holds the socket; the name of its Lease."
    )
    token: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Epoch of the lease: random, new at each takeover, not a secret."
    )
    user: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Who attached; only the same user may take the session over."
    )
    acquire_time: datetime | None = Field(default=None, description="When this epoch began.")
    renew_time: datetime | None = Field(default=None, description="When the gateway last renewed it.")
    disconnected_time: datetime | None = Field(default=None, description="When the session was lost.")
    transitions: int | None = Field(default=None, ge=0, description="How often the lease changed hands.")
    reason: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Why the session isn't live."
    )
    unresponsive: bool | None = Field(
        default=None, description="Whether it has work it doesn't answer for, so that nothing new is offered to it."
    )


class AgentSubscription(Kind):
    """An AgentSubscription is the presence of one session of an agent: a lease that its gateway renews."""

    RESOURCE: ClassVar[Resource] = Resource(
        kind="AgentSubscription",
        plural="agentsubscriptions",
        short="bsub",
        columns=(
            Column("Agent", ".spec.agentRef.name"),
            Column("Session", ".spec.sessionId"),
            Column("Phase", ".status.phase"),
            Column("Reason", ".status.reason"),
            Column("Renewed", ".status.renewTime", "date"),
            Column("User", ".status.user", "string", 1),
            Column("Gateway", ".status.holderIdentity", "string", 1),
            Column("Transitions", ".status.transitions", "integer", 1),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable=(".spec.agentRef.name", ".spec.sessionId", ".status.phase", ".status.holderIdentity"),
        rules=(
            *unchanged("agentRef", "sessionId"),
            never_removed("phase", "delete the row instead"),
            never_removed("token", "it fences the session"),
            never_removed("user", "it says who may take the session over"),
            Rule(
                "!has(oldSelf.status) || !has(oldSelf.status.user) || !has(self.status) || !has(self.status.user) || "
                "self.status.user == oldSelf.status.user",
                "status.user can't change: only who attached may take the session over",
            ),
        ),
    )

    spec: AgentSubscriptionSpec = Field(description="Which session of which agent.")
    status: AgentSubscriptionStatus | None = Field(default=None, description="The lease.")
