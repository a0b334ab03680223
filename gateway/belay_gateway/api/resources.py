"""Resources as answers have them: those of the Kubernetes API, in the same camelCase JSON; and pages of them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from belay_api.agent import AgentSpec, AgentStatus
from belay_api.agentsession import AgentSessionSpec, AgentSessionStatus
from belay_api.delegation import DelegationSpec, DelegationStatus
from belay_api.permissionrequest import PermissionRequestSpec, PermissionRequestStatus
from belay_api.resource import Part
from belay_api.sessionturn import SessionTurnSpec


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
