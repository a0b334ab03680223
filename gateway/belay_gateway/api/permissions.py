"""Permission requests: listed and decided by whoever RBAC lets write them, who is named as the one who decided."""

from http import HTTPStatus

from belay_api.permissionrequest import PermissionPhase, PermissionRequest
from belay_gateway.api import models
from belay_gateway.api.operation import Answer, Call, Listing, Operation, Parts, listed, shown
from belay_kube.client import belay

_RESOURCE = PermissionRequest.RESOURCE
_REQUESTS = belay(_RESOURCE.plural)
_COLLECTION = "/namespaces/{namespace}/permissionrequests"


async def listing(parts: Parts, call: Call[models.InNamespace, models.PermissionsQuery, None]) -> Answer:
    """As `kubectl get` with selectors."""
    await parts.check(call.user, "list", _RESOURCE.plural, call.where.namespace)
    return await listed(parts, Listing(_RESOURCE, call.where.namespace, _selection(call.query)), call.query)


def _selection(query: models.PermissionsQuery) -> dict[str, str]:
    fields = [f"spec.agentRef.name={query.agent}"] if query.agent else []
    match query.phase:
        case None:
            pass
        case PermissionPhase.PENDING:  # also those without a status
            fields += [f"status.phase!={phase}" for phase in PermissionPhase if phase != PermissionPhase.PENDING]
        case phase:
            fields.append(f"status.phase={phase}")
    return {"fieldSelector": ",".join(fields)} if fields else {}


async def decide(parts: Parts, call: Call[models.Named, None, models.NewDecision]) -> Answer:
    """As `belay approve` and `belay deny`: once, and final."""
    namespace, name = call.where.namespace, call.where.name
    await parts.check(call.user, "patch", _RESOURCE.plural, namespace, name)
    decision = {**call.body.wire(), "decidedBy": call.user.name}
    return Answer(shown(await parts.kube.patch(_REQUESTS, namespace, name, {"spec": {"decision": decision}})))


OPERATIONS = (
    Operation(
        name="listPermissionRequests",
        method="GET",
        path=_COLLECTION,
        summary="List permission requests, a page at a time.",
        carry=listing,
        where=models.InNamespace,
        query=models.PermissionsQuery,
        answers={HTTPStatus.OK: models.PermissionRequests},
        refusals=frozenset({HTTPStatus.GONE}),
    ),
    Operation(
        name="decidePermissionRequest",
        method="POST",
        path=f"{_COLLECTION}/{{name}}/decide",
        summary="Allow or deny a tool, in the caller's name; a decision is final.",
        carry=decide,
        where=models.Named,
        body=models.NewDecision,
        answers={HTTPStatus.OK: models.PermissionRequest},
        refusals=frozenset({HTTPStatus.CONFLICT}),
    ),
)
