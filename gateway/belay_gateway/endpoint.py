"""`/cable`: who may open a socket, and the set of those that are open."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import structlog
from aiohttp import WSCloseCode, web

from belay_api.frames import MAX_FRAME_BYTES, SUBPROTOCOL, DisconnectReason
from belay_gateway.auth import Authenticator, Bearer, TokenRefused, User, bearer_of, check_size, check_url
from belay_gateway.cable import Cable, Connection
from belay_gateway.closing import disconnect_frame
from belay_gateway.lobby import Crowded, Lobby
from belay_gateway.refusals import Refusals, Why
from belay_kube.errors import KubeError
from belay_kube.logs import about

log = structlog.get_logger(__name__)

_TELL_SECONDS = 0.1
"""The shortest time between two batches of peers that are sent away."""
_RETRY_AFTER: Final = {"Retry-After": "5"}
_LATER: Final = (web.HTTPTooManyRequests, web.HTTPServiceUnavailable)
_BROKEN_FRAMES: Final = {
    WSCloseCode.PROTOCOL_ERROR: (Why.BAD_FRAME, "not a valid WebSocket frame"),
    WSCloseCode.INVALID_TEXT: (Why.INVALID_UTF8, "text frames are UTF-8"),
    WSCloseCode.MESSAGE_TOO_BIG: (Why.FRAME_TOO_LONG, f"frames are at most {MAX_FRAME_BYTES} bytes"),
}


class CableResponse(web.WebSocketResponse):
    """A WebSocket that also says in the cable's words why it closes when a frame could not even be read."""

    __slots__ = ("_refusals",)

    def __init__(self, refusals: Refusals, **options: Any) -> None:
        super().__init__(**options)
        self._refusals = refusals

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close, with a `disconnect` frame first if aiohttp itself refused a frame."""
        broken = _BROKEN_FRAMES.get(WSCloseCode(code)) if code in list(WSCloseCode) else None
        if broken and not self.closed:
            why, sentence = broken
            self._refusals.count(why)
            try:
                await self.send_str(disconnect_frame(DisconnectReason.PROTOCOL, False, sentence))
            except ConnectionError:
                log.debug("peer left before it could be told", sentence=sentence)
            message = message or DisconnectReason.PROTOCOL.encode()
        return await super().close(code=code, message=message, drain=drain)


class Endpoint:
    """Opens sockets, keeps track of them, and stops opening any when the process ends."""

    def __init__(self, cable: Cable, authenticator: Authenticator, lobby: Lobby) -> None:
        self._cable = cable
        self._lobby = lobby
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
        self._lobby.enter(request)
        try:
            bearer = self._check(request)
            user = await self._user(bearer) if bearer else None
            if user and self._by_user[user.name] >= self._cable.settings.max_sockets_per_user:
                raise self._refused(Why.TOO_MANY_SOCKETS, web.HTTPTooManyRequests, "too many sockets of this user")
            ws = await self._opened(request)
            if user is None or bearer is None:
                await self._unauthorized(ws)
            else:
                period = self._authenticator.review_after(bearer, self._cable.settings.review_seconds)
                bearer = self._authenticator.shared(bearer)
                await self._serve(Connection(self._cable, ws, request.transport, user, bearer, period))
            return ws
        finally:
            self._lobby.leave(request)

    async def _opened(self, request: web.Request) -> CableResponse:
        ws = CableResponse(
            self._cable.metrics.refusals,
            autoping=False,
            compress=False,
            max_msg_size=MAX_FRAME_BYTES + 1,  # aiohttp refuses this many already
            protocols=(SUBPROTOCOL,),
            timeout=self._cable.settings.close_seconds,
        )
        try:
            await ws.prepare(request)
        except web.HTTPException:
            self._cable.metrics.refusals.count(Why.NOT_WEBSOCKET)
            raise
        return ws

    def _check(self, request: web.Request) -> Bearer | None:
        """What can be seen without asking anybody; returns the token."""
        settings = self._cable.settings
        if self.draining:
            raise self._refused(Why.SHUTTING_DOWN, web.HTTPServiceUnavailable, "shutting down: connect again")
        if any(origin not in settings.allowed_origins for origin in request.headers.getall("Origin", ())):
            sentence = "this origin isn't in the gateway's allow-list (BELAY_ALLOWED_ORIGINS)"
            raise self._refused(Why.ORIGIN, web.HTTPForbidden, sentence)
        offered = request.headers.get("Sec-WebSocket-Protocol")
        # aiohttp logs offered subprotocols when it knows none of them, and one of them may carry a token.
        if offered is not None and SUBPROTOCOL not in [name.strip() for name in offered.split(",")]:
            raise self._refused(Why.SUBPROTOCOL, web.HTTPBadRequest, f"offer the WebSocket subprotocol {SUBPROTOCOL}")
        bearer = bearer_of(request.headers)
        try:
            check_url(request.query)
            check_size(bearer, settings.max_token_bytes)
        except TokenRefused as refused:
            raise self._refused(refused.why, web.HTTPBadRequest, refused.message) from None
        return bearer

    def _refused(self, why: Why, status: type[web.HTTPException], sentence: str) -> web.HTTPException:
        self._cable.metrics.refusals.count(why)
        return status(text=sentence, headers=_RETRY_AFTER if status in _LATER else None)

    async def _user(self, bearer: Bearer) -> User | None:
        try:
            async with asyncio.timeout(self._cable.settings.handshake_seconds):
                with self._lobby.turn():
                    return await self._authenticator.user(bearer)
        except Crowded:
            sentence = "too many connect just now: try again"
            raise self._refused(Why.TOO_MANY_HANDSHAKES, web.HTTPServiceUnavailable, sentence) from None
        except (KubeError, TimeoutError) as error:
            log.warning("a token could not be reviewed", error=str(error)[:300])
            sentence = "the API server can't be asked who you are: try again"
            raise self._refused(Why.REVIEW_UNAVAILABLE, web.HTTPServiceUnavailable, sentence) from None

    async def _unauthorized(self, ws: CableResponse) -> None:
        self._cable.metrics.refusals.count(Why.UNAUTHORIZED)
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
            with about(user=connection.user.name):
                await connection.run()
        finally:
            self._connections.discard(connection)
            self._by_user[connection.user.name] -= 1
            if not self._by_user[connection.user.name]:
                del self._by_user[connection.user.name]
            self._cable.metrics.sockets.set(len(self._connections))
            if not self._connections:
                self._empty.set()

    async def drain(self, seconds: float, spread: float = 0) -> None:
        """Open no more sockets, tell the open ones over `spread` seconds to come back elsewhere, and wait until they
        are closed, at most `seconds` more."""
        self.draining = True
        await self._send_away(spread)
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            log.warning("sockets still open at the end", count=len(self._connections))

    async def _send_away(self, spread: float) -> None:
        """Tell them one after another: told all at once, all would come back at once."""
        waiting = list(self)
        batch = max(1, math.ceil(len(waiting) * _TELL_SECONDS / spread)) if spread else max(1, len(waiting))
        pause = spread * batch / max(1, len(waiting))
        for start in range(0, len(waiting), batch):
            for connection in waiting[start : start + batch]:
                connection.disconnect(DisconnectReason.SERVER_RESTART, reconnect=True)
            if start + batch < len(waiting):
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than any socket is open."""
        waits = [asyncio.ensure_future(self._cable.clock.sleep(seconds)), asyncio.ensure_future(self._empty.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
