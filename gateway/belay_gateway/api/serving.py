"""Operations as an aiohttp application: who asks is settled first, then what, and every end is an answer."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web

from belay_gateway.api import naming, reading
from belay_gateway.api.operation import Answer, Call, Operation, Parts
from belay_gateway.api.problems import BadRequest, refusing
from belay_gateway.api.rates import Rates
from belay_gateway.auth import Authenticator, TokenRefused, User, bearer_of, check_size, check_url
from belay_gateway.lobby import Crowded, Lobby
from belay_gateway.metrics import Metrics
from belay_gateway.settings import Settings
from belay_kube.logs import about, also

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="belay"'}


@dataclass(frozen=True)
class Door:
    """Lets in whom the cluster knows, as often as they may."""

    authenticator: Authenticator
    lobby: Lobby
    rates: Rates
    settings: Settings

    async def user(self, request: web.Request) -> User:
        """Who asks. Raises BadRequest (400, 401, 429, 503), KubeError."""
        bearer = bearer_of(request.headers)
        try:
            check_url(request.query)
            check_size(bearer, self.settings.max_token_bytes)
            with self.lobby.turn():
                user = await self.authenticator.user(bearer) if bearer else None
        except TokenRefused as refused:
            raise BadRequest(HTTPStatus.BAD_REQUEST, refused.message) from None
        except Crowded:
            raise BadRequest(HTTPStatus.SERVICE_UNAVAILABLE, "too many ask just now: try again") from None
        if user is None:
            sentence = f"send a bearer token that the cluster accepts for audience {self.settings.audience}"
            raise BadRequest(HTTPStatus.UNAUTHORIZED, sentence, _CHALLENGE)
        self.rates.check(user)
        return user


def create_api(operations: Iterable[Operation], parts: Parts, door: Door, metrics: Metrics) -> web.Application:
    """The application of everything under `/api/v1`."""

    @web.middleware
    async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        door.lobby.enter(request)
        try:
            with about():
                return await _answered(request, handler, metrics)
        finally:
            door.lobby.leave(request)

    app = web.Application(middlewares=[problems])
    for operation in operations:
        app.router.add_route(operation.method, operation.path, _handler(operation, parts, door))
    return app


async def _answered(request: web.Request, handler: Handler, metrics: Metrics) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - what nobody thought of is logged there, and told as 500
        refused = refusing(error)
        metrics.refusals.request(HTTPStatus(refused.problem.status))
        return refused.response()


def _handler(operation: Operation, parts: Parts, door: Door) -> Handler:
    names = naming.names_of(operation.path)

    async def handle(request: web.Request) -> web.StreamResponse:
        user = await door.user(request)
        where = reading.path(request, operation.where)
        also(user=user.name, **naming.named(names, where))
        call = Call(
            user=user,
            where=where,
            query=reading.query(request, operation.query) if operation.query else None,
            headers=reading.headers(request, operation.headers) if operation.headers else None,
            body=await reading.body(request, operation.body, door.settings.body_seconds) if operation.body else None,
        )
        return _response(await operation.carry(parts, call))

    return handle


def _response(answer: Answer) -> web.Response:
    if answer.body is None:
        return web.Response(status=answer.status)
    return web.json_response(answer.body, status=answer.status)
