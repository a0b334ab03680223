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
    """One right a process' account must have, in every namespace it works in or in its own."""

    verb: str
    resource: str
    group: str = GROUP
    subresource: str = ""
    own_namespace: bool = False
    namespaced: bool = True
    """Whether objects of it are in a namespace at all."""

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
        await kube.list(AGENTS, next(iter(kube.namespaces), None), limit="1")
    except NotFound:
        raise Permanent(f"the resources of {GROUP} aren't installed: kubectl apply -k manifests/") from None
    except Unauthorized as error:
        raise Permanent(f"the API server doesn't accept the token or certificate: {error.message}") from None
    except Forbidden as error:
        raise Permanent(f"missing permission: {error.message}") from None
    asked = [(need, place) for need in needs for place in _places(kube, need, namespace)]
    allowed = await asyncio.gather(*(_allowed(kube, need, place) for need, place in asked))
    missing = [f"{need}{_in(kube, place)}" for (need, place), ok in zip(asked, allowed, strict=True) if not ok]
    if missing:
        raise Permanent(f"missing permission: {', '.join(missing)}; grant them to the ServiceAccount of this process")


def _places(kube: Kube, need: Need, own: str) -> tuple[str | None, ...]:
    """Where a need must be met; None: everywhere at once."""
    if need.own_namespace:
        return (own,)
    return kube.namespaces if kube.namespaces and need.namespaced else (None,)


def _in(kube: Kube, place: str | None) -> str:
    return f" in {place}" if kube.namespaces and place else ""


async def _allowed(kube: Kube, need: Need, place: str | None) -> bool:
    attributes = {"verb": need.verb, "group": need.group, "resource": need.resource, "subresource": need.subresource}
    if place:
        attributes["namespace"] = place
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await kube.create(_SELF_REVIEWS, None, body)
    return bool((answer.get("status") or {}).get("allowed"))
