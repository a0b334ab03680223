"""Readers that run only while somebody needs them: started with the first, stopped some time after the last, so that
nobody who comes and goes makes the API server list the same again and again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_kube.logs import nothing
from belay_kube.reader import Reader, Sink

IDLE_SECONDS = 60.0
"""That a reader outlives its last listener."""


class Heard(Sink, Protocol):
    """The Sink of such a reader."""

    def stop(self) -> None:
        """Its reader has ended: drop what is still to be told."""


Key = TypeVar("Key", str, Ref)
Told = TypeVar("Told", bound=Heard)


@dataclass
class Watched(Generic[Told]):
    """A reader that runs, and what it tells."""

    sink: Told
    reader: Reader
    task: "asyncio.Task[None]"
    listeners: int = 0
    idle: "asyncio.Task[None] | None" = field(default=None)
    """Ends the reader, unless somebody listens again."""

    def end(self) -> None:
        """End the reader."""
        self.task.cancel()
        self.sink.stop()


class Watches(Generic[Key, Told]):
    """The readers that run now, each by what it reads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.running: dict[Key, Watched[Told]] = {}
        self.on_ended: Callable[[asyncio.Task[None]], None] = lambda _: None
        """Called when a reader ends."""

    def join(self, key: Key, make: Callable[[], tuple[Told, Reader]]) -> Watched[Told]:
        """One more listens: the reader that runs, or else the one that `make` makes."""
        watched = self.running.get(key)
        if watched is None:
            sink, reader = make()
            loop = asyncio.get_running_loop()
            task = loop.create_task(reader.run(), name=f"reader of topics in {key}", context=nothing())
            task.add_done_callback(lambda ended: self.on_ended(ended))
            watched = self.running[key] = Watched(sink, reader, task)
        watched.listeners += 1
        if watched.idle:
            watched.idle.cancel()
            watched.idle = None
        return watched

    def leave(self, key: Key) -> None:
        """One less listens."""
        watched = self.running.get(key)
        if watched is None:
            return
        watched.listeners -= 1
        if watched.listeners == 0:
            watched.idle = asyncio.get_running_loop().create_task(self._end(key, watched), context=nothing())

    async def _end(self, key: Key, watched: Watched[Told]) -> None:
        await self._clock.sleep(IDLE_SECONDS)
        del self.running[key]
        watched.end()

    async def close(self) -> None:
        """Stop every reader."""
        ended = list(self.running.values())
        self.running.clear()
        for watched in ended:
            watched.end()
            if watched.idle:
                watched.idle.cancel()
        tasks = [task for watched in ended for task in (watched.task, watched.idle) if task]
        await asyncio.gather(*tasks, return_exceptions=True)
