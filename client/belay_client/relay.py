"""Words to a file descriptor that may not be read: writing them never waits.

A terminal that is paused, or a pipe that is full, must not stop what has to answer pings: a thread does the waiting.
"""

import os
import threading
from collections import deque

MOST_BYTES = 256 << 10


class Relay:
    """Passes on what is written in order; while nobody reads it keeps the newest `most` bytes and says what is missing.

    It ends with the process: `flush` first, or the last words may be lost.
    """

    def __init__(self, fd: int, most: int = MOST_BYTES) -> None:
        self._fd = fd
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._left_out = 0
        self._idle = True
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="relay", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Pass it on, now or later; never waits for the reader, and nothing is raised when there is none."""
        with self._changed:
            self._waiting.append(data)
            self._size += len(data)
            while self._size > self._most and len(self._waiting) > 1:
                oldest = self._waiting.popleft()
                self._size -= len(oldest)
                self._left_out += len(oldest)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait at most so long until all of it is out; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle and not self._waiting, seconds)

    def _run(self) -> None:
        while True:
            data = self._next()
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:
                continue  # nobody will ever read it

    def _next(self) -> bytes:
        with self._changed:
            self._idle = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: bool(self._waiting))
            self._idle = False
            data = self._waiting.popleft()
            self._size -= len(data)
            left_out, self._left_out = self._left_out, 0
        note = f"\nbelay: {left_out} bytes left out: standard error was not read\n" if left_out else ""
        return note.encode() + data
