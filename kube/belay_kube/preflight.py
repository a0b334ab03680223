"""Before a process begins: is this cluster one it can work in? Each lack is named in one line, with what to do."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from belay_api.meta import GROUP
from belay_kube.client import AGENTS, Collection, Kube
from belay_kube.errors import Forbidden, NotFound, Permanent, Unauthorized

_SELF_REVIEWS = Collection("apis/authorization.k8s.io/v1", "selfsubjectaccessreviews")


@dataclass(frozen=True)
class Need:
    """One right a process' account must have, in every namespace or in the process' own."""

    verb: str
    resource: str
    group: str = GROUP
    subresource: str = ""
    own_namespace: bool = False

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {resource} ({self.group})"


def reading(*resources: str) -> tuple[Need, ...]:
    """The needs of who lists and watches resources of ours."""
    return tuple(Need(verb, resource) for resource in resources for verb in ("get", "list", "watch"))


def writing_status(*resources: str) -> tuple[Need, ...]:
    """The needs of who writes the status of resources of ours."""
    return tuple(Need("patch", resource, subresource="status") for resource in resources)


def leases(*verbs: str) -> tuple[Need, ...]:
    """The needs of who keeps Leases in its own namespace."""
    return tuple(Need(verb, "leases", "coordination.k8s.io", own_namespace=True) for verb in verbs)


async def preflight(kube: Kube, namespace: str, needs: Sequence[Need]) -> None:
    """See that the API server answers, knows us, has our definitions and allows `needs`.

    Raises KubeError whose message is one line: which address, credential, definition or permission is at fault.
    """
    try:
        await kube.list(AGENTS, limit="1")
    except NotFound:
        raise Permanent(f"the resources of {GROUP} aren't installed: kubectl apply -k manifests/") from None
    except Unauthorized as error:
        raise Permanent(f"the API server doesn't accept the token or certificate: {error.message}") from None
    except Forbidden as error:
        raise Permanent(f"missing permission: {error.message}") from None
    allowed = await asyncio.gather(*(_allowed(kube, need, namespace) for need in needs))
    missing = [str(need) for need, ok in zip(needs, allowed, strict=True) if not ok]
    if missing:
        raise Permanent(f"missing permission: {', '.join(missing)}; grant them to the ServiceAccount of this process")


async def _allowed(kube: Kube, need: Need, namespace: str) -> bool:
    attributes = {"verb": need.verb, "group": need.group, "resource": need.resource, "subresource": need.subresource}
    if need.own_namespace:
        attributes["namespace"] = namespace
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await kube.create(_SELF_REVIEWS, None, body)
    return bool((answer.get("status") or {}).get("allowed"))
