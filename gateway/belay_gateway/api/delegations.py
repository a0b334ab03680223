"""Delegations: created in the caller's name, read, and ended by asking for it (DESIGN.md sections 5 and 6)."""

from http import HTTPStatus

from belay_api.delegation import Delegation, DesiredState
from belay_api.transitions import Phase
from belay_gateway.api import models
from belay_gateway.api.operation import Answer, Call, Listing, Operation, Parts, listed, shown
from belay_gateway.api.problems import BadRequest
from belay_gateway.delegating import Order
from belay_kube.client import DELEGATIONS, Json

_RESOURCE = Delegation.RESOURCE
_COLLECTION = "/namespaces/{namespace}/delegations"
_ONE = _COLLECTION + "/{name}"


async def create(parts: Parts, call: Call[models.InNamespace, None, models.NewDelegation]) -> Answer:
    """201 when it was made, 200 when the idempotency key had made it before (D5)."""
    meta, namespace = call.body.metadata, call.where.namespace
    if meta.namespace not in (None, namespace):
        detail = f"metadata.namespace: is {meta.namespace} but the path's is {namespace}; leave it out"
        raise BadRequest(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    order = Order(
        namespace=namespace,
        spec=call.body.spec.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True),
        name=meta.name,
        key=call.headers.idempotency_key,
        labels=meta.labels,
    )
    made, is_new = await parts.delegating.create(call.user, order)
    return Answer(shown(made), HTTPStatus.CREATED if is_new else HTTPStatus.OK)


async def read(parts: Parts, call: Call[models.Named, None, None]) -> Answer:
    """As `kubectl get`."""
    namespace, name = call.where.namespace, call.where.name
    await parts.check(call.user, "get", _RESOURCE.plural, namespace, name)
    return Answer(shown(await parts.kube.get(DELEGATIONS, namespace, name)))


async def listing(parts: Parts, call: Call[models.InNamespace, models.DelegationsQuery, None]) -> Answer:
    """As `kubectl get` with selectors, without tasks and results; a topic is looked for in each page, which may have
    fewer objects for it."""
    await parts.check(call.user, "list", _RESOURCE.plural, call.where.namespace)
    topic = call.query.topic

    def matches(item: Json) -> bool:
        return topic is None or item["spec"].get("topic") == topic

    wanted = Listing(_RESOURCE, call.where.namespace, _selection(call.query), matches)
    return await listed(parts, wanted, call.query, _brief)


def _brief(item: Json) -> Json:
    """Without what may be long: a page of those could be as large as all memory there is."""
    brief = {**shown(item), "spec": {key: value for key, value in item["spec"].items() if key != "task"}}
    if "status" in item:
        brief["status"] = {key: value for key, value in item["status"].items() if key != "result"}
    return brief


def _selection(query: models.DelegationsQuery) -> dict[str, str]:
    fields = [f"spec.agentRef.name={query.agent}"] if query.agent else []
    match query.phase:
        case None:
            pass
        case Phase.PENDING:  # also those without a status, which match only what isn't asked for
            fields += [f"status.phase!={phase}" for phase in Phase if phase != Phase.PENDING]
        case phase:
            fields.append(f"status.phase={phase}")
    return {"fieldSelector": ",".join(fields)} if fields else {}


async def cancel(parts: Parts, call: Call[models.Named, None, None]) -> Answer:
    """As `belay cancel`: a request, whose proof comes in the conditions (D9)."""
    namespace, name = call.where.namespace, call.where.name
    await parts.check(call.user, "patch", _RESOURCE.plural, namespace, name)
    wanted: Json = {"spec": {"desiredState": DesiredState.CANCELLED}}
    return Answer(shown(await parts.kube.patch(DELEGATIONS, namespace, name, wanted)))


OPERATIONS = (
    Operation(
        name="createDelegation",
        method="POST",
        path=_COLLECTION,
        summary="Hand a task to an agent, in the caller's name.",
        carry=create,
        where=models.InNamespace,
        headers=models.CreateHeaders,
        body=models.NewDelegation,
        answers={HTTPStatus.CREATED: models.Delegation, HTTPStatus.OK: models.Delegation},
        refusals=frozenset({HTTPStatus.CONFLICT}),
    ),
    Operation(
        name="listDelegations",
        method="GET",
        path=_COLLECTION,
        summary="List delegations, a page at a time.",
        carry=listing,
        where=models.InNamespace,
        query=models.DelegationsQuery,
        answers={HTTPStatus.OK: models.Delegations},
        refusals=frozenset({HTTPStatus.GONE}),
    ),
    Operation(
        name="getDelegation",
        method="GET",
        path=_ONE,
        summary="Read a delegation.",
        carry=read,
        where=models.Named,
        answers={HTTPStatus.OK: models.Delegation},
    ),
    Operation(
        name="cancelDelegation",
        method="POST",
        path=f"{_ONE}/cancel",
        summary="Ask for the end of a delegation, and of those that are part of it.",
        carry=cancel,
        where=models.Named,
        answers={HTTPStatus.OK: models.Delegation},
        refusals=frozenset({HTTPStatus.CONFLICT}),
    ),
)
