"""Delegations: created in the caller's name, read, and ended by asking for it (DESIGN.md sections 5 and 6)."""

from http import HTTPStatus

from belay_api.delegation import Delegation, DesiredState
from belay_gateway.api import models, operation, resources
from belay_gateway.api.objects import Listing, check_namespace, got, listed, patched, selected, shown
from belay_gateway.api.operation import Answer, Call, Parts
from belay_gateway.delegating import Order
from belay_kube.client import Json

_RESOURCE = Delegation.RESOURCE
_COLLECTION = "/namespaces/{namespace}/delegations"
_ONE = _COLLECTION + "/{name}"


async def create(parts: Parts, call: Call[models.InNamespace, None, models.NewDelegation]) -> Answer:
    """201 when it was made, 200 when the idempotency key had made it before (D5)."""
    meta, namespace = call.body.metadata, call.where.namespace
    check_namespace(meta, namespace)
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
    return await got(parts, call, _RESOURCE)


async def listing(parts: Parts, call: Call[models.InNamespace, models.DelegationsQuery, None]) -> Answer:
    """As `kubectl get` with selectors, without tasks and results; a topic is looked for in each page, which may have
    fewer objects for it."""
    topic = call.query.topic

    def matches(item: Json) -> bool:
        return topic is None or item["spec"].get("topic") == topic

    return await listed(parts, call, Listing(_RESOURCE, selected(call.query.agent, call.query.phase), matches, _brief))


def _brief(item: Json) -> Json:
    """Without what may be long: a page of those could be as large as all memory there is."""
    brief = {**shown(item), "spec": {key: value for key, value in item["spec"].items() if key != "task"}}
    if "status" in item:
        brief["status"] = {key: value for key, value in item["status"].items() if key != "result"}
    return brief


async def cancel(parts: Parts, call: Call[models.Named, None, None]) -> Answer:
    """As `belay cancel`: a request, whose proof comes in the conditions (D9)."""
    return await patched(parts, call, _RESOURCE, {"desiredState": DesiredState.CANCELLED})


OPERATIONS = (
    operation.creating(
        "createDelegation",
        _COLLECTION,
        "Hand a task to an agent, in the caller's name.",
        create,
        body=models.NewDelegation,
        answer=resources.Delegation,
    ),
    operation.listing(
        "listDelegations",
        _COLLECTION,
        "List delegations, a page at a time.",
        listing,
        query=models.DelegationsQuery,
        answer=resources.Delegations,
    ),
    operation.reading("getDelegation", _ONE, "Read a delegation.", read, answer=resources.Delegation),
    operation.changing(
        "cancelDelegation",
        f"{_ONE}/cancel",
        "Ask for the end of a delegation, and of those that are part of it.",
        cancel,
        answer=resources.Delegation,
    ),
)
