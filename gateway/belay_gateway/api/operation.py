"""What the API can do, as data: each operation says where it is, what it takes and what it answers. The server carries
them out (serving.py) and the OpenAPI document describes them (openapi.py), both from the same table.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from belay_gateway.access import Access
from belay_gateway.api.problems import BadRequest
from belay_gateway.auth import User
from belay_gateway.broadcasts import Broadcasts
from belay_gateway.delegating import Delegating, lacks
from belay_gateway.replies import Replies
from belay_kube.client import Json, Kube

Where = TypeVar("Where", bound=BaseModel, covariant=True)
Query = TypeVar("Query", bound=BaseModel | None, covariant=True)
Body = TypeVar("Body", bound=BaseModel | None, covariant=True)

PREFIX = "/api/v1"


@dataclass(frozen=True)
class Parts:
    """The parts of the gateway that operations use."""

    kube: Kube
    access: Access
    delegating: Delegating
    replies: Replies
    broadcasts: Broadcasts

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


def page(listed: Json, kind: str, api_version: str) -> Answer:
    """A page of a list; its items carry what a list of the API server leaves out."""
    items = [{"apiVersion": api_version, "kind": kind, **shown(item)} for item in listed["items"]]
    token = listed["metadata"].get("continue")
    return Answer({"items": items, **({"continue": token} if token else {})})
