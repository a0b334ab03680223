"""The next attempt of work whose last one came to nothing, and how long it backs off before (DESIGN.md section 5)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from belay_api import queueing
from belay_api.conditions import ConditionType, set_condition
from belay_api.reasons import Reason, retried
from belay_api.times import to_wire
from belay_api.transitions import Phase
from belay_operator.decisions.view import Change
from belay_operator.observe.records import Work

FRESH_ATTEMPT: Mapping[str, Any] = {
    "sessionId": None,
    "gateway": None,
    "dispatchedTime": None,
    "acceptedTime": None,
    "lastHeartbeatTime": None,
    "progress": None,
}
"""A new attempt clears holder, times and progress."""
_WHY_CHARS = 512


def next_attempt(work: Work, reason: Reason, why: str, now: datetime, *, live: bool = False) -> Change:
    """Back to the queue as the next attempt, behind what waits already; says after what, and since when.

    `live`: it rests on the rows of the agent, so is decided again on a live read.
    """
    tries = work.tries.after(reason)
    message = retried(tries.attempt, tries.last, reason, why[:_WHY_CHARS], now)
    conditions = set_condition(work.conditions, ConditionType.RETRIED, True, reason, message, now, work.generation)
    fields = {
        **FRESH_ATTEMPT,
        "attempt": tries.attempt,
        "failures": tries.failures,
        "queuedTime": to_wire(now),
        "queuePosition": None,
        "conditions": conditions,
        **asks_noted(work),
    }
    return Change(Phase.QUEUED, reason, message, fields, live_read=live)


def asks_noted(work: Work) -> Mapping[str, Any]:
    """What people asked for by spec.retryAttempt up to now is settled, so that it can't fire later (S12)."""
    return {"observedRetryAttempt": work.retry_asked} if work.retry_asked != work.retry_done else {}


def backs_off_until(work: Work, now: datetime) -> datetime | None:
    """Until when waiting work is not offered again (`queueing.backs_off_until`); None: it may be now."""
    if work.handed_back is not None:
        return None
    until = queueing.backs_off_until(
        phase=work.phase,
        reason=work.reason,
        queued=work.queued,
        uid=work.uid,
        tries=work.tries,
        base=work.backoff,
    )
    return until if until is not None and now < until else None
