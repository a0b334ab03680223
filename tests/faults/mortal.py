"""A client whose process dies right after one of its writes: that one reaches the API server, none after it does."""

import asyncio
from typing import Any

from belay_kube.client import Collection, Json, Kube


class Mortal(Kube):
    """Counts the writes of the client it is made of; after the last it may make, every request waits for ever.

    `last`: the number of that write, from 1; 0: it lives.
    """

    def __init__(self, inner: Kube, last: int = 0) -> None:
        super().__init__(inner.api)
        self._last = last
        self.writes: list[str] = []
        self.dead = asyncio.Event()

    async def _json(self, method: str, url: str, *args: Any, **named: Any) -> Json:
        """Every request but watches; the answer to the last write is never read."""
        if self.dead.is_set():
            await asyncio.Event().wait()
        if method == "GET":
            return await super()._json(method, url, *args, **named)
        self.writes.append(f"{method} {url}")
        is_last = len(self.writes) == self._last
        if self._last and len(self.writes) > self._last:
            await asyncio.Event().wait()
        try:
            return await super()._json(method, url, *args, **named)
        finally:
            if is_last:
                self.dead.set()
                await asyncio.Event().wait()

    def written(self, collection: Collection, name: str) -> int:
        """How many writes there were to one object."""
        return sum(f"/{collection.plural}/{name}" in write for write in self.writes)
