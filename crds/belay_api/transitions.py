"""The phases of a delegation as a table: which arrows exist, and which process may draw each (DESIGN.md 3 and 5).

    Pending ──▶ Queued ──▶ Dispatched ──▶ InProgress ──▶ Completed | Failed
       └───────────────────────▲  │  ▲        │    ▲
                       Queued ◀───┘  │        ▼    │ beat
                          ▲          │      Stuck ─┘──▶ Completed | Failed
                          └──────────┴────────┘ release, requeue, retry (attempt + 1)
    any of these ──▶ Failed (deadline) | Cancelled

A new object has no phase and counts as Pending.
"""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a delegation stands."""

    PENDING = "Pending"
    QUEUED = "Queued"
    DISPATCHED = "Dispatched"
    IN_PROGRESS = "InProgress"
    STUCK = "Stuck"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Writer(StrEnum):
    """The processes that write phases."""

    OPERATOR = "operator"
    GATEWAY = "gateway"


TERMINAL = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED})
ACTIVE = frozenset({Phase.DISPATCHED, Phase.IN_PROGRESS})
"""Phases that hold one of the agent's slots."""
HELD = ACTIVE | {Phase.STUCK}
"""Phases that an agent's end can orphan."""
WAITING = frozenset({Phase.PENDING, Phase.QUEUED})
LIVE = HELD | WAITING
IN_FLIGHT = ACTIVE | {Phase.QUEUED}
"""What the sweep counts (S1)."""


@dataclass(frozen=True)
class Arrow:
    """One allowed change of phase."""

    source: Phase
    target: Phase


_BY_OPERATOR = {
    Phase.PENDING: {Phase.QUEUED, Phase.DISPATCHED, Phase.FAILED, Phase.CANCELLED},
    Phase.QUEUED: {Phase.DISPATCHED, Phase.FAILED, Phase.CANCELLED},
    Phase.DISPATCHED: {Phase.QUEUED, Phase.FAILED, Phase.CANCELLED},
    Phase.IN_PROGRESS: {Phase.QUEUED, Phase.STUCK, Phase.FAILED, Phase.CANCELLED},
    Phase.STUCK: {Phase.QUEUED, Phase.FAILED, Phase.CANCELLED},
}
_BY_DRAIN = {
    Phase.DISPATCHED: {Phase.IN_PROGRESS, Phase.COMPLETED},
    Phase.IN_PROGRESS: {Phase.COMPLETED},
    Phase.STUCK: {Phase.IN_PROGRESS, Phase.COMPLETED},
}
"""What the operator does as the holder: for Model agents, whose work no gateway holds."""
_BY_GATEWAY = {
    Phase.QUEUED: {Phase.COMPLETED, Phase.FAILED},
    Phase.DISPATCHED: {Phase.IN_PROGRESS, Phase.COMPLETED, Phase.FAILED},
    Phase.IN_PROGRESS: {Phase.COMPLETED, Phase.FAILED},
    Phase.STUCK: {Phase.IN_PROGRESS, Phase.COMPLETED, Phase.FAILED},
}
ARROWS: dict[Writer, frozenset[Arrow]] = {
    writer: frozenset(Arrow(source, target) for source, targets in table.items() for target in targets)
    for writer, table in (
        (Writer.OPERATOR, {source: _BY_OPERATOR[source] | _BY_DRAIN.get(source, set()) for source in _BY_OPERATOR}),
        (Writer.GATEWAY, _BY_GATEWAY),
    )
}


def phase_of(text: str | None) -> Phase:
    """The phase of a status; none yet is Pending. Raises ValueError for a word that isn't a phase."""
    return Phase(text) if text else Phase.PENDING


def allowed(source: Phase, target: Phase, writer: Writer | None = None) -> bool:
    """Whether `source` may become `target` (by `writer`, or by anyone).

    The same phase again is allowed until it is terminal, when it is a no-op that writes nothing (D1, D2).
    """
    if source == target:
        return source not in TERMINAL
    writers = (writer,) if writer else tuple(Writer)
    return any(Arrow(source, target) in ARROWS[w] for w in writers)
