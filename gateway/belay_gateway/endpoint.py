"""`/cable`: who may open a socket, and the set of those that are open."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Final

import structlog
from aiohttp import WSCloseCode, web

from belay_api.frames import MAX_FRAME_BYTES, SUBPROTOCOL, DisconnectReason
from belay_gateway.auth import Authenticator, Bearer, User, bearer_of
from belay_gateway.cable import CLOSE_SECONDS, Cable, Connection
from belay_gateway.closing import disconnect_frame
from belay_kube.errors import KubeError

log = structlog.get_logger(__name__)

_HANDSHAKE_SECONDS = 10.0
_RETRY_AFTER: Final = {"Retry-After": "5"}
_BROKEN_FRAMES: Final = {
    WSCloseCode.PROTOCOL_ERROR: "not a valid WebSocket frame",
    WSCloseCode.INVALID_TEXT: "text frames are UTF-8",
    WSCloseCode.MESSAGE_TOO_BIG: f"frames are at most {MAX_FRAME_BYTES} bytes",
}


class CableResponse(web.WebSocketResponse):
    """A WebSocket that also says in the cable's words why it closes when a frame could not even be read."""

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close, with a `disconnect` frame first if aiohttp itself refused a frame."""
        sentence = _BROKEN_FRAMES.get(WSCloseCode(code)) if code in list(WSCloseCode) else None
        if sentence and not self.closed:
            try:
                await self.send_str(disconnect_frame(DisconnectReason.PROTOCOL, False, sentence))
            except ConnectionError:
                log.debug("peer left before it could be told", sentence=sentence)
            message = message or DisconnectReason.PROTOCOL.encode()
        return await super().close(code=code, message=message, drain=drain)


class Endpoint:
    """Opens sockets, keeps track of them, and stops opening any when the process ends."""

    def __init__(self, cable: Cable, authenticator: Authenticator) -> None:
        self._cable = cable
        self._authenticator = authenticator
        self._connections: set[Connection] = set()
        self._by_user: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._connections))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET /cable."""
        self._check(request)
        bearer = bearer_of(request.headers)
        user = await self._user(bearer) if bearer else None
        if user and self._by_user[user.name] >= self._cable.settings.max_sockets_per_user:
            self._cable.metrics.refusals.labels("too_many_sockets").inc()
            raise web.HTTPTooManyRequests(text="too many sockets of this user: close some", headers=_RETRY_AFTER)
        ws = CableResponse(
            autoping=False,
            compress=False,
            max_msg_size=MAX_FRAME_BYTES,
            protocols=(SUBPROTOCOL,),
            timeout=CLOSE_SECONDS,
        )
        await ws.prepare(request)
        if user is None or bearer is None:
            await self._unauthorized(ws)
        else:
            period = self._authenticator.review_after(bearer, self._cable.settings.review_seconds)
            await self._serve(Connection(self._cable, ws, request.transport, user, bearer, period))
        return ws

    def _check(self, request: web.Request) -> None:
        if self.draining:
            raise web.HTTPServiceUnavailable(text="shutting down: connect again", headers=_RETRY_AFTER)
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._cable.settings.allowed_origins:
            self._cable.metrics.refusals.labels("origin").inc()
            raise web.HTTPForbidden(text="this origin isn't in the gateway's allow-list (BELAY_ALLOWED_ORIGINS)")
        offered = request.headers.get("Sec-WebSocket-Protocol")
        # aiohttp logs offered subprotocols when it knows none of them, and one of them may carry a token.
        if offered is not None and SUBPROTOCOL not in [name.strip() for name in offered.split(",")]:
            raise web.HTTPBadRequest(text=f"offer the WebSocket subprotocol {SUBPROTOCOL}")

    async def _user(self, bearer: Bearer) -> User | None:
        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                return await self._authenticator.user(bearer)
        except (KubeError, TimeoutError) as error:
            self._cable.metrics.refusals.labels("unavailable").inc()
            log.warning("a token could not be reviewed", error=str(error)[:300])
            sentence = "the API server can't be asked who you are: try again"
            raise web.HTTPServiceUnavailable(text=sentence, headers=_RETRY_AFTER) from None

    async def _unauthorized(self, ws: CableResponse) -> None:
        self._cable.metrics.refusals.labels("unauthorized").inc()
        audience = self._cable.settings.audience
        sentence = f"send a bearer token that the cluster accepts for audience {audience}"
        await ws.send_str(disconnect_frame(DisconnectReason.UNAUTHORIZED, False, sentence))
        await ws.close(code=WSCloseCode.POLICY_VIOLATION, message=DisconnectReason.UNAUTHORIZED.encode())

    async def _serve(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._by_user[connection.user.name] += 1
        self._empty.clear()
        self._cable.metrics.sockets.set(len(self._connections))
        if self.draining:
            # It came in while its token was reviewed; `drain` could not see it.
            connection.disconnect(DisconnectReason.SERVER_RESTART, reconnect=True)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._by_user[connection.user.name] -= 1
            if not self._by_user[connection.user.name]:
                del self._by_user[connection.user.name]
            self._cable.metrics.sockets.set(len(self._connections))
            if not self._connections:
                self._empty.set()

    async def drain(self, seconds: float) -> None:
        """Open no more sockets, tell the open ones to come back elsewhere, and wait until they are closed."""
        self.draining = True
        for connection in self:
            connection.disconnect(DisconnectReason.SERVER_RESTART, reconnect=True)
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            log.warning("sockets still open at the end", count=len(self._connections))
