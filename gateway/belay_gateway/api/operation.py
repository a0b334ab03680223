"""What the API can do, as data: each operation says where it is, what it takes and what it answers. The server carries
them out (serving.py) and the OpenAPI document describes them (openapi.py), both from the same table.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from belay_api.meta import API_VERSION
from belay_api.resource import Resource
from belay_gateway.access import Access
from belay_gateway.api.models import Paging
from belay_gateway.api.problems import BadRequest
from belay_gateway.auth import User
from belay_gateway.broadcasts import Broadcasts
from belay_gateway.conversing import Conversing
from belay_gateway.delegating import Delegating, lacks
from belay_gateway.replies import Replies
from belay_kube.client import Json, Kube, belay

Where = TypeVar("Where", bound=BaseModel, covariant=True)
Query = TypeVar("Query", bound=BaseModel | None, covariant=True)
Body = TypeVar("Body", bound=BaseModel | None, covariant=True)

PREFIX = "/api/v1"
_LISTS_AT_ONCE = 3


@dataclass(frozen=True)
class Parts:
    """The parts of the gateway that operations use."""

    kube: Kube
    access: Access
    delegating: Delegating
    replies: Replies
    broadcasts: Broadcasts
    conversing: Conversing
    lists: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_LISTS_AT_ONCE))
    """Lists under way; all others wait."""

    async def check(self, user: User, verb: str, resource: str, namespace: str, name: str = "") -> None:
        """See that the API server would let `user` do this. Raises BadRequest (403), KubeError."""
        if not await self.access.may(user, verb, resource, namespace, name):
            what = f"{resource}/{name}" if name else resource
            raise BadRequest(HTTPStatus.FORBIDDEN, lacks(user, verb, what, namespace))


@dataclass(frozen=True)
class Call(Generic[Where, Query, Body]):
    """One request, read and checked against the models of its operation."""

    user: User
    where: Where
    query: Query
    body: Body
    headers: Any = None


@dataclass(frozen=True)
class Answer:
    """What is sent back: JSON, or nothing with 204."""

    body: Json | None
    status: HTTPStatus = HTTPStatus.OK


Carry = Callable[[Parts, Any], Awaitable[Answer]]


@dataclass(frozen=True)
class Operation:
    """One method on one path; `name` is unique and never changes, clients are generated from it."""

    name: str
    method: str
    path: str
    summary: str
    carry: Carry
    where: type[BaseModel]
    answers: dict[HTTPStatus, type[BaseModel] | None]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    headers: type[BaseModel] | None = None
    refusals: frozenset[HTTPStatus] = field(default=frozenset())
    """Beyond those that every operation may answer with (`statuses`)."""

    def statuses(self) -> list[HTTPStatus]:
        """Every status of a refusal."""
        always = {
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.SERVICE_UNAVAILABLE,
        }
        with_body = {
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        }
        return sorted(always | (with_body if self.body else set()) | self.refusals)


def shown(obj: Json) -> Json:
    """A resource as it is answered: without the bookkeeping of server-side apply."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": meta}


@dataclass(frozen=True)
class Listing:
    """What is listed: `selected` by the API server, and of that what `matches`."""

    resource: Resource
    namespace: str
    selected: dict[str, str] = field(default_factory=dict)
    matches: Callable[[Json], bool] = lambda _: True


def named(obj: Json, kind: str) -> Json:
    """A resource as it is answered, with what the API server leaves out of the items of a list."""
    return {"apiVersion": API_VERSION, "kind": kind, **shown(obj)}


_CHUNK = 25
"""Objects that are read at once: each may be hundreds of kilobytes, and reading JSON lets nothing else run."""
Show = Callable[[Json], Json]


async def listed(parts: Parts, where: Listing, asked: Paging, show: Show = shown) -> Answer:
    """A page of a list, each object as `show` leaves it. Raises KubeError (Gone: begin again)."""
    items: list[Json] = []
    token, left = asked.next, asked.limit
    async with parts.lists:
        while left > 0:
            query = {**where.selected, "limit": str(min(left, _CHUNK)), **({"continue": token} if token else {})}
            found = await parts.kube.list(belay(where.resource.plural), where.namespace, **query)
            items += [named(show(item), where.resource.kind) for item in found["items"] if where.matches(item)]
            left -= len(found["items"])
            token = found["metadata"].get("continue")
            if not token:
                break
    return Answer({"items": items, **({"continue": token} if token else {})})
