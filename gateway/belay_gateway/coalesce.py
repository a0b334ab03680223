"""Answers kept for a short time, and asked for once however many want them."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from belay_kube.clock import Clock
from belay_kube.logs import nothing

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Coalesced(Generic[K, V]):
    """A bounded cache; questions with one key that are in flight share one request. Failures are not kept."""

    def __init__(self, clock: Clock, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._asked: dict[K, asyncio.Task[V]] = {}
        self.counted: Callable[[str], None] = lambda _: None
        """Called for each question with how it is answered: kept, shared (with one in flight) or asked."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._asked)

    async def get(self, key: K, ask: Callable[[], Awaitable[V]], seconds: Callable[[V], float]) -> V:
        """The kept answer, or that of `ask`, which is then kept for `seconds(answer)`."""
        kept = self._kept.get(key)
        if kept and self._clock.monotonic() < kept[0]:
            self.counted("kept")
            return kept[1]
        task = self._asked.get(key)
        self.counted("shared" if task else "asked")
        if task is None:
            asking = self._ask(key, ask, seconds)
            task = asyncio.get_running_loop().create_task(asking, context=nothing())
            self._asked[key] = task
            task.add_done_callback(lambda done: self._answered(key, done))
        # One who gives up waiting must not cancel the request of the others.
        return await asyncio.shield(task)

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]], seconds: Callable[[V], float]) -> V:
        answer = await ask()
        self._kept[key] = (self._clock.monotonic() + seconds(answer), answer)
        self._kept.move_to_end(key)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return answer

    def _answered(self, key: K, done: "asyncio.Task[V]") -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()  # everyone who waited has it; with nobody left it must not be reported as lost
