"""When to look at what: a queue of keys that are due now, and one of keys that will be due.

`WorkQueue` hands a key to one worker at a time and never holds it twice; a key added while it is worked on comes again.
`TimeQueue` is the one timer of the operator: a heap of (due, key), the earliest due time of each key counts.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from belay_kube.clock import Clock

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys to be worked on, first come first served; minor ones (`is_minor`) only when no other waits.

    Of these no more than `MOST_MINOR` are in hand at once: what falls due while thousands of them wait finds a worker
    that is free, and an API server that has something left.
    """

    MOST_MINOR = 4

    def __init__(self, is_minor: Callable[[K], bool] = lambda _: False) -> None:
        self._is_minor = is_minor
        self._ready: deque[K] = deque()
        self._minor: deque[K] = deque()
        self._waiting: set[K] = set()
        self._in_hand: set[K] = set()
        self._minor_in_hand: set[K] = set()
        self._wake: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_hand)

    def add(self, key: K) -> None:
        """Ask for `key` to be worked on; nothing happens if it waits already."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        self._idle.clear()
        if key not in self._in_hand:
            self._push(key)

    async def take(self) -> K:
        """The next key; give it back with `done`."""
        while not (self._ready or self._has_minor()):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._wake.append(future)
            await future
        if self._ready:
            key = self._ready.popleft()
        else:
            key = self._minor.popleft()
            self._minor_in_hand.add(key)
        self._waiting.discard(key)
        self._in_hand.add(key)
        return key

    def done(self, key: K) -> None:
        """`key` has been worked on; it comes again if it was added meanwhile."""
        self._in_hand.discard(key)
        self._minor_in_hand.discard(key)
        if key in self._waiting:
            self._push(key)
        elif not self._waiting and not self._in_hand:
            self._idle.set()
        if self._has_minor():
            self._wake_one()

    async def idle(self) -> None:
        """Return once nothing waits and nothing is in hand."""
        await self._idle.wait()

    def _has_minor(self) -> bool:
        return bool(self._minor) and len(self._minor_in_hand) < self.MOST_MINOR

    def _push(self, key: K) -> None:
        (self._minor if self._is_minor(key) else self._ready).append(key)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._wake:
            future = self._wake.popleft()
            if not future.done():
                future.set_result(None)
                break


class TimeQueue(Generic[K]):
    """Keys that will be due; `emit` is called with each key once its time has come."""

    _LONGEST_SLEEP = 5.0
    """Seconds after which the wall clock is looked at again: it may be set, a sleep can't know."""

    def __init__(self, clock: Clock, emit: Callable[[K], None]) -> None:
        self._clock = clock
        self._emit = emit
        self._due: dict[K, datetime] = {}
        self._heap: list[tuple[datetime, int, K]] = []
        self._order = 0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def set(self, key: K, due: datetime) -> None:
        """`key` is due at `due` (and not at the time it was set to before)."""
        if self._due.get(key) == due:
            return
        self._due[key] = due
        self._order += 1
        heapq.heappush(self._heap, (due, self._order, key))
        if self._heap[0][2] == key:
            self._changed.set()
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._due):
            self._compact()

    def sooner(self, key: K, due: datetime) -> None:
        """`key` is due at `due`, unless it is due earlier anyway."""
        if key not in self._due or due < self._due[key]:
            self.set(key, due)

    def drop(self, key: K) -> None:
        """`key` is not due any more."""
        self._due.pop(key, None)

    async def run(self) -> None:
        """Emit keys as they fall due, until cancelled."""
        while True:
            self._changed.clear()
            self._emit_due()
            await self._sleep()

    def _emit_due(self) -> None:
        now = self._clock.now()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self._emit(key)

    async def _sleep(self) -> None:
        ahead = (self._heap[0][0] - self._clock.now()).total_seconds() if self._heap else self._LONGEST_SLEEP
        nap = asyncio.ensure_future(self._clock.sleep(min(ahead, self._LONGEST_SLEEP)))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({nap, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            changed.cancel()

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)


def after(now: datetime, seconds: float) -> datetime:
    """`seconds` from `now`."""
    return now + timedelta(seconds=seconds)
