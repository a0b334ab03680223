"""Messages that nobody has looked at yet."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

MOST = 1000
T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue in the order of arrival; of more than `most` that wait the oldest are dropped, and that is logged."""

    def __init__(self, most: int = MOST) -> None:
        self._waiting: deque[T] = deque()
        self._most = most
        self._changed = asyncio.Event()
        self._over: Exception | None = None

    def add(self, message: T) -> None:
        """Put it in."""
        self._waiting.append(message)
        if len(self._waiting) > self._most:
            log.warning(
                "message dropped: nobody has read the ones before it", kind=type(self._waiting.popleft()).__name__
            )
        self._changed.set()

    def end(self, error: Exception) -> None:
        """No more will come."""
        self._over = error
        self._changed.set()

    async def next(self) -> T:
        """Wait for the next; what came before the end is given out first. Raises what it was ended with."""
        while True:
            if self._waiting:
                return self._waiting.popleft()
            if self._over is not None:
                raise self._over
            self._changed.clear()
            await self._changed.wait()
