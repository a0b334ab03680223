"""How long to wait before another try: exponential with full jitter, so that many clients don't come back together."""

from dataclasses import dataclass

_MOST_DOUBLINGS = 32


@dataclass(frozen=True)
class Backoff:
    """Waits in seconds: anything from 0 up to `base`, twice that after each further failure, at most `cap`."""

    base: float = 0.5
    cap: float = 30.0

    def ceiling(self, failures: int) -> float:
        """The longest wait after so many failures in a row, the first of which is 1."""
        return min(self.cap, self.base * float(2 ** min(max(failures - 1, 0), _MOST_DOUBLINGS)))

    def delay(self, failures: int, chance: float) -> float:
        """The wait for a `chance` drawn evenly from 0 to 1."""
        return self.ceiling(failures) * chance
