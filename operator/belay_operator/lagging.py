"""Who waits further back in a queue is told a new reason later, and not all at once (I6).

Only the head of a queue is precise in real time: an agent that is lost and back within seconds would else cost two
writes for each delegation that waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_operator.decisions import dispatch
from belay_operator.decisions.view import Change
from belay_operator.observe.records import Work

LAG_SECONDS = 10.0
"""A reason that comes and goes within this time is not written."""
PAUSE_SECONDS = 1.0
MOST_AT_ONCE = 100
"""So many are told, then there is a pause."""

Planned = list[tuple[Work, Change]]


@dataclass
class _Tail:
    since: dict[Ref, float] = field(default_factory=dict)
    """Since when another reason is true of each than it was told (monotonic)."""
    told_at: float = float("-inf")


class Lagging:
    """Remembers since when the tail of each queue is to be told something else."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tails: dict[Ref, _Tail] = {}

    def due(self, agent: Ref, changes: Sequence[tuple[Work, Change]]) -> tuple[Planned, float | None]:
        """Which of `changes`, all that are to be made to the queue of `agent`, are written now, and seconds until the
        next of the others is due."""
        now = self._clock.monotonic()
        tail = self._tails.pop(agent, None) or _Tail()
        urgent = [(work, change) for work, change in changes if not dispatch.may_lag(work, change)]
        later = [(work, change) for work, change in changes if dispatch.may_lag(work, change)]
        since = {work.ref: tail.since.get(work.ref, now) for work, _ in later}
        ripe = [(work, change) for work, change in later if since[work.ref] + LAG_SECONDS <= now]
        told = ripe[:MOST_AT_ONCE] if tail.told_at + PAUSE_SECONDS <= now else []
        waits = since.keys() - {work.ref for work, _ in told}
        if not waits:
            return urgent + told, None
        told_at = now if told else tail.told_at
        self._tails[agent] = _Tail({ref: since[ref] for ref in waits}, told_at)
        first = min(since[ref] for ref in waits) + LAG_SECONDS
        return urgent + told, max(first, told_at + PAUSE_SECONDS) - now
