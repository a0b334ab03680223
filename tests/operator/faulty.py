"""The operator's real client with a fault put in: something happens just before a request, or it is refused."""

from collections.abc import Awaitable, Callable

from belay_kube.client import Collection, Json, Kube
from belay_kube.errors import Forbidden

Hook = Callable[[Collection, Json], Awaitable[None]]


class Faulty(Kube):
    """Behaves as the client it is made of, but for its hooks; each may raise what the request is to end with."""

    def __init__(self, inner: Kube) -> None:
        super().__init__(inner.api)
        self.before_write: Hook | None = None
        """Before a status is written; gets the object as it was read."""
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
