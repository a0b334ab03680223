"""An API server that a test can make slow: its writes of status wait at a gate before they are carried out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from belay_kube.client import Collection, Json, Kube
from belay_kube.errors import Gone, KubeError


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


class FirstWriteWaits:
    """Stands in for a `Kube`; its first write of a status waits at a gate, all that come later go straight through."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.gate = asyncio.Event()
        self.began = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def patch_status(self, path: Collection, obj: Json, status: Json) -> Json:
        """Write; the first, once the gate is open."""
        if not self.began:
            self.began = True
            await self.gate.wait()
        return await self._kube.patch_status(path, obj, status)


class AfterWrite:
    """Stands in for a `Kube`; something happens right after each write of a status."""

    def __init__(self, kube: Kube, then: Callable[[], Awaitable[Any]]) -> None:
        self._kube = kube
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def patch_status(self, path: Collection, obj: Json, status: Json) -> Json:
        """Write, and go on."""
        written = await self._kube.patch_status(path, obj, status)
        await self._then()
        return written


class CreateFails:
    """Stands in for a `Kube`; creates of one resource type end with an error, `after` they were carried out or not."""

    def __init__(self, kube: Kube, path: Collection, error: KubeError, *, after: bool = False) -> None:
        self._kube = kube
        self._path = path
        self._after = after
        self.error: KubeError | None = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def create(self, path: Collection, namespace: str | None, body: Json) -> Json:
        """Create, unless it is that type's."""
        if path != self._path or not self.error:
            return await self._kube.create(path, namespace, body)
        if self._after:
            await self._kube.create(path, namespace, body)
        raise self.error


class Lists:
    """Stands in for a `Kube`; lists of one resource type are counted, and wait at a gate while it is closed."""

    def __init__(self, kube: Kube, path: Collection) -> None:
        self._kube = kube
        self._path = path
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.limits: list[int] = []
        """How many objects each asked for at most."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def list(self, path: Collection, namespace: str | None = None, **query: str) -> Json:
        """List, once the gate is open."""
        if path == self._path and namespace:
            self.limits.append(int(query["limit"]))
            self.waiting += 1
            await self.gate.wait()
            self.waiting -= 1
        return await self._kube.list(path, namespace, **query)


class CountedLists:
    """Stands in for a `Kube` and counts the lists of one collection."""

    def __init__(self, kube: Kube, of: Collection) -> None:
        self._kube = kube
        self._of = of
        self.lists = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def list(self, path: Collection, *args: Any, **query: Any) -> Json:
        """List, and count."""
        self.lists += path == self._of
        return await self._kube.list(path, *args, **query)


class Gap:
    """Stands in for a `Kube`; the first watch of one collection hears nothing, and has lost its place in the end."""

    def __init__(self, kube: Kube, of: Collection) -> None:
        self._kube = kube
        self._of = of
        self.away = False
        self.back = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    @asynccontextmanager
    async def watch(self, path: Collection, *args: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """Watch, once that is possible again."""
        if path == self._of and not self.back.is_set():
            self.away = True
            await self.back.wait()
            raise Gone("too old resource version")
        async with self._kube.watch(path, *args) as lines:
            yield lines
