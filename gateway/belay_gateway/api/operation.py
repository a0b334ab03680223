"""What the API can do, as data: each operation says where it is, what it takes and what it answers. The server carries
them out (serving.py) and the OpenAPI document describes them (openapi.py), both from the same table.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from belay_gateway.access import Access
from belay_gateway.api import models
from belay_gateway.auth import User
from belay_gateway.broadcasts import Broadcasts
from belay_gateway.conversing import Conversing
from belay_gateway.delegating import Delegating
from belay_gateway.replies import Replies
from belay_kube.client import Json, Kube

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


# --- the kinds of operations: what each takes, and may answer with -------------------------------------------------


def reading(
    name: str,
    path: str,
    summary: str,
    carry: Carry,
    *,
    answer: type[BaseModel],
    where: type[BaseModel] = models.Named,
    query: type[BaseModel] | None = None,
) -> Operation:
    """What there is, is told."""
    return Operation(name, "GET", path, summary, carry, where, {HTTPStatus.OK: answer}, query)


def listing(
    name: str, path: str, summary: str, carry: Carry, *, query: type[models.Paging], answer: type[BaseModel]
) -> Operation:
    """A page of a collection; the list that the next page is of may be gone by then (410)."""
    told = reading(name, path, summary, carry, answer=answer, where=models.InNamespace, query=query)
    return replace(told, refusals=frozenset({HTTPStatus.GONE}))


def creating(
    name: str,
    path: str,
    summary: str,
    carry: Carry,
    *,
    body: type[BaseModel],
    answer: type[BaseModel],
    where: type[BaseModel] = models.InNamespace,
) -> Operation:
    """Something is made (201), with an idempotency key once (200)."""
    return Operation(
        name=name,
        method="POST",
        path=path,
        summary=summary,
        carry=carry,
        where=where,
        headers=models.CreateHeaders,
        body=body,
        answers={HTTPStatus.CREATED: answer, HTTPStatus.OK: answer},
        refusals=frozenset({HTTPStatus.CONFLICT}),
    )


def changing(
    name: str, path: str, summary: str, carry: Carry, *, answer: type[BaseModel], body: type[BaseModel] | None = None
) -> Operation:
    """One object is changed, unless it has moved on (409)."""
    return Operation(
        name=name,
        method="POST",
        path=path,
        summary=summary,
        carry=carry,
        where=models.Named,
        body=body,
        answers={HTTPStatus.OK: answer},
        refusals=frozenset({HTTPStatus.CONFLICT}),
    )
