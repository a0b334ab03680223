"""Everything that can go wrong with a request, as RFC 9457 problem details; this is the one place that maps errors to
HTTP. A problem says what was wrong, with what, and what to do; never a traceback, never a token.
"""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from belay_api.messages import ErrorCode
from belay_gateway.refused import Refused
from belay_kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Temporary,
    Throttled,
    TooLarge,
    Unauthorized,
    Unreviewed,
    lacks_right,
)
from belay_kube.once import KeyReused

log = structlog.get_logger(__name__)

CONTENT_TYPE: Final = "application/problem+json"
_DETAIL_CHARS = 1000
_RETRY_SECONDS = 5
_TYPE: Final = "urn:belay:problem:{}"

_BY_CODE: Final = {
    ErrorCode.INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""All other codes say that the caller's view is out of date."""
_LATER: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_OF_CLUSTER: Final[tuple[tuple[type[KubeError], HTTPStatus], ...]] = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (AlreadyExists, HTTPStatus.CONFLICT),
    (Conflict, HTTPStatus.CONFLICT),
    (Gone, HTTPStatus.GONE),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (Throttled, HTTPStatus.TOO_MANY_REQUESTS),
)


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(description="What kind of problem, e.g. urn:belay:problem:superseded.")
    title: str = Field(description="The same in words; equal for every problem of this type.")
    status: int = Field(ge=400, le=599, description="The HTTP status.")
    detail: str = Field(description="What was wrong, with what, and what to do.")


class BadRequest(Exception):
    """A request that can't be understood or isn't let in: `status` and a sentence that helps."""

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


@dataclass(frozen=True)
class Refusing:
    """An answer to be sent."""

    problem: Problem
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """As aiohttp sends it."""
        body = self.problem.model_dump_json().encode(errors="replace")
        return web.Response(
            status=self.problem.status, body=body, headers={**self.headers, "Content-Type": CONTENT_TYPE}
        )


def refusing(error: Exception) -> Refusing:
    """The answer to a request that ended with `error`; what nobody thought of is logged and told as 500."""
    match error:
        case BadRequest():
            return _refusing(error.status, error.detail, headers=error.headers)
        case Refused():
            status = _BY_CODE.get(error.code, HTTPStatus.CONFLICT)
            return _refusing(status, error.message, str(error.code))
        case KeyReused():
            return _refusing(HTTPStatus.CONFLICT, str(error), "idempotency_key_reused")
        case KubeError():
            return _of_cluster(error)
        case ValidationError():
            return _refusing(HTTPStatus.UNPROCESSABLE_ENTITY, sentence(error))
        case web.HTTPException():
            return _of_server(error)
    log.error("a request failed", exc_info=error)
    return _refusing(HTTPStatus.INTERNAL_SERVER_ERROR, "the gateway failed at this, which is its own fault: try again")


def sentence(error: ValidationError, where: str = "") -> str:
    """The first thing that was wrong, by its field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field_name = ".".join([*([where] if where else []), *(str(part) for part in first["loc"])])
    return f"{field_name}: {first['msg']}" if field_name else str(first["msg"])


def _of_cluster(error: KubeError) -> Refusing:
    """The API server's own words, without which of its addresses was asked."""
    status = next((status for kind, status in _OF_CLUSTER if isinstance(error, kind)), None)
    if isinstance(error, Unreviewed | Unauthorized) or lacks_right(error):
        return _of_gateway(error)
    if isinstance(error, Temporary) and status in (None, HTTPStatus.TOO_MANY_REQUESTS):
        wait = {"Retry-After": str(max(1, round(error.delay or _RETRY_SECONDS)))}
        detail = "the API server can't carry this out just now, try again" + (f": {error.said}" if error.said else "")
        return _refusing(status or HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=wait)
    if status:
        return _refusing(status, error.said or status.description)
    if isinstance(error, Invalid):
        status = HTTPStatus.UNPROCESSABLE_ENTITY if error.status == 422 else HTTPStatus.BAD_REQUEST
        return _refusing(status, error.said or status.description)
    return _of_gateway(error)


def _of_gateway(error: KubeError) -> Refusing:
    """What the gateway asks for itself: the caller did nothing wrong, and is told nothing of the gateway's account."""
    log.error("the API server refused the gateway", error=error.message[:300])
    wait = {"Retry-After": str(max(1, round(error.delay)))} if isinstance(error, Temporary) and error.delay else None
    detail = "the gateway can't ask the API server what it must: try again, and tell who runs it if that goes on"
    return _refusing(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=wait)


def _of_server(error: web.HTTPException) -> Refusing:
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return _refusing(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{error.method} isn't possible here, only {allowed}",
                headers={"Allow": allowed},
            )  # fmt: skip
        case web.HTTPNotFound():
            return _refusing(HTTPStatus.NOT_FOUND, "there is no such path: see /openapi.json")
        case _:
            return _refusing(HTTPStatus(error.status), error.reason)


def _refusing(status: HTTPStatus, detail: str, kind: str = "", headers: dict[str, str] | None = None) -> Refusing:
    words = kind or status.phrase.lower().replace(" ", "_")
    wait = {"Retry-After": str(_RETRY_SECONDS)} if status in _LATER else {}
    problem = Problem(
        type=_TYPE.format(words),
        title=words.replace("_", " ").capitalize(),
        status=status,
        detail=detail.encode(errors="replace").decode()[:_DETAIL_CHARS],
    )
    return Refusing(problem, {**wait, **(headers or {})})
