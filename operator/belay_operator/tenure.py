"""How long this process may take itself for the leader: what it writes waits while it can't."""

import asyncio

from belay_kube.clock import Clock
from belay_kube.errors import Temporary


class Tenure:
    """Renewed with the Lease. A process that was frozen, or cut off, for longer than a Lease lasts wakes up with work
    that is due and a view of long ago: another may lead by then, so nothing is written before the Lease was seen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = float("-inf")
        self._changed = asyncio.Event()
        self._over = False

    def renewed(self, until: float) -> None:
        """Nobody else leads before `until`, by the clock's `monotonic`, as long as all wait as long for a Lease."""
        self._until = until
        self._changed.set()

    def end(self, *, taken: bool = False) -> None:
        """It is not renewed again; when it was `taken`, another leads now."""
        self._over = True
        if taken:
            self._until = float("-inf")
        self._changed.set()

    async def sure(self) -> None:
        """Return when nobody else may lead. Raises Temporary when that will not be."""
        while self._clock.monotonic() >= self._until:
            if self._over:
                raise Temporary("not written: this process may lead no longer")
            self._changed.clear()
            await self._changed.wait()
