"""The only reader of time here: deadlines and durations are monotonic, certificates need the date."""

import time
from datetime import UTC, datetime


def utcnow() -> datetime:
    """The date, aware and in UTC, for the validity of certificates."""
    return datetime.now(UTC)  # noqa: TID251  (this is the clock)


class Stopwatch:
    """Measures seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()  # noqa: TID251

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began  # noqa: TID251


class Deadline:
    """A moment some seconds ahead of its making."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._watch = Stopwatch()

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.seconds - self._watch.seconds)

    @property
    def passed(self) -> bool:
        return self.remaining == 0.0


def pause(seconds: float) -> None:
    """Let some time pass between two looks at something that announces nothing."""
    time.sleep(seconds)  # noqa: TID251  (this is the clock)
