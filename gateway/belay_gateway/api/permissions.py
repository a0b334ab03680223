"""Permission requests: listed and decided by whoever RBAC lets write them, who is named as the one who decided."""

from belay_api.permissionrequest import PermissionRequest
from belay_gateway.api import models, operation, resources
from belay_gateway.api.objects import Listing, listed, patched, selected
from belay_gateway.api.operation import Answer, Call, Parts

_RESOURCE = PermissionRequest.RESOURCE
_COLLECTION = "/namespaces/{namespace}/permissionrequests"


async def listing(parts: Parts, call: Call[models.InNamespace, models.PermissionsQuery, None]) -> Answer:
    """As `kubectl get` with selectors."""
    return await listed(parts, call, Listing(_RESOURCE, selected(call.query.agent, call.query.phase)))


async def decide(parts: Parts, call: Call[models.Named, None, models.NewDecision]) -> Answer:
    """As `belay approve` and `belay deny`: once, and final."""
    decision = {**call.body.wire(), "decidedBy": call.user.name}
    return await patched(parts, call, _RESOURCE, {"decision": decision})


OPERATIONS = (
    operation.listing(
        "listPermissionRequests",
        _COLLECTION,
        "List permission requests, a page at a time.",
        listing,
        query=models.PermissionsQuery,
        answer=resources.PermissionRequests,
    ),
    operation.changing(
        "decidePermissionRequest",
        f"{_COLLECTION}/{{name}}/decide",
        "Allow or deny a tool, in the caller's name; a decision is final.",
        decide,
        body=models.NewDecision,
        answer=resources.PermissionRequest,
    ),
)
