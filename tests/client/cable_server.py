"""A gateway's cable end for tests of the client: it speaks the frames, keeps no resources, and does as it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from aiohttp import WSCloseCode, WSMsgType, web

from belay_api.actions import ACTIONS, Action, AnyAction, HeldAttempt, Resume
from belay_api.frames import SUBPROTOCOL, Frame
from belay_api.messages import Ack, Attached, Cancel, Dispatch, Error, ErrorCode, Resumed, ResumeVerdict

A = TypeVar("A", bound=Action)
Answer = Callable[["Socket", Any], Frame | None]


class Socket:
    """One connection as the server sees it; `actions` is everything that was received on it, in order."""

    def __init__(self, ws: web.WebSocketResponse, authorization: str) -> None:
        self.ws = ws
        self.authorization = authorization
        self.identifier = ""
        self.actions: list[AnyAction] = []
        self.closed = False
        self.changed = asyncio.Condition()

    async def wait_for(self, kind: type[A], count: int = 1) -> A:
        """The `count`-th action of one kind, once it has come."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    async def wait_closed(self) -> None:
        """Return once the client is gone."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.closed)

    def of(self, kind: type[A]) -> list[A]:
        """What has come of one kind."""
        return [action for action in self.actions if isinstance(action, kind)]

    async def raw(self, **frame: Any) -> None:
        """Send one of the cable's own frames."""
        with suppress(ConnectionError):
            await self.ws.send_str(json.dumps(frame))

    async def tell(self, message: Frame) -> None:
        """Send a message to the subscription."""
        await self.raw(identifier=self.identifier, message=message.wire())

    async def dispatch(self, name: str = "d", attempt: int = 1, **fields: Any) -> None:
        """Offer a delegation."""
        known: dict[str, Any] = {
            "namespace": "default",
            "agent": "a",
            "prompt": "do it",
            "stuck_threshold_seconds": 600,
        }
        await self.tell(Dispatch(name=name, attempt=attempt, **(known | fields)))

    async def cancel(self, name: str = "d", attempt: int = 1, reason: str = "Cancelled") -> None:
        """Tell that an attempt has ended."""
        await self.tell(Cancel(name=name, attempt=attempt, phase="Cancelled", reason=reason))

    async def drop(self) -> None:
        """Break the connection without a word."""
        transport = self.ws._req.transport if self.ws._req else None
        if transport is not None:
            transport.abort()
        await self.wait_closed()


class CableServer:
    """Accepts everything unless told otherwise: `refuse`, `reject`, `answers` by kind of action, `verdicts` by name."""

    def __init__(self) -> None:
        self.url = ""
        self.refuse: list[int] = []
        """HTTP statuses for the next upgrades."""
        self.reject: tuple[str, str] | None = None
        self.disconnect: dict[str, Any] | None = None
        self.confirms = True
        """Whether a subscription gets an answer."""
        self.answers: dict[type[Action], Answer] = {}
        self.verdicts: dict[str, ResumeVerdict] = {}
        self.session = "made-up"
        self.grace_seconds = 30
        self.sockets: list[Socket] = []
        """Those that were subscribed."""
        self.every_socket: list[Socket] = []
        self.tries: list[str] = []
        """The Authorization header of every upgrade that was asked for."""
        self._changed = asyncio.Condition()

    async def socket(self, count: int = 1) -> Socket:
        """The `count`-th connection that was subscribed, once it is there and has resumed."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.sockets) >= count)
        socket = self.sockets[count - 1]
        await socket.wait_for(Resume)
        return socket

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one upgrade."""
        self.tries.append(request.headers.get("Authorization", ""))
        if self.refuse:
            return web.Response(status=self.refuse.pop(0))
        ws = web.WebSocketResponse(protocols=(SUBPROTOCOL,), max_msg_size=256 * 1024)
        await ws.prepare(request)
        socket = Socket(ws, self.tries[-1])
        self.every_socket.append(socket)
        try:
            await self._serve(socket)
        finally:
            async with socket.changed:
                socket.closed = True
                socket.changed.notify_all()
        return ws

    async def _serve(self, socket: Socket) -> None:
        if self.disconnect:
            await socket.raw(type="disconnect", **self.disconnect)
            return
        await socket.raw(type="welcome")
        async for message in socket.ws:
            if message.type is not WSMsgType.TEXT:
                continue
            command = json.loads(message.data)
            if command["command"] == "subscribe":
                await self._subscribe(socket, command["identifier"])
            else:
                await self._act(socket, ACTIONS.validate_json(command["data"]))

    async def _subscribe(self, socket: Socket, identifier: str) -> None:
        socket.identifier = identifier
        if not self.confirms:
            return
        if self.reject:
            code, message = self.reject
            await socket.raw(type="reject_subscription", identifier=identifier, reason=code, message=message)
            return
        await socket.raw(type="confirm_subscription", identifier=identifier)
        named = json.loads(identifier).get("session_id")
        await socket.tell(
            Attached(
                agent="default/a",
                session=named or self.session,
                token="t",
                heartbeat_seconds=15,
                stale_after_seconds=45,
                grace_seconds=self.grace_seconds,
            )
        )
        async with self._changed:
            self.sockets.append(socket)
            self._changed.notify_all()

    async def _act(self, socket: Socket, action: AnyAction) -> None:
        async with socket.changed:
            socket.actions.append(action)
            socket.changed.notify_all()
        given = self.answers.get(type(action))
        answer = given(socket, action) if given else self._ack(action)
        if answer is not None:
            await socket.tell(answer)

    def _ack(self, action: AnyAction) -> Ack:
        if isinstance(action, Resume):
            return Ack(ref=action.ref, held=[self._verdict(held) for held in action.held])
        return Ack(ref=action.ref)

    def _verdict(self, held: HeldAttempt) -> Resumed:
        verdict = self.verdicts.get(held.name, ResumeVerdict.CONTINUE)
        return Resumed(name=held.name, attempt=held.attempt, verdict=verdict)


def refusing(code: ErrorCode, times: int = 1) -> Answer:
    """An answer `error`, so many times; then `ack`."""
    left = times

    def answer(_: Socket, action: Action) -> Frame:
        nonlocal left
        left -= 1
        return Error(ref=action.ref, code=code, message="no") if left >= 0 else Ack(ref=action.ref)

    return answer


def silent(_: Socket, __: Action) -> None:
    """No answer at all."""


@asynccontextmanager
async def cable_server() -> AsyncIterator[CableServer]:
    """A server on the loopback interface."""
    server = CableServer()
    app = web.Application()
    app.router.add_get("/cable", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        for socket in server.sockets:
            await socket.ws.close(code=WSCloseCode.GOING_AWAY)
        await runner.cleanup()
