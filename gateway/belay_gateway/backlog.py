"""What waits to be sent to all sockets of this process together, and its bound (fault 17 of RELIABILITY.md)."""

from typing import Protocol

from belay_kube.clock import Clock

MAX_BACKLOG_BYTES = 256 * 1024 * 1024
"""Of frames that wait in all queues, each counted where it waits."""
_SLOW_SECONDS = 10.0
"""A peer that took nothing for so long is slow, once the process is short of room."""


class Shared:
    """A message that many are told, held once however many queues it stands in: its type, its JSON and its bytes."""

    __slots__ = ("kind", "size", "text")

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.text = text
        self.size = size_of(text)


class Slow(Protocol):
    """A queue that can be given up."""

    def give_up(self) -> None:
        """Close it: its peer doesn't read."""


class Backlog:
    """Counts what waits, and knows since when each queue waits for its peer; a queue that is idle isn't known."""

    def __init__(self, clock: Clock, frames: int, limit: int = MAX_BACKLOG_BYTES) -> None:
        self.frames = frames
        """Most that may wait for one socket."""
        self._clock = clock
        self._limit = limit
        self._bytes = 0
        self._sending: dict[Slow, float] = {}

    @property
    def bytes(self) -> int:
        """Bytes that wait, or are to be queued yet."""
        return self._bytes

    def add(self, size: int) -> None:
        """So many bytes more wait, or fewer."""
        self._bytes += size

    def sending(self, queue: Slow) -> None:
        """A queue begins to send a frame."""
        self._sending[queue] = self._clock.monotonic()

    def idle(self, queue: Slow) -> None:
        """It has nothing left to send."""
        self._sending.pop(queue, None)

    def has_room(self) -> bool:
        """Whether more may be told to many. When not, those whose peers stopped reading are given up."""
        if self._bytes < self._limit:
            return True
        late = self._clock.monotonic() - _SLOW_SECONDS
        for queue in [queue for queue, since in self._sending.items() if since <= late]:
            queue.give_up()
        return self._bytes < self._limit


def size_of(text: str) -> int:
    """Bytes of a text as it is sent."""
    return len(text) if text.isascii() else len(text.encode())
