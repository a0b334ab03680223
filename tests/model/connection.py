"""The client of one process: each of its requests is a point where the process may die, or where others go first."""

from collections.abc import Awaitable, Callable
from typing import Any

from belay_api.transitions import Writer
from belay_kube.client import MERGE, Collection, Json, Kube
from belay_kube.errors import Forbidden, Invalid

from .history import History
from .store import Store

Step = Callable[[], Awaitable[None]]


class Crash(BaseException):
    """The process was killed: whatever it was at, nothing of it goes on."""


class Connection(Kube):
    """`Kube` for a Store; what is written, and what is refused, is recorded."""

    def __init__(self, store: Store, who: Writer | None, history: History) -> None:
        self._store = store
        self._who = who
        self._history = history
        self._dead = False
        self._countdown = 0
        self._meanwhile: Step | None = None

    def interrupt(self, after: int, meanwhile: Step | None) -> None:
        """After so many more requests, and before the next one, `meanwhile` happens; None: nothing does."""
        self._countdown, self._meanwhile = after, meanwhile

    def kill(self) -> None:
        """From now on every request raises Crash."""
        self._dead = True

    async def _turn(self) -> None:
        if self._meanwhile and not self._dead:
            self._countdown -= 1
            if self._countdown < 0:
                step, self._meanwhile = self._meanwhile, None
                await step()
        if self._dead:
            raise Crash

    async def get(self, path: Collection, namespace: str | None, name: str) -> Json:
        """Read one object."""
        await self._turn()
        return await self._store.get(self._who, path, namespace or "", name)

    async def list(self, path: Collection, namespace: str | None = None, **query: str) -> Json:
        """List."""
        await self._turn()
        return await self._store.list(self._who, path, namespace or "", query)

    async def create(self, path: Collection, namespace: str | None, body: Json) -> Json:
        """Create."""
        await self._turn()
        made = await self._store.create(self._who, path, namespace or "", body)
        self._history.wrote(self._who, path, made)
        return made

    async def delete(
        self, path: Collection, namespace: str | None, name: str, preconditions: Json | None = None
    ) -> Json:
        """Delete."""
        await self._turn()
        return await self._store.delete(self._who, path, namespace or "", name, preconditions)

    async def patch(
        self,
        path: Collection,
        namespace: str | None,
        name: str,
        body: Any,
        *,
        subresource: str | None = None,
        content_type: str = MERGE,
        **query: str,
    ) -> Json:
        """Patch; a refusal of a status is a fault of whoever asked, but for a failed test."""
        await self._turn()
        try:
            made = await self._store.patch(self._who, path, namespace or "", name, body, subresource, content_type)
        except (Forbidden, Invalid) as error:
            if content_type == MERGE:
                self._history.refused(self._who, path, name, error)
            raise
        self._history.wrote(self._who, path, made)
        return made
