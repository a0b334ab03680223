"""How long to wait before another try: exponential with full jitter, so that many clients don't come back together."""

from dataclasses import dataclass, replace

_MOST_DOUBLINGS = 32
_TRIES_IN_A_GRACE = 3
_LEAST_CAP_SECONDS = 1.0
"""However short the grace is: a gateway that is down is not to be stormed."""


@dataclass(frozen=True)
class Backoff:
    """Waits in seconds: anything from 0 up to `base`, twice that after each further failure, at most `cap`."""

    base: float = 0.5
    cap: float = 30.0

    def within(self, grace_seconds: float) -> "Backoff":
        """The same, with waits so short that several tries fall into a session's grace."""
        return replace(self, cap=min(self.cap, max(_LEAST_CAP_SECONDS, grace_seconds / _TRIES_IN_A_GRACE)))

    def ceiling(self, failures: int) -> float:
        """The longest wait after so many failures in a row, the first of which is 1."""
        return min(self.cap, self.base * float(2 ** min(max(failures - 1, 0), _MOST_DOUBLINGS)))

    def delay(self, failures: int, chance: float) -> float:
        """The wait for a `chance` drawn evenly from 0 to 1."""
        return self.ceiling(failures) * chance
