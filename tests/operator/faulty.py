"""The operator's real client with a fault put in: something happens just before a request, or it is refused."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from belay_kube.client import DELEGATIONS, MESSAGES, SESSIONS, TURNS, Collection, Json, Kube
from belay_kube.errors import Forbidden, Unreachable

Hook = Callable[[Collection, Json], Awaitable[None]]


class Faulty(Kube):
    """Behaves as the client it is made of, but for its hooks; each may raise what the request is to end with."""

    def __init__(self, inner: Kube) -> None:
        super().__init__(inner.api)
        self.before_write: Hook | None = None
        """Before a status is written; gets the object as it was read."""
        self.before_create: Hook | None = None
        """Before an object is created; gets the object."""
        self.after_create: Hook | None = None
        """After an object was created; gets the object."""
        self.before_delete: Callable[[Collection, str], Awaitable[None]] | None = None
        """Before one object is deleted; gets its name."""
        self.before_list: Hook | None = None
        """Before a list is asked for; gets the query, with its namespace."""
        self.after_list: Hook | None = None
        """After a list was answered; gets the answer, which may be changed."""
        self.before_get: Callable[[Collection, str], Awaitable[None]] | None = None
        """Before one object is read; gets its name."""

    async def get(self, path: Collection, namespace: str | None, name: str) -> Json:
        """Read, after the hook."""
        if self.before_get:
            await self.before_get(path, name)
        return await super().get(path, namespace, name)

    async def patch_status(self, path: Collection, obj: Json, status: Json) -> Json:
        """Write, after the hook."""
        if self.before_write:
            await self.before_write(path, obj)
        return await super().patch_status(path, obj, status)

    async def create(self, path: Collection, namespace: str | None, body: Json) -> Json:
        """Create, between the hooks."""
        if self.before_create:
            await self.before_create(path, body)
        made = await super().create(path, namespace, body)
        if self.after_create:
            await self.after_create(path, made)
        return made

    async def delete(
        self, path: Collection, namespace: str | None, name: str, preconditions: Json | None = None
    ) -> Json:
        """Delete, after the hook."""
        if self.before_delete:
            await self.before_delete(path, name)
        return await super().delete(path, namespace, name, preconditions)

    async def list(self, path: Collection, namespace: str | None = None, **query: str) -> Json:
        """List, between the hooks."""
        if self.before_list:
            await self.before_list(path, {**query, "namespace": namespace})
        answer = await super().list(path, namespace, **query)
        if self.after_list:
            await self.after_list(path, answer)
        return answer


def refusing(collection: Collection, name: str | None = None) -> Hook:
    """A hook that refuses writes to one collection, or to one object of it."""

    async def refuse(path: Collection, obj: Json) -> None:
        if path == collection and name in (None, obj["metadata"]["name"]):
            raise Forbidden(f"{path.plural}: refused by the test", 403)

    return refuse


class Mortal(Kube):
    """A client of a process that is killed after so many writes to sessions, turns and mail of a namespace, and creates
    of delegations there: nothing gets through from then on, not even that it ends."""

    def __init__(self, inner: Kube, namespace: str, lives: int) -> None:
        super().__init__(inner.api)
        self.died = False
        self._namespace = namespace
        self._lives = lives

    async def get(self, path: Collection, namespace: str | None, name: str) -> Json:
        """Read, while it lives."""
        self._live()
        return await super().get(path, namespace, name)

    async def list(self, path: Collection, namespace: str | None = None, **query: str) -> Json:
        """List, while it lives."""
        self._live()
        return await super().list(path, namespace, **query)

    async def create(self, path: Collection, namespace: str | None, body: Json) -> Json:
        """Create, while it lives."""
        self._live(namespace if path in (TURNS, MESSAGES, DELEGATIONS) else None)
        return await super().create(path, namespace, body)

    async def delete(
        self, path: Collection, namespace: str | None, name: str, preconditions: Json | None = None
    ) -> Json:
        """Delete, while it lives."""
        self._live(namespace if path == MESSAGES else None)
        return await super().delete(path, namespace, name, preconditions)

    async def patch_status(self, path: Collection, obj: Json, status: Json) -> Json:
        """Write, while it lives."""
        self._live(obj["metadata"]["namespace"] if path in (SESSIONS, MESSAGES) else None)
        return await super().patch_status(path, obj, status)

    def _live(self, namespace: str | None = None) -> None:
        """Use up one of its lives with a write that counts."""
        if namespace == self._namespace:
            self.died = self.died or self._lives == 0
            self._lives -= 1
        if self.died:
            raise Unreachable("killed by the test")


class Late(Kube):
    """What a watch says is held back from a line on that has `mark` in it, until `told` is set."""

    def __init__(self, inner: Kube, mark: bytes) -> None:
        super().__init__(inner.api)
        self.told = asyncio.Event()
        self._mark = mark

    @asynccontextmanager
    async def watch(
        self, path: Collection, namespace: str | None, query: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Watch, late."""
        async with super().watch(path, namespace, query) as lines:
            yield self._late(lines)

    async def _late(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            if self._mark in line:
                await self.told.wait()
            yield line
