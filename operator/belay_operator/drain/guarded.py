"""Parts of one look at a session, of which none stands in the way of the others."""

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Guarded:
    """Runs parts one after the other, and raises the first error once all were tried."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    async def run(self, part: Awaitable[T], otherwise: T) -> T:
        """What `part` returns; `otherwise` when it fails."""
        try:
            return await part
        except Exception as error:  # noqa: BLE001 - the first one is raised by `done`
            self._error = self._error or error
            return otherwise

    def done(self) -> None:
        """Raise what failed first, so that all of it is done again."""
        if self._error:
            raise self._error
