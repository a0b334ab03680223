"""The brake: when most of the fleet is lost at once, the fault is more likely ours than theirs (DESIGN.md section 4).

While it is on, what is seen is shown, and no grace of a session lost without a word ends. Only losses without a close
frame or a goodbye count, so closing everything on purpose never brakes.
"""

from enum import StrEnum

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.reasons import SubscriptionReason

WINDOW_SECONDS = 60.0
"""Losses within this time are taken for one event."""
LEAST = 10
"""Fewer losses than this never brake."""

_WITHOUT_A_WORD = frozenset({SubscriptionReason.CONNECTION_LOST, SubscriptionReason.SILENT, SubscriptionReason.STALE})


class Release(StrEnum):
    """Why the brake is released."""

    BACK = "back"
    TIME = "time"


def without_a_word(phase: SubscriptionPhase | None, reason: str | None) -> bool:
    """Whether a row in this phase was lost without a close frame or a goodbye."""
    return phase not in (None, SubscriptionPhase.LIVE) and reason in _WITHOUT_A_WORD


def engages(live: int, lost: int) -> bool:
    """Whether to brake: `lost` sessions went without a word within the window and are not back, `live` are there."""
    return lost >= LEAST and lost > live


def releases(lost: int, back: int, seconds: float, limit: float) -> Release | None:
    """Whether to release: half of the `lost` are `back`, or it was on for `limit` seconds; None: not yet."""
    if 2 * back >= lost:
        return Release.BACK
    return Release.TIME if seconds >= limit else None
