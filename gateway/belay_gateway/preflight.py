"""Before the first socket: is this cluster one the gateway can work in? Each lack is named in one line."""

import asyncio
from dataclasses import dataclass

from belay_api.meta import GROUP
from belay_kube.client import AGENTS, Collection, Kube
from belay_kube.errors import Forbidden, KubeError, NotFound, Permanent

_SELF_REVIEWS = Collection("apis/authorization.k8s.io/v1", "selfsubjectaccessreviews")


@dataclass(frozen=True)
class Need:
    """One right the gateway's account must have."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    own_namespace: bool = False

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {resource} ({self.group})"


NEEDS = (
    *(Need(verb, GROUP, "agents") for verb in ("get", "list", "watch")),
    *(Need(verb, GROUP, "agentsubscriptions") for verb in ("get", "list", "watch", "create")),
    Need("patch", GROUP, "agentsubscriptions", "status"),
    *(Need(verb, GROUP, "delegations") for verb in ("get", "list", "watch")),
    Need("patch", GROUP, "delegations", "status"),
    Need("create", "authentication.k8s.io", "tokenreviews"),
    Need("create", "authorization.k8s.io", "subjectaccessreviews"),
    Need("create", "events.k8s.io", "events"),
    *(Need(verb, "coordination.k8s.io", "leases", own_namespace=True) for verb in ("create", "patch")),
)


async def preflight(kube: Kube, namespace: str) -> None:
    """Raises KubeError whose message is one line that says what to do."""
    try:
        await kube.list(AGENTS, limit="1")
    except NotFound:
        raise Permanent(f"the resources of {GROUP} aren't installed: kubectl apply -k manifests/") from None
    except Forbidden as error:
        raise Permanent(f"missing permission: {error.message}") from None
    allowed = await asyncio.gather(*(_allowed(kube, need, namespace) for need in NEEDS))
    missing = [str(need) for need, ok in zip(NEEDS, allowed, strict=True) if not ok]
    if missing:
        raise Permanent(f"missing permission: {', '.join(missing)}; grant them to the gateway's ServiceAccount")


async def _allowed(kube: Kube, need: Need, namespace: str) -> bool:
    attributes = {"verb": need.verb, "group": need.group, "resource": need.resource, "subresource": need.subresource}
    if need.own_namespace:
        attributes["namespace"] = namespace
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = await kube.create(_SELF_REVIEWS, None, body)
    except Forbidden as error:
        raise KubeError(f"can't ask for permissions: {error.message}") from None
    return bool((answer.get("status") or {}).get("allowed"))
