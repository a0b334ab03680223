"""Before a process begins: is this cluster one it can work in? Each lack is named in one line, with what to do."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from belay_api.meta import GROUP, VERSION
from belay_kube.client import Collection, Kube
from belay_kube.errors import Forbidden, KubeError, NotFound, Permanent, Unauthorized

_DISCOVERY = Collection(f"apis/{GROUP}", VERSION)
_WHOAMI = Collection("apis/authentication.k8s.io/v1", "selfsubjectreviews")
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


async def preflight(kube: Kube, namespace: str, needs: Sequence[Need], role: str) -> None:
    """See that the API server answers, knows us, has our definitions and allows `needs`.

    Args:
        kube: in the namespaces that this process works in.
        namespace: its own.
        needs: all that it will ask for.
        role: how the chart's roles that hold them are called.

    Raises KubeError whose message is one line: which address, credential, definition or permission is at fault.
    """
    try:
        await _see_definitions(kube, needs)
        asked = [(need, place) for need in needs for place in _places(kube, need, namespace)]
        allowed = await asyncio.gather(*(_allowed(kube, need, place) for need, place in asked))
    except Unauthorized as error:
        raise Permanent(await _refusal(kube, error)) from None
    missing = [f"{need}{_in(kube, place)}" for (need, place), ok in zip(asked, allowed, strict=True) if not ok]
    if missing:
        raise Permanent(
            f"missing permission: {', '.join(missing)}; grant them to {await _me(kube)}: the chart's roles {role} hold "
            "them (rbac.create: true, or kubectl apply -k manifests/), bound to the ServiceAccount of this process"
        )


async def _see_definitions(kube: Kube, needs: Sequence[Need]) -> None:
    """Raises Permanent when some are missing. Who may not discover what there is hears of it from the first list."""
    try:
        found = {each["name"] for each in (await kube.list(_DISCOVERY))["resources"]}
    except Forbidden:
        return
    except NotFound:
        found = set()
    missing = sorted({need.resource for need in needs if need.group == GROUP} - found)
    if missing:
        which = f"{', '.join(missing)} of {GROUP}" if found else f"the resources of {GROUP}"
        raise Permanent(f"{which} aren't installed at {kube.address}: kubectl apply -k manifests/, or helm upgrade")


async def _refusal(kube: Kube, error: Unauthorized) -> str:
    what = "token" if await kube.token() else "client certificate, if there is one"
    return (
        f"the API server at {kube.address} doesn't accept the {what} ({error.said or error.message}): it has expired, "
        f"or is of another cluster or of an account that is gone; {kube.source.credential}"
    )


async def _me(kube: Kube) -> str:
    """Who the API server takes this process for."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = await kube.create(_WHOAMI, None, body)
    except KubeError:
        return "this process' account"
    return str(answer["status"]["userInfo"]["username"])


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
