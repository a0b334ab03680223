"""Offers that nobody has looked at yet."""

import asyncio

from belay_api.messages import Dispatch
from belay_client.work import Key


class Offers:
    """A queue in the order of arrival in which an offer can be repeated and taken back."""

    def __init__(self) -> None:
        self._waiting: dict[Key, Dispatch] = {}
        self._changed = asyncio.Event()
        self._over: Exception | None = None

    def add(self, dispatch: Dispatch) -> None:
        """Put it in; one that waits already keeps its place."""
        self._waiting[dispatch.name, dispatch.attempt] = dispatch
        self._changed.set()

    def revoke(self, key: Key) -> None:
        """Take it back, if it still waits."""
        self._waiting.pop(key, None)

    def clear(self) -> None:
        """Forget all: what still is on offer is offered again on the next connection."""
        self._waiting.clear()

    def end(self, error: Exception) -> None:
        """No more will come."""
        self._over = error
        self._changed.set()

    async def next(self) -> Dispatch:
        """Wait for the next. Raises what it was ended with."""
        while True:
            if self._over is not None:
                raise self._over
            if self._waiting:
                return self._waiting.pop(next(iter(self._waiting)))
            self._changed.clear()
            await self._changed.wait()
