"""Delegations made in another's name: by HTTP for whoever asks, and on a socket for its user (DESIGN.md sections 3, 6).

The admission policy lets the gateway name a requester and doesn't ask for its verb `delegate`, so both are settled
here, for the one who asks. Everything else (the schema, topics, deadlines) the API server checks for a gateway too.
"""

from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from belay_api.actions import Delegate
from belay_api.delegation import Delegation, DelegationSpec, ParentRef
from belay_api.idempotency import keyed
from belay_api.messages import Ack, ErrorCode
from belay_api.meta import ANNOTATION_ASKED_BY, API_VERSION, VERB_DELEGATE
from belay_api.names import Ref
from belay_gateway.access import Access
from belay_gateway.attempts import FENCED
from belay_gateway.auth import User
from belay_gateway.held import is_held
from belay_gateway.presence import Presence
from belay_gateway.refused import Refused
from belay_gateway.sockets import Session
from belay_gateway.verdicts import Asker, Refusal
from belay_gateway.wanted import Wanted, perhaps_made
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.errors import KubeError, NotFound, Temporary, TooLarge, Unreachable
from belay_kube.once import KeyReused, create_once

_SENTENCE = 500


@dataclass(frozen=True, kw_only=True)
class Order(Wanted):
    """A delegation that is to be made: `spec` as the API server takes it."""

    spec: Json
    asked_by: str | None = None
    """`<agent>/<sessionId>` of the session whose socket asked."""

    def body(self) -> Json:
        """The resource, with a name that is made up when none is given."""
        named = {"name": self.name} if self.name else {"generateName": f"{self.spec['agentRef']['name']}-"}
        annotations = {ANNOTATION_ASKED_BY: self.asked_by} if self.asked_by else {}
        metadata = {**named, "labels": self.labels or {}, "annotations": annotations}
        return {"apiVersion": API_VERSION, "kind": Delegation.RESOURCE.kind, "metadata": metadata, "spec": self.spec}


@dataclass(frozen=True)
class Delegating:
    """Creates delegations for others, and carries out `delegate` of sockets."""

    kube: Kube
    access: Access
    presence: Presence
    gateway: str

    async def create(self, caller: User, order: Order) -> tuple[Json, bool]:
        """The delegation, and whether it was made just now (D5). Raises Refused, KeyReused, KubeError."""
        order.check_named_once()
        if order.spec.get("requester") not in (None, caller.name):
            sentence = f"spec.requester: is {order.spec['requester']} but the caller is {caller.name}; leave it out"
            raise Refused(ErrorCode.FORBIDDEN, sentence)
        await check_may_delegate(self.access, caller, Ref(order.namespace, order.spec["agentRef"]["name"]))
        order = replace(order, spec={**order.spec, "requester": caller.name})
        try:
            return await self._make(caller, order)
        except Unreachable as error:
            raise perhaps_made(error, order.key, order.name) from error

    async def _make(self, caller: User, order: Order) -> tuple[Json, bool]:
        if order.key is None:
            return await self.kube.create(DELEGATIONS, order.namespace, order.body()), True
        key = keyed(order.namespace, caller.name, order.key, order.body())
        return await create_once(self.kube, DELEGATIONS, order.namespace, order.body(), key)

    # --- a socket's action -------------------------------------------------------------------------------------

    async def delegate(self, session: Session, action: Delegate) -> Ack | Refusal:
        """The action `delegate`: as its user, and for the session, on whose topic the events are told."""
        try:
            made, _ = await self._delegate(session, action)
        except Refused as refused:
            return refused.refusal
        except KeyReused as reused:
            return Refusal(ErrorCode.INVALID, str(reused))
        except KubeError as error:
            return _refusal_of(error)
        return Ack(ref=action.ref, name=made["metadata"]["name"])

    async def _delegate(self, session: Session, action: Delegate) -> tuple[Json, bool]:
        if action.parent:
            await self._check_held(session, action.parent)
        order = Order(
            namespace=session.agent.namespace,
            spec=_spec(action),
            key=action.idempotency_key,
            asked_by=f"{session.agent.name}/{session.session_id}",
        )
        if not await self.presence.holds(session):
            raise Refused(FENCED.code, FENCED.message)
        return await self.create(session.user, order)

    async def _check_held(self, session: Session, parent: str) -> None:
        ref = Ref(session.agent.namespace, parent)
        asker = Asker(session.agent.name, session.session_id, self.gateway)
        try:
            held = is_held(await self.kube.get(DELEGATIONS, ref.namespace, ref.name), asker)
        except NotFound:
            held = False
        if not held:
            sentence = f"parent: this session doesn't hold {parent}: name a delegation that it has accepted"
            raise Refused(ErrorCode.NOT_HOLDER, sentence)


async def check_may_delegate(access: Access, user: User, agent: Ref) -> None:
    """What handing work to an agent needs: `create` on delegations, and the verb `delegate` on the agent (DESIGN.md
    section 3). Raises Refused, KubeError."""
    await access.check(user, "create", "delegations", agent.namespace)
    await access.check(user, VERB_DELEGATE, "agents", agent.namespace, agent.name)


def _spec(action: Delegate) -> Json:
    fields: dict[str, Any] = {
        "agentRef": {"name": action.agent},
        "task": {"prompt": action.prompt, "inputs": action.inputs},
        "sessionId": action.session_id,
        "topic": action.topic,
        "parentRef": ParentRef(name=action.parent).wire() if action.parent else None,
        "priority": action.priority,
        "deadlineSeconds": action.deadline_seconds,
    }
    try:
        spec = DelegationSpec.model_validate({key: value for key, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(ErrorCode.INVALID, f"spec.{where}: {first['msg']}"[:_SENTENCE]) from None
    return spec.wire()


def _refusal_of(error: KubeError) -> Refusal:
    """What a socket is told of an answer of the API server to a create."""
    match error:
        case Temporary():
            return Refusal(ErrorCode.UNAVAILABLE, f"not made, try again: {error.said or 'no answer'}"[:_SENTENCE])
        case TooLarge():
            return Refusal(ErrorCode.TOO_LARGE, "too large to be stored: put it where the agent can read it")
        case _:
            code = ErrorCode.FORBIDDEN if error.status == 403 else ErrorCode.INVALID
            return Refusal(code, (error.said or error.message)[:_SENTENCE])
