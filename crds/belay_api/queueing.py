"""The queue of one agent: its order, and until when what came to nothing is not offered again (DESIGN.md 5, D4).

One rule for the operator, which gives out the work, and for the client, which tells people where theirs stands.
"""

import hashlib
from datetime import datetime, timedelta

from belay_api.reasons import Reason
from belay_api.retrying import Tries
from belay_api.transitions import Phase

BACKING_OFF = frozenset(
    {
        Reason.AGENT_FAILED,
        Reason.AGENT_FORGOT,
        Reason.AGENT_LOST,
        Reason.MODEL_FAILED,
        Reason.NO_HEARTBEAT,
        Reason.RELEASED,
    }
)
"""What is not offered again at once; what a person retries is."""
MOST_BACKOFF_SECONDS = 3600.0
"""Doubling ends here, or at retry.backoffSeconds itself where that is longer."""
DEFAULT_BACKOFF_SECONDS = 10
LEAST_NOT_ACCEPTED_SECONDS = 8
"""As an offer is repeated: one that nobody takes goes round no faster (I6)."""
LEAST_RELEASED_SECONDS = 1
"""Doubled for each release, which counts against no limit (I6)."""
_JITTER = 0.15

QueueKey = tuple[int, datetime, datetime, str]
"""What the queue is sorted by; the head has the smallest."""


def queue_key(*, priority: int, queued: datetime | None, created: datetime, name: str, now: datetime) -> QueueKey:
    """Priority, then since when it waits, then name. What comes now is behind what waits: creation is told in whole
    seconds only."""
    return -priority, queued or now, created, name


def backs_off_until(
    *, phase: Phase, reason: str | None, queued: datetime | None, uid: str, tries: Tries, base: int
) -> datetime | None:
    """When work in the queue may be offered again after an attempt that came to nothing, past or not; None: any time.

    `base` is retry.backoffSeconds. Work that nobody accepted backs off for that each time (D7), a new attempt for
    twice as long as after the failure, or the release, before. What no limit ends waits even if `base` is 0 (I6).
    """
    if phase is not Phase.QUEUED or queued is None:
        return None
    if reason == Reason.NOT_ACCEPTED:
        return queued + timedelta(seconds=max(base, LEAST_NOT_ACCEPTED_SECONDS))
    if reason == Reason.RELEASED:
        return queued + timedelta(seconds=backoff_seconds(uid, tries.released, max(base, LEAST_RELEASED_SECONDS)))
    if reason in BACKING_OFF:
        return queued + timedelta(seconds=backoff_seconds(uid, tries.failures, base))
    return None


def backoff_seconds(uid: str, number: int, base: int) -> float:
    """How long work waits after its failure, or release, number `number` (from 1): `base` doubled for each before, at
    most an hour or `base`, and up to 15 % more, which uid and number decide so that every operator says the same."""
    doubled = min(base * 2.0 ** min(max(0, number - 1), 32), max(MOST_BACKOFF_SECONDS, float(base)))
    share = int.from_bytes(hashlib.sha256(f"{uid}/{number}".encode()).digest()[:4]) / 2**32
    return doubled * (1 + _JITTER * share)
