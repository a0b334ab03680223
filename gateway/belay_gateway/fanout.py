"""Telling many the same thing: a few hundred at a time, so that nobody else waits for his turn (C3)."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from belay_gateway.backlog import Backlog, Shared
from belay_gateway.lanes import Lane

log = structlog.get_logger(__name__)

AT_ONCE = 200

Tell = Callable[[Shared], None]


class Fanout:
    """Tells many the same, in the order it came, with pauses in which others get their turn."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        # No limit: what must come in order can't be left out. Whoever may wait asks the backlog for room before.
        self._lane: Lane[tuple[Sequence[Tell], Shared]] = Lane(self._spread)

    def tell(self, peers: Sequence[Tell], shared: Shared) -> None:
        """Tell each of `peers`: few at once, many later. Never waits."""
        if self._lane.idle and len(peers) <= AT_ONCE:
            _tell(peers, shared)
            return
        self._backlog.add(shared.size * len(peers))
        self._lane.put((peers, shared))

    def stop(self) -> None:
        """Drop what waits."""
        self._lane.stop()

    async def _spread(self, item: tuple[Sequence[Tell], Shared]) -> None:
        peers, shared = item
        left = len(peers)
        try:
            for start in range(0, len(peers), AT_ONCE):
                batch = peers[start : start + AT_ONCE]
                self._backlog.add(-shared.size * len(batch))
                left -= len(batch)
                _tell(batch, shared)
                await asyncio.sleep(0)
        finally:
            self._backlog.add(-shared.size * left)


def _tell(peers: Sequence[Tell], shared: Shared) -> None:
    for tell in peers:
        try:
            tell(shared)
        except Exception:
            log.exception("one of many was not told", kind=shared.kind)
