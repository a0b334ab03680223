"""A server on loopback that speaks the Messages API, does as it is told with each request, and keeps what it was asked.

    async with llm_server() as llm:
        llm.will(calls(Call("delegate", {"agent": "worker"})), fails(529, retry_after="2"), says("done"))
        provider = AnthropicProvider("key", llm.url, clock)
        ...
        assert llm.requests[0].body["system"][0]["text"] == "Be brief."

What was not foreseen is answered by `otherwise`. A request that the API itself refuses (`llmrules`) is answered 400,
takes no behaviour, and is kept in `refused`: a test that drives conversations asserts that this is empty.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from llmanswers import Behaviour, fails, says
from llmrules import refusal
from llmstream import Stream
from waiting import eventually

_MOST_BYTES = 64 * 1024 * 1024


@dataclass
class Asked:
    """A request: headers in lower case, and the JSON it held."""

    headers: Mapping[str, str]
    body: Mapping[str, Any]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: bool = False
    """Whether the client went away before the answer was over."""

    @property
    def key(self) -> str | None:
        """The API key; the SDK sends it as a bearer token."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme == "Bearer" else self.headers.get("x-api-key")


class LlmServer:
    """Told by a test what to do; `keys` are those accepted, any when None."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Asked] = []
        self.refused: list[str] = []
        self.keys: set[str] | None = None
        self.otherwise: Behaviour = says("ok")
        self.closing = asyncio.Event()
        self._queue: deque[Behaviour] = deque()

    def will(self, *behaviours: Behaviour) -> None:
        """Do these with the next requests, one each."""
        self._queue.extend(behaviours)

    @property
    def foreseen(self) -> int:
        """How many behaviours no request has taken yet."""
        return len(self._queue)

    async def asked(self, count: int) -> Asked:
        """The request of that number, from 1, once it is there."""
        await eventually(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/messages."""
        asked = Asked({name.lower(): value for name, value in request.headers.items()}, await request.json())
        self.requests.append(asked)
        try:
            stream = Stream(request, asked.body, self.closing)
            await self._behaviour(asked)(stream)
        except (asyncio.CancelledError, ConnectionError):
            asked.abandoned = not self.closing.is_set()
            raise
        finally:
            asked.over.set()
        return stream.response

    def _behaviour(self, asked: Asked) -> Behaviour:
        if self.keys is not None and asked.key not in self.keys:
            return fails(401, "authentication_error", "invalid API key")
        if why := refusal(asked.body):
            self.refused.append(why)
            return fails(400, "invalid_request_error", why)
        return self._queue.popleft() if self._queue else self.otherwise


@asynccontextmanager
async def llm_server() -> AsyncIterator[LlmServer]:
    """A running server."""
    server = LlmServer()
    app = web.Application(client_max_size=_MOST_BYTES)
    app.router.add_post("/v1/messages", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.closing.set()
        await runner.cleanup()
