"""Queues with a bound that cost next to nothing while they are empty: a task exists only while there is something to
do, and a short list stands in for a deque, which is ten times its size.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeVar

import aiohttp
import structlog
from aiohttp import web

from belay_gateway.backlog import Backlog, Shared, size_of
from belay_kube.logs import nothing

log = structlog.get_logger(__name__)

T = TypeVar("T")
MAX_QUEUED_BYTES = 4 * 1024 * 1024
_LOW_WATER = 16 * 1024
"""Below this many unsent bytes asyncio doesn't hold a writer back, so a write returns at once."""


class Lane(Generic[T]):
    """Handles items one after another in the order they came; one that fails is logged and doesn't stop the next."""

    __slots__ = ("_handle", "_items", "_limit", "_task")

    def __init__(self, handle: Callable[[T], Awaitable[None]], limit: int | None = None) -> None:
        self._handle = handle
        self._limit = limit
        self._items: list[T] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being handled."""
        return self._task is None

    def put(self, item: T) -> bool:
        """Queue `item`; False when the queue is full, which one without a limit never is."""
        if self._limit is not None and len(self._items) >= self._limit:
            return False
        self._items.append(item)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=nothing())
        return True

    async def finish(self, seconds: float) -> None:
        """Wait until all is handled, at most `seconds`; what isn't by then is dropped."""
        if self._task:
            await asyncio.wait({self._task}, timeout=seconds)
        self.stop()

    def stop(self) -> None:
        """Drop what waits."""
        self._items.clear()
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._items:
                await self._handle_one(self._items.pop(0))
        finally:
            self._task = None

    async def _handle_one(self, item: T) -> None:
        try:
            await self._handle(item)
        except Exception:
            log.exception("an item was not handled")


class Queued(NamedTuple):
    """A frame that waits: its text, or the identifier that `shared` is for, and its bytes."""

    text: str
    sent: Callable[[], None] | None
    shared: Shared | None
    size: int

    def frame(self) -> str:
        """As it is sent. What many are told is joined only now: while it waits, it is held once for all."""
        if self.shared is None:
            return self.text
        return f'{{"identifier": {json.dumps(self.text)}, "message": {self.shared.text}}}'


class Outbox:
    """Frames on their way to one peer. Whoever puts one never waits; a peer that doesn't read overflows it."""

    __slots__ = ("_backlog", "_bytes", "_ended", "_frames", "_overflowed", "_task", "_transport", "_ws")

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        backlog: Backlog,
        overflowed: Callable[[], None],
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._backlog = backlog
        self._overflowed = overflowed
        self._frames: list[Queued] = []
        self._bytes = 0
        """Of the frames that wait and of the one that is being sent."""
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    def put(self, text: str, sent: Callable[[], None] | None = None) -> None:
        """Queue a frame; `sent` is called once it was written to the connection."""
        self._put(Queued(text, sent, None, size_of(text)))

    def put_shared(self, identifier: str, shared: Shared) -> None:
        """Queue a message that many are told, for one subscription."""
        self._put(Queued(identifier, None, shared, len(identifier) + shared.size))

    def end_with(self, text: str, *, drop: bool = False) -> None:
        """Queue the last frame; nothing goes after it, and with `drop` nothing that waits goes before it."""
        if self._ended:
            return
        self._ended = True
        if drop:
            self._drop()
        self._append(Queued(text, None, None, size_of(text)))

    def _put(self, frame: Queued) -> None:
        if self._ended:
            return
        if len(self._frames) >= self._backlog.frames or self._bytes + frame.size > MAX_QUEUED_BYTES:
            self._overflowed()
            return
        self._append(frame)

    def _append(self, frame: Queued) -> None:
        self._frames.append(frame)
        self._count(frame.size)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=nothing())

    def _count(self, size: int) -> None:
        self._bytes += size
        self._backlog.add(size)

    def _drop(self) -> None:
        self._count(-sum(frame.size for frame in self._frames))
        self._frames.clear()

    @property
    def clear(self) -> bool:
        """Whether a small frame can be written at once: nothing queued, next to nothing unsent."""
        transport = self._transport
        return self._task is None and transport is not None and transport.get_write_buffer_size() < _LOW_WATER

    @property
    def unsent(self) -> bool:
        """Whether something was written that the peer's side has not taken."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    @property
    def has_room(self) -> bool:
        """Whether less than half of what may be queued is."""
        return len(self._frames) * 2 < self._backlog.frames and self._bytes * 2 < MAX_QUEUED_BYTES

    async def flushed(self) -> None:
        """Return once everything was written."""
        if self._task:
            await asyncio.wait({self._task})

    def stop(self) -> None:
        """Drop what waits."""
        self._ended = True
        self._drop()
        if self._task:
            self._task.cancel()

    def abort(self) -> None:
        """Give the connection up, whatever is still unsent."""
        self.stop()
        if self._transport:
            self._transport.abort()

    def give_up(self) -> None:
        """Close as of a peer that doesn't read."""
        self._overflowed()

    async def _run(self) -> None:
        try:
            while self._frames:
                await self._send(self._frames.pop(0))
        except (ConnectionError, RuntimeError, aiohttp.ClientError):
            # The peer is gone; its reader ends too and says why.
            self._drop()
        finally:
            self._backlog.idle(self)
            self._task = None

    async def _send(self, frame: Queued) -> None:
        self._backlog.sending(self)
        try:
            await self._ws.send_str(frame.frame())
        finally:
            self._count(-frame.size)
        if frame.sent:
            frame.sent()

    async def write_at_once(self, write: Callable[[], Awaitable[Any]]) -> None:
        """Write a ping or the like if that can't wait for the peer; else leave it out, more important things queue."""
        if not self.clear:
            return
        try:
            await write()
        except (ConnectionError, RuntimeError, aiohttp.ClientError):
            return
