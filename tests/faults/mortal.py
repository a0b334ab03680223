"""A client whose process dies right after one of its writes: that one reaches the API server, none after it does."""

import asyncio
from collections.abc import Callable
from typing import Any

from belay_kube.client import Collection, Json, Kube
from belay_kube.errors import Unreachable


class Mortal(Kube):
    """Counts the writes of the client it is made of; after the last it may make, every request waits for ever.

    `last`: the number of that write, from 1; 0: it lives. `instead`: it dies in place of the first write, as method and
    path, of which this is so.
    """

    def __init__(self, inner: Kube, last: int = 0, instead: Callable[[str], bool] = lambda _: False) -> None:
        super().__init__(inner.api)
        self._last = last
        self._instead = instead
        self.writes: list[str] = []
        self.dead = asyncio.Event()
        self._buried = asyncio.Event()

    def bury(self) -> None:
        """Let what waits for ever end, so that the tasks of the dead can be cleared away."""
        self._buried.set()

    async def _json(self, method: str, url: str, *args: Any, **named: Any) -> Json:
        """Every request but watches; the answer to the last write is never read."""
        if self.dead.is_set():
            await self._wait()
        if method == "GET":
            return await super()._json(method, url, *args, **named)
        if self._instead(f"{method} {url}"):
            self.dead.set()
            await self._wait()
        self.writes.append(f"{method} {url}")
        is_last = len(self.writes) == self._last
        if self._last and len(self.writes) > self._last:
            await self._wait()
        try:
            return await super()._json(method, url, *args, **named)
        finally:
            if is_last:
                self.dead.set()
                await self._wait()

    async def _wait(self) -> None:
        await self._buried.wait()
        raise Unreachable("the test has ended this process")

    def written(self, collection: Collection, name: str) -> int:
        """How many writes there were to one object."""
        return sum(f"/{collection.plural}/{name}" in write for write in self.writes)
