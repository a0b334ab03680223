"""Resources over HTTP, as `kubectl` has them: read, listed and patched, each after a look whether the caller may."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from belay_api.meta import API_VERSION
from belay_api.resource import Resource
from belay_api.transitions import Phase
from belay_gateway.api import models
from belay_gateway.api.operation import Answer, Call, Parts
from belay_gateway.api.problems import BadRequest
from belay_kube.client import Json, belay

_CHUNK = 25
"""Objects that are read at once: each may be hundreds of kilobytes, and reading JSON lets nothing else run."""
Show = Callable[[Json], Json]


def shown(obj: Json) -> Json:
    """A resource as it is answered: without the bookkeeping of server-side apply."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": meta}


def named(obj: Json, kind: str) -> Json:
    """A resource as it is answered, with what the API server leaves out of the items of a list."""
    return {"apiVersion": API_VERSION, "kind": kind, **shown(obj)}


def check_namespace(given: models.NewMetadata, namespace: str) -> None:
    """See that a body doesn't contradict the path. Raises BadRequest (422)."""
    if given.namespace not in (None, namespace):
        detail = f"metadata.namespace: is {given.namespace} but the path's is {namespace}; leave it out"
        raise BadRequest(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


async def got(parts: Parts, call: Call[models.Named | models.NamedAgent, None, None], resource: Resource) -> Answer:
    """As `kubectl get`. Raises Refused, KubeError."""
    namespace, name = call.where.namespace, call.where.name
    await parts.access.check(call.user, "get", resource.plural, namespace, name)
    return Answer(shown(await parts.kube.get(belay(resource.plural), namespace, name)))


async def patched(parts: Parts, call: Call[models.Named, None, Any], resource: Resource, spec: Json) -> Answer:
    """As `kubectl patch`: these fields of the spec. Raises Refused, KubeError."""
    namespace, name = call.where.namespace, call.where.name
    await parts.access.check(call.user, "patch", resource.plural, namespace, name)
    return Answer(shown(await parts.kube.patch(belay(resource.plural), namespace, name, {"spec": spec})))


def selected(agent: str | None, phase: StrEnum | None = None) -> dict[str, str]:
    """The selector of what is an agent's, and in a phase; a Pending one may have no status yet. Pure."""
    fields = [f"spec.agentRef.name={agent}"] if agent else []
    if phase == Phase.PENDING:
        # Without a status they match only what isn't asked for.
        fields += [f"status.phase!={other}" for other in type(phase) if other != phase]
    elif phase:
        fields.append(f"status.phase={phase}")
    return {"fieldSelector": ",".join(fields)} if fields else {}


@dataclass(frozen=True)
class Listing:
    """What is listed: `selected` by the API server, of that what `matches`, each as `show` leaves it."""

    resource: Resource
    selected: dict[str, str] = field(default_factory=dict)
    matches: Callable[[Json], bool] = lambda _: True
    show: Show = shown


async def listed(parts: Parts, call: Call[models.InNamespace, models.Paging, None], what: Listing) -> Answer:
    """A page, as `kubectl get` with selectors. Raises Refused, KubeError (Gone: begin again)."""
    resource, namespace = what.resource, call.where.namespace
    await parts.access.check(call.user, "list", resource.plural, namespace)
    items: list[Json] = []
    token, left = call.query.next, call.query.limit
    async with parts.lists:
        while left > 0:
            query = {**what.selected, "limit": str(min(left, _CHUNK)), **({"continue": token} if token else {})}
            found = await parts.kube.list(belay(resource.plural), namespace, **query)
            items += [named(what.show(item), resource.kind) for item in found["items"] if what.matches(item)]
            left -= len(found["items"])
            token = found["metadata"].get("continue")
            if not token:
                break
    return Answer({"items": items, **({"continue": token} if token else {})})
