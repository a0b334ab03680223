"""The bodies of requests and answers; resources are those of the Kubernetes API, in the same camelCase JSON."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, create_model, model_validator

from belay_api.agent import AgentSpec, AgentStatus
from belay_api.agentsession import AgentSessionSpec, AgentSessionStatus
from belay_api.agentsubscription import AgentRef
from belay_api.delegation import DelegationSpec, DelegationStatus, Progress, Result
from belay_api.frames import MAX_FRAME_BYTES
from belay_api.idempotency import KEY_CHARS, MAX_KEY_CHARS
from belay_api.pendingmessage import MAX_CONTENT_BYTES
from belay_api.permissionrequest import Behavior, PermissionPhase, PermissionRequestSpec, PermissionRequestStatus
from belay_api.resource import AgentName, ObjectName, Part, SessionId
from belay_api.sessionturn import SessionTurnSpec
from belay_api.transitions import Phase
from belay_gateway.settings import Whole

MAX_BODY_BYTES = MAX_FRAME_BYTES
MAX_PAGE = 100
MAX_TURNS = 20
"""Turns of a page: each may be a megabyte."""
TOPIC_CHARS = 253
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")

NamespaceName = Annotated[
    str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
Key = Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY_CHARS, pattern=f"^{KEY_CHARS}+$")]
LabelValue = Annotated[str, StringConstraints(max_length=63)]


def _plain(text: str) -> str:
    if _CONTROLS.search(text):
        raise ValueError("control characters aren't allowed")
    return text


TopicName = Annotated[str, StringConstraints(min_length=1, max_length=TOPIC_CHARS), AfterValidator(_plain)]


# --- resources -----------------------------------------------------------------------------------------------------


class Metadata(BaseModel):
    """What Kubernetes keeps of every object; more fields than these may come."""

    model_config = ConfigDict(extra="allow")

    name: str
    namespace: str
    uid: str
    resourceVersion: str  # noqa: N815 - Kubernetes' own name
    creationTimestamp: str  # noqa: N815
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Object(Part):
    """A resource as Kubernetes has it."""

    api_version: Literal["belay.dev/v1alpha1"]
    metadata: Metadata


def _without(name: str, model: type[Part], left_out: str, doc: str) -> type[Part]:
    """The same model without one field."""
    fields: dict[str, Any] = {key: (each.annotation, each) for key, each in model.model_fields.items()}
    del fields[left_out]
    return create_model(name, __base__=Part, __doc__=doc, **fields)


class Delegation(Object):
    """One task handed to one agent."""

    kind: Literal["Delegation"]
    spec: DelegationSpec
    status: DelegationStatus | None = None


class Agent(Object):
    """A named worker."""

    kind: Literal["Agent"]
    spec: AgentSpec
    status: AgentStatus | None = None


class PermissionRequest(Object):
    """An agent's question whether it may use a tool, and what was decided."""

    kind: Literal["PermissionRequest"]
    spec: PermissionRequestSpec
    status: PermissionRequestStatus | None = None


class AgentSession(Object):
    """One conversation of a Model agent."""

    kind: Literal["AgentSession"]
    spec: AgentSessionSpec
    status: AgentSessionStatus | None = None


class SessionTurn(Object):
    """What was read and what was said in one turn of a conversation."""

    kind: Literal["SessionTurn"]
    spec: SessionTurnSpec


class Page(Part):
    """A part of a list; `continue` in the query, with the value given here, brings the next."""

    next: str | None = Field(default=None, alias="continue", description="Unset on the last page.")


ListedSpec = _without("ListedSpec", DelegationSpec, "task", "What was asked; a list leaves `task` out.")
ListedStatus = _without("ListedStatus", DelegationStatus, "result", "How it goes; a list leaves `result` out.")


class ListedDelegation(Object):
    """A delegation as lists have it: without its task and its result, which may be long; read it for those."""

    kind: Literal["Delegation"]
    spec: ListedSpec  # type: ignore[valid-type]
    status: ListedStatus | None = None  # type: ignore[valid-type]


class Delegations(Page):
    """Delegations, by name."""

    items: list[ListedDelegation]


class Agents(Page):
    """Agents, by name."""

    items: list[Agent]


class PermissionRequests(Page):
    """Permission requests, by name."""

    items: list[PermissionRequest]


class AgentSessions(Page):
    """Conversations, by name."""

    items: list[AgentSession]


class SessionTurns(Page):
    """Turns, in the order of the conversation."""

    items: list[SessionTurn]


# --- requests ------------------------------------------------------------------------------------------------------


class NewMetadata(Part):
    """Name and labels of what is to be made."""

    name: ObjectName | None = Field(default=None, description="Made up when left out.")
    namespace: NamespaceName | None = Field(default=None, description="The path's, or left out.")
    labels: dict[str, LabelValue] | None = Field(default=None, max_length=32)


class NewDelegation(Part):
    """A Delegation as `kubectl create` takes it."""

    api_version: Literal["belay.dev/v1alpha1"] = "belay.dev/v1alpha1"
    kind: Literal["Delegation"] = "Delegation"
    metadata: NewMetadata = Field(default_factory=NewMetadata)
    spec: DelegationSpec


class NewSessionSpec(Part):
    """Whose conversation it is to be."""

    agent_ref: AgentRef = Field(description="The agent, of runtime Model.")


class NewSession(Part):
    """An AgentSession as `kubectl create` takes it."""

    api_version: Literal["belay.dev/v1alpha1"] = "belay.dev/v1alpha1"
    kind: Literal["AgentSession"] = "AgentSession"
    metadata: NewMetadata = Field(default_factory=NewMetadata)
    spec: NewSessionSpec


class NewMessage(Part):
    """What is said to a session."""

    content: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CONTENT_BYTES)] = Field(
        description="At most 64 KiB of UTF-8."
    )
    bounce_back: bool = Field(
        default=False, description="When the model can't be reached: true returns it (Bounced), false tries it again."
    )


class MessageSent(Part):
    """A message that is in the mailbox, or was read."""

    name: str = Field(description="Of the PendingMessage, which is deleted once it was read.")
    uid: str = Field(description="Its uid, which the turn lists that reads it.")
    turn: int | None = Field(default=None, description="The turn that has read it.")


class OnAttempt(Part):
    """Which session speaks, and of which attempt: it must have a socket, and be the caller's."""

    agent: AgentName
    session_id: SessionId
    attempt: int = Field(ge=1, le=2**31 - 1)


class Beat(OnAttempt):
    """Still at it."""


class ProgressReport(OnAttempt):
    """How far it is; counts as a beat."""

    progress: Progress


class Reply(OnAttempt):
    """The end of the work: its result, or the sentence that says why it was given up."""

    result: Result | None = None
    failure: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.result is None) == (self.failure is None):
            raise ValueError("give either result or failure")
        return self


class Message(Part):
    """A transient word to those who listen now; kept nowhere."""

    body: Any = Field(description="Any JSON.")


class Sent(Part):
    """A broadcast that was sent; whoever hears it hears this id."""

    id: str


class NewDecision(Part):
    """What is decided on a permission request; once, and final."""

    behavior: Behavior
    reason: Annotated[str, StringConstraints(max_length=1024)] | None = None


# --- queries and headers -------------------------------------------------------------------------------------------


class Query(BaseModel):
    """Unknown parameters are refused: a filter that is misspelt must not look like one that matched everything."""

    model_config = ConfigDict(extra="forbid")


class Paging(Query):
    """Which part of a list."""

    limit: Whole = Field(default=MAX_PAGE, ge=1, le=MAX_PAGE, description="Most objects of a page; there may be fewer.")
    next: str | None = Field(
        default=None, alias="continue", min_length=1, max_length=2048, description="Given with the page before."
    )


class DelegationsQuery(Paging):
    """Which delegations."""

    agent: AgentName | None = None
    phase: Phase | None = None
    topic: TopicName | None = None


class PermissionsQuery(Paging):
    """Which permission requests."""

    agent: AgentName | None = None
    phase: PermissionPhase | None = None


class SessionsQuery(Paging):
    """Which conversations."""

    agent: AgentName | None = None


class TurnsQuery(Paging):
    """Which part of a conversation."""

    limit: Whole = Field(default=MAX_TURNS, ge=1, le=MAX_TURNS, description="Most turns of a page.")


class CreateHeaders(BaseModel):
    """Headers of a create."""

    idempotency_key: Key | None = Field(
        default=None,
        alias="Idempotency-Key",
        description="The same key and body make one object; the same key and another body are refused.",
    )


class InNamespace(BaseModel):
    """Path of a collection."""

    namespace: NamespaceName


class Named(InNamespace):
    """Path of an object."""

    name: ObjectName


class NamedAgent(InNamespace):
    """Path of an agent."""

    name: AgentName


class NamedSession(NamedAgent):
    """Path of a session."""

    session: SessionId


class NamedTopic(InNamespace):
    """Path of a topic; a slash in it is written %2F."""

    topic: TopicName
