"""An API server that a test can make slow: its writes of status wait at a gate before they are carried out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from belay_kube.client import Collection, Json, Kube


class SlowWrites:
    """Stands in for a `Kube`; all but writes of status goes straight through."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.gate = asyncio.Event()
        self.waiting = 0
        """Writes at the gate now."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def patch_status(self, path: Collection, obj: Json, status: Json) -> Json:
        """Write once the gate is open."""
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        return await self._kube.patch_status(path, obj, status)


class Meanwhile:
    """Stands in for a `Kube`; something happens right after each list was answered."""

    def __init__(self, kube: Kube, then: Callable[[], Awaitable[Any]]) -> None:
        self._kube = kube
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def list(self, *args: Any, **query: Any) -> Json:
        """What there was, when it isn't so any more."""
        found = await self._kube.list(*args, **query)
        await self._then()
        return found


class Counted:
    """Stands in for a `Kube` and counts the reads of single objects."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def get(self, *args: Any) -> Json:
        """Read, and count."""
        self.reads += 1
        return await self._kube.get(*args)
