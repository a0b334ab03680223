"""The bounded pool of calls to models: one slow session never delays another, and many never drown the provider."""

import asyncio
from types import TracebackType
from typing import Self


class Slot:
    """One place in the pool, held within `async with`; it may be left while waiting for a retry (L12)."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False

    async def take(self) -> None:
        """Have a place; waits for a free one."""
        if not self._held:
            await self._places.acquire()
            self._held = True

    def leave(self) -> None:
        """Give the place to others."""
        if self._held:
            self._held = False
            self._places.release()

    async def __aenter__(self) -> Self:
        await self.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Pool:
    """At most `at_once` calls at once, first come first served."""

    def __init__(self, at_once: int) -> None:
        self._places = asyncio.Semaphore(at_once)

    def slot(self) -> Slot:
        """A place to be had."""
        return Slot(self._places)
