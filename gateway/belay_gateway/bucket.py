"""Token buckets: so many at once, so many a second after that."""

from collections import OrderedDict
from collections.abc import Hashable

from belay_kube.clock import Clock

_REMEMBERED = 10_000


class Bucket:
    """Holds `burst` and gains `rate` a second."""

    __slots__ = ("_at", "_burst", "_clock", "_left", "_rate")

    def __init__(self, clock: Clock, rate: float, burst: float) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = clock.monotonic()

    def take(self) -> bool:
        """Take one; False when it is empty."""
        now = self._clock.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Buckets:
    """One bucket for each of those who came lately; who is forgotten begins with a full one."""

    def __init__(self, clock: Clock, rate: float, burst: float, remembered: int = _REMEMBERED) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._remembered = remembered
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, who: Hashable) -> bool:
        """Take one of `who`; False when there is none left."""
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = Bucket(self._clock, self._rate, self._burst)
            if len(self._buckets) > self._remembered:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(who)
        return bucket.take()
