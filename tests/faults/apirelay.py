"""Between a process and the API server: a relay on the loopback that refuses, holds back, cuts, and mangles watches.

Watches pass line by line, so that a test may drop, double and reorder events, or put one of its own among them.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from belay_kube.process import url_of

_UNTOUCHED = 1 << 26
_CHANGES = re.compile(r"&?(resourceVersion|timeoutSeconds)=[^&]*")
_PASSED_ON = ("Authorization", "Content-Type", "Accept")


def lasting(path: str) -> str:
    """A path and its query, without what is another each time."""
    return _CHANGES.sub("", path)


@dataclass(frozen=True)
class Answer:
    """What is answered instead of the API server."""

    status: int
    headers: dict[str, str]
    body: str = '{"kind": "Status", "apiVersion": "v1", "message": "said by a test"}'


@dataclass
class Asked:
    """One request, as it came and as it was answered; watches are answered when they begin."""

    method: str
    path: str
    """With its query."""
    at: float
    """The loop's time."""
    status: int = 0
    """0: not answered."""
    answered_at: float = 0.0

    @property
    def is_watch(self) -> bool:
        """Whether it asks for a stream of events."""
        return "watch=" in self.path


class Watch:
    """One watch that is open."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.is_deaf = False

    def say(self, line: bytes) -> None:
        """What the server says; nobody hears it after `broken_by`."""
        if not self.is_deaf:
            self.lines.put_nowait(line)

    def broken_by(self, event: bytes) -> None:
        """One event more; then the connection stays, and says nothing ever again."""
        self.lines.put_nowait(event)
        self.is_deaf = True

    def end(self) -> None:
        """The server ends it."""
        self.lines.put_nowait(None)


class ApiRelay:
    """Made by `relayed`; passes everything on until it is told otherwise."""

    def __init__(self, upstream: str, http: aiohttp.ClientSession) -> None:
        self.url = ""
        self.refuses: Callable[[Asked], Answer | None] = lambda _: None
        """Asked of each request; what it gives is the answer."""
        self.holds: Callable[[Asked], asyncio.Event | None] = lambda _: None
        """Asked of each request; it is passed on only when the event is set, whatever became of who asked."""
        self.mangles: Callable[[Watch, bytes], list[bytes]] = lambda _, line: [line]
        """What comes of each line of a watch."""
        self.rewrites: Callable[[str], str] = lambda path: path
        """What is asked of the API server instead of a path with its query."""
        self.asked: list[Asked] = []
        self.watches: list[Watch] = []
        self._upstream = upstream
        self._http = http
        self._late: set[asyncio.Task[web.Response]] = set()
        self._runner = web.AppRunner(self._app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        self._port = 0

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=_UNTOUCHED)
        app.router.add_route("*", "/{rest:.*}", self._handle)
        return app

    # --- the network ---

    async def up(self) -> None:
        """Take connections, at the same port each time."""
        if not self._port:
            await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.url = url_of(self._runner)
        self._port = self._runner.addresses[0][1]

    async def down(self) -> None:
        """Refuse connections, and reset those there are."""
        for site in list(self._runner.sites):
            await site.stop()
        self.reset()

    def reset(self) -> None:
        """Reset the connections there are."""
        assert self._runner.server
        for connection in self._runner.server.connections:
            if connection.transport:
                connection.transport.abort()

    async def close(self) -> None:
        """End it."""
        for late in self._late:
            late.cancel()
        await self._runner.cleanup()

    def open_watches(self, plural: str) -> list[Watch]:
        """Those of a resource."""
        return [watch for watch in self.watches if f"/{plural}?" in watch.path]

    # --- requests ---

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path_qs, self._now())
        self.asked.append(asked)
        refusal = self.refuses(asked)
        if refusal:
            self._answered(asked, refusal.status)
            return web.Response(status=refusal.status, headers=refusal.headers, text=refusal.body)
        body = await request.read()
        if asked.is_watch:
            return await self._stream(request, asked)
        # A request that is on its way arrives, even if who asked is no more.
        passing = asyncio.create_task(self._pass_on(request, asked, body))
        self._late.add(passing)
        passing.add_done_callback(self._late.discard)
        return await asyncio.shield(passing)

    async def _pass_on(self, request: web.Request, asked: Asked, body: bytes) -> web.Response:
        gate = self.holds(asked)
        if gate:
            await gate.wait()
        url, headers = self._url(request), _headers(request)
        async with self._http.request(request.method, url, headers=headers, data=body or None) as answer:
            payload = await answer.read()
        self._answered(asked, answer.status)
        return web.Response(status=answer.status, body=payload, headers=_said(answer))

    def _answered(self, asked: Asked, status: int) -> None:
        asked.status, asked.answered_at = status, self._now()

    async def _stream(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        headers = _headers(request)
        async with self._http.get(self._url(request), headers=headers, timeout=timeout) as answer:
            self._answered(asked, answer.status)
            response = web.StreamResponse(status=answer.status, headers=_said(answer))
            await response.prepare(request)
            watch = Watch(request.path_qs)
            reading = asyncio.create_task(self._read(answer, watch))
            self.watches.append(watch)
            try:
                while (line := await watch.lines.get()) is not None:
                    await response.write(line)
            finally:
                self.watches.remove(watch)
                reading.cancel()
        return response

    async def _read(self, answer: aiohttp.ClientResponse, watch: Watch) -> None:
        pending = b""
        with suppress(aiohttp.ClientError):
            async for chunk in answer.content.iter_any():
                *whole, pending = (pending + chunk).split(b"\n")
                for line in whole:
                    for told in self.mangles(watch, line + b"\n"):
                        watch.say(told)
        if not watch.is_deaf:
            watch.end()

    def _url(self, request: web.Request) -> URL:
        return URL(f"{self._upstream}{self.rewrites(request.raw_path)}", encoded=True)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _headers(request: web.Request) -> dict[str, str]:
    return {name: request.headers[name] for name in _PASSED_ON if name in request.headers}


def _said(answer: aiohttp.ClientResponse) -> dict[str, str]:
    named = ("Content-Type", "Retry-After")
    return {name: answer.headers[name] for name in named if name in answer.headers}


@asynccontextmanager
async def relayed(upstream: str, ca: Path) -> AsyncIterator[ApiRelay]:
    """A relay before the API server at `upstream`."""
    tls = ssl.create_default_context(cafile=str(ca))
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        relay = ApiRelay(upstream, http)
        await relay.up()
        try:
            yield relay
        finally:
            await relay.close()
