"""What requests carry: bodies, queries, headers and the names in paths; and the few answers that are no resource."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from belay_api.agentsubscription import AgentRef
from belay_api.delegation import DelegationSpec, Progress, Result
from belay_api.frames import MAX_FRAME_BYTES
from belay_api.idempotency import KEY_CHARS, MAX_KEY_CHARS
from belay_api.pendingmessage import MAX_CONTENT_BYTES
from belay_api.permissionrequest import Behavior, PermissionPhase
from belay_api.resource import AgentName, ObjectName, Part, SessionId
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
