"""Agent: a named worker, where its work may come from and what happens when it falls."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from belay_api.conditions import Condition, conditions_field
from belay_api.resource import (
    ATOMIC_LIST,
    ATOMIC_MAP,
    SET,
    AgentName,
    Column,
    Kind,
    ModelToolName,
    ObjectName,
    Part,
    Resource,
    Rule,
    map_list,
)
from belay_api.usage import Usage


class Runtime(StrEnum):
    """What stands behind an agent's name."""

    CHANNEL = "Channel"
    MODEL = "Model"


class OnAgentLost(StrEnum):
    """What becomes of work whose session or agent is gone (DESIGN.md section 5, G10)."""

    CANCEL = "Cancel"
    REQUEUE = "Requeue"
    WAIT = "Wait"
    FAIL = "Fail"


class Subject(Part):
    """Who may attach as this agent, named as RBAC names subjects."""

    kind: Literal["User", "Group", "ServiceAccount"] = Field(description="Kind of the subject.")
    name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(description="Name of the subject.")
    namespace: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = Field(
        default=None, description="Namespace of a ServiceAccount; the agent's own when left out."
    )


class Timing(Part):
    """Times of this agent; what is left out comes from the DelegationSweeper, the environment or the default."""

    heartbeat_seconds: int | None = Field(
        default=None, ge=1, le=3600, description="Seconds between two renewals of a session's lease (15)."
    )
    stale_after_seconds: int | None = Field(
        default=None, ge=2, le=86400, description="Seconds without a renewal after which a session is stale (45)."
    )
    reconnect_grace_seconds: int | None = Field(
        default=None, ge=0, le=86400, description="Seconds a lost session may take to return (30)."
    )
    deadline_seconds: int | None = Field(
        default=None, ge=1, le=2592000, description="Seconds a delegation may take, all attempts together (21600)."
    )
    stuck_threshold_seconds: int | None = Field(
        default=None, ge=1, le=2592000, description="Seconds without a heartbeat after which work is Stuck (600)."
    )


class SecretKeyRef(Part):
    """One key of a Secret in the agent's namespace."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    name: ObjectName = Field(description="Name of the Secret.")
    key: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(description="Key inside the Secret.")


class ConfigMapKeyRef(Part):
    """One key of a ConfigMap in the agent's namespace."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="Key inside the ConfigMap."
    )


class Model(Part):
    """The language model that a Model agent's mailbox is drained into."""

    provider: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(description="Provider's name.")
    name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(description="Model's name.")
    max_tokens: int | None = Field(default=None, ge=1, le=1000000, description="Most tokens of one answer.")
    system: Annotated[str, StringConstraints(max_length=32768)] | None = Field(
        default=None, description="System prompt."
    )
    system_from: ConfigMapKeyRef | None = Field(
        default=None, description="Where the system prompt is read at each use, instead of `system`."
    )
    context_tokens: int | None = Field(
        default=None,
        ge=1000,
        le=10000000,
        description="Most tokens of a request; beyond it the oldest rounds are left out (150000).",
    )
    max_calls_per_session: int | None = Field(
        default=None,
        ge=1,
        le=1000000,
        description="Most answers in one session; beyond it mail waits. No limit when left out.",
    )
    timeout_seconds: int | None = Field(
        default=None, ge=1, le=3600, description="Seconds one answer may take, from request to last word (600)."
    )
    base_url: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        default=None, alias="baseURL", description="Address of the provider, when it isn't its own."
    )
    api_key_secret_ref: SecretKeyRef | None = Field(default=None, description="Where the API key is read at each use.")


class ToolPermission(StrEnum):
    """Whether a model may use a tool."""

    ALLOW = "Allow"
    DENY = "Deny"
    ASK = "Ask"


class AgentTool(Part):
    """A tool that a Model agent is given, and on what terms."""

    name: ModelToolName = Field(description="Name of the tool: delegate, or reply.")
    permission: ToolPermission = Field(
        default=ToolPermission.ALLOW, description="Allow; Deny; Ask: people decide on each use (PermissionRequest)."
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=2592000,
        description="Seconds after which a call is answered as timed out (600; delegate: the delegation's deadline).",
    )
    agents: list[AgentName] | None = Field(
        default=None,
        max_length=16,
        description="For delegate: the agents it may delegate to. Who names them needs the verb `delegate` on each.",
        json_schema_extra=SET,
    )


class AgentSpec(Part):
    """What people and Git say of an agent."""

    runtime: Runtime = Field(default=Runtime.CHANNEL, description="Channel: processes attach; Model: Belay drives it.")
    description: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="What this agent is good for, for people and for agents that look for help."
    )
    owners: list[Subject] | None = Field(
        default=None,
        max_length=64,
        description="Who may attach as this agent without the RBAC verb `attach`.",
        json_schema_extra=ATOMIC_LIST,
    )
    max_active_delegations: int = Field(
        default=1, ge=1, le=1000, description="Most delegations in hand at once; others are Queued."
    )
    on_agent_lost: OnAgentLost = Field(
        default=OnAgentLost.CANCEL, description="What becomes of work whose session or agent is gone."
    )
    timing: Timing | None = Field(default=None, description="Times that differ from the installation's.")
    model: Model | None = Field(default=None, description="The model; for runtime Model only.")
    tools: list[AgentTool] | None = Field(
        default=None,
        max_length=16,
        description="The model's tools; for runtime Model only. `reply` is there by itself.",
        json_schema_extra=map_list("name"),
    )
    suspend: bool = Field(default=False, description="Finish what runs, take nothing new.")
    allow_reentry: bool = Field(
        default=False,
        description="Whether it may be handed work below its own: below a delegation, by parentRef, that is to it too.",
    )


class AgentStatus(Part):
    """What the operator sees of an agent; written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0, description="Generation this status was made for.")
    routable: bool | None = Field(default=None, description="Whether a live session can take work.")
    live_sessions: int | None = Field(default=None, ge=0, description="Sessions attached now.")
    active_delegations: int | None = Field(default=None, ge=0, description="Delegations that hold a slot.")
    queued_delegations: int | None = Field(default=None, ge=0, description="Delegations that wait.")
    offline_since: datetime | None = Field(default=None, description="When the last live session went; unset if any.")
    timing: Timing | None = Field(default=None, description="The times in force.")
    usage: Usage | None = Field(default=None, description="What a Model agent's present sessions have spent together.")
    conditions: list[Condition] | None = conditions_field(
        "Ready: configuration accepted. Online: a session is attached, or Belay drives it."
    )


class Agent(Kind):
    """An Agent is a named worker: processes attached by socket, or a model that Belay drives itself."""

    RESOURCE: ClassVar[Resource] = Resource(
        kind="Agent",
        plural="agents",
        short="bagent",
        columns=(
            Column("Runtime", ".spec.runtime"),
            Column("Online", '.status.conditions[?(@.type=="Online")].status'),
            Column("Sessions", ".status.liveSessions", "integer"),
            Column("Active", ".status.activeDelegations", "integer"),
            Column("Queued", ".status.queuedDelegations", "integer"),
            Column("Max", ".spec.maxActiveDelegations", "integer", 1),
            Column("On-Lost", ".spec.onAgentLost", "string", 1),
            Column("Tokens-In", ".status.usage.inputTokens", "integer", 1),
            Column("Tokens-Out", ".status.usage.outputTokens", "integer", 1),
            Column("Offline-Since", ".status.offlineSince", "date", 1),
            Column("Description", ".spec.description", "string", 1),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable=(".spec.runtime",),
        rules=(
            Rule("self.metadata.name.size() <= 63", "metadata.name: at most 63 characters, rows are named after it"),
            Rule("!self.metadata.name.contains('.')", "metadata.name: no dots, use a-z, 0-9 and -"),
            Rule(
                "has(self.spec.model) == (self.spec.runtime == 'Model')",
                "spec.model: required for runtime Model, and for it only",
            ),
            Rule(
                "!has(self.spec.tools) || self.spec.runtime == 'Model'",
                "spec.tools: for runtime Model only; a process that attaches brings its own",
            ),
            Rule(
                "!has(self.spec.tools) || self.spec.tools.all(t, has(t.agents) == (t.name == 'delegate'))",
                "spec.tools: `agents` goes with the tool delegate, which needs it, and with no other",
            ),
            Rule(
                "!has(self.spec.model) || !(has(self.spec.model.system) && has(self.spec.model.systemFrom))",
                "spec.model: give system or systemFrom, not both",
            ),
            Rule(
                "!has(self.spec.timing) || "
                "(has(self.spec.timing.staleAfterSeconds) ? self.spec.timing.staleAfterSeconds : 45) >= "
                "2 * (has(self.spec.timing.heartbeatSeconds) ? self.spec.timing.heartbeatSeconds : 15)",
                "spec.timing: staleAfterSeconds must be at least 2 x heartbeatSeconds: one lost beat is no loss",
            ),
            Rule(
                "!has(self.spec.owners) || self.spec.owners.all(o, o.kind == 'ServiceAccount' || !has(o.namespace))",
                "spec.owners: namespace goes with kind ServiceAccount only",
            ),
        ),
    )

    spec: AgentSpec = Field(description="What people and Git say of the agent.")
    status: AgentStatus | None = Field(default=None, description="What the operator sees of the agent.")
