"""All sessions of the installation together: who is live, who was lost without a word, and the brake (DESIGN.md 4)."""

from datetime import UTC, datetime, timedelta

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_operator.decisions import brake
from belay_operator.observe.presence_records import Row

BRAKE_SECONDS = 600.0
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Fleet:
    """Counts rows as they come and go. Each change is judged at once, so that no grace ends in between."""

    def __init__(self, clock: Clock, brake_seconds: float = BRAKE_SECONDS) -> None:
        self._clock = clock
        self._brake_seconds = brake_seconds
        self._live: set[Ref] = set()
        self._missing: dict[Ref, float] = {}
        """Lost without a word and not back, and when (monotonic), in that order."""
        self._lost: set[Ref] = set()
        """While braked: all that were missing at any time since."""
        self._came: set[Ref] = set()
        """While braked: sessions that are live and were not known before."""
        self._braked_at: float | None = None
        self._ends = self._released = _LONG_AGO
        self.last_release: brake.Release | None = None

    @property
    def braked(self) -> bool:
        """Whether the brake is on."""
        return self._braked_at is not None

    @property
    def graces_from(self) -> datetime:
        """No grace of a session lost without a word begins before: the end of the brake, known or at the latest."""
        return self._ends if self.braked else self._released

    def counts(self) -> tuple[int, int]:
        """Sessions that are live, and sessions that were lost without a word and are not back."""
        return len(self._live), len(self._missing)

    def saw(self, row: Row) -> bool:
        """A row, as it is now; True when that set or released the brake. A row first seen dead was lost before."""
        if row.phase is SubscriptionPhase.LIVE:
            self._joined(row.ref)
        elif row.ref in self._live:
            self._left(row.ref, lost=brake.without_a_word(row.phase, row.reason))
        return self.judge()

    def stale(self, ref: Ref) -> None:
        """A row that is still Live by name, and was not renewed in time; `judge` afterwards."""
        if ref in self._live:
            self._left(ref, lost=True)

    def gone(self, ref: Ref) -> None:
        """A row was deleted: that is nobody's loss."""
        self._live.discard(ref)
        self._missing.pop(ref, None)
        self._lost.discard(ref)
        self._came.discard(ref)

    def resume(self, rows: list[Row], since: datetime) -> None:
        """The brake was set by an operator before this one: whoever is away without a word is what it waits for."""
        for row in rows:
            if brake.without_a_word(row.phase, row.reason):
                self._missing[row.ref] = self._clock.monotonic()
        self._brake((self._clock.now() - since).total_seconds())

    def judge(self) -> bool:
        """Set or release the brake as things are now; True when that changed."""
        now = self._clock.monotonic()
        if self._braked_at is None:
            self._forget_before(now - brake.WINDOW_SECONDS)
            if brake.engages(len(self._live), len(self._missing)):
                self._brake(0)
            return self.braked
        back = len(self._lost) - len(self._missing) + len(self._came)
        self.last_release = brake.releases(len(self._lost), back, now - self._braked_at, self._brake_seconds)
        if self.last_release:
            self._release()
        return not self.braked

    def seconds_left(self) -> float:
        """Until the brake is released whatever happens."""
        return (self._ends - self._clock.now()).total_seconds()

    def _joined(self, ref: Ref) -> None:
        if self.braked and ref not in self._live and ref not in self._lost:
            self._came.add(ref)
        self._live.add(ref)
        self._missing.pop(ref, None)

    def _left(self, ref: Ref, *, lost: bool) -> None:
        self._live.discard(ref)
        self._came.discard(ref)
        if lost:
            self._missing[ref] = self._clock.monotonic()
            if self.braked:
                self._lost.add(ref)

    def _forget_before(self, when: float) -> None:
        while self._missing and (first := next(iter(self._missing))) and self._missing[first] < when:
            del self._missing[first]

    def _brake(self, seconds_ago: float) -> None:
        self._braked_at = self._clock.monotonic() - seconds_ago
        self._ends = self._clock.now() + timedelta(seconds=self._brake_seconds - seconds_ago)
        self._lost = set(self._missing)
        self._came = set()

    def _release(self) -> None:
        self._braked_at = None
        self._released = self._clock.now()
        self._missing, self._lost, self._came = {}, set(), set()
