"""The queue of one agent: its order, and until when what came to nothing is not offered again (DESIGN.md 5, D4).

One rule for the operator, which gives out the work, and for the client, which tells people where theirs stands.
"""

import hashlib
from datetime import datetime, timedelta

from belay_api.reasons import Reason
from belay_api.transitions import Phase

BACKING_OFF = frozenset(
    {Reason.AGENT_FAILED, Reason.AGENT_FORGOT, Reason.AGENT_LOST, Reason.NO_HEARTBEAT, Reason.RELEASED}
)
"""What is not offered again at once; what a person retries is."""
MOST_BACKOFF_SECONDS = 3600.0
"""Doubling ends here, or at retry.backoffSeconds itself where that is longer."""
DEFAULT_BACKOFF_SECONDS = 10
_JITTER = 0.15

QueueKey = tuple[int, datetime, datetime, str]
"""What the queue is sorted by; the head has the smallest."""


def queue_key(*, priority: int, queued: datetime | None, created: datetime, name: str, now: datetime) -> QueueKey:
    """Priority, then since when it waits, then name. What comes now is behind what waits: creation is told in whole
    seconds only."""
    return -priority, queued or now, created, name


def backs_off_until(
    *, phase: Phase, reason: str | None, queued: datetime | None, uid: str, attempt: int, base: int
) -> datetime | None:
    """When work in the queue may be offered again after an attempt that came to nothing, past or not; None: any time.

    Work that nobody accepted backs off for `base` (retry.backoffSeconds) each time (D7), a new attempt for twice as
    long as the one before.
    """
    if phase is not Phase.QUEUED or queued is None:
        return None
    if reason == Reason.NOT_ACCEPTED:
        return queued + timedelta(seconds=base)
    if reason in BACKING_OFF:
        return queued + timedelta(seconds=backoff_seconds(uid, attempt, base))
    return None


def backoff_seconds(uid: str, attempt: int, base: int) -> float:
    """How long attempt number `attempt` (2 is the first retry) waits: `base` doubled for each attempt, at most an hour
    or `base`, and up to 15 % more, which the uid and the attempt decide so that every operator says the same."""
    doubled = min(base * 2.0 ** min(max(0, attempt - 2), 32), max(MOST_BACKOFF_SECONDS, float(base)))
    share = int.from_bytes(hashlib.sha256(f"{uid}/{attempt}".encode()).digest()[:4]) / 2**32
    return doubled * (1 + _JITTER * share)
