"""Who is told a new place in the queue, and when: each delegation at most once in ten seconds (DESIGN.md section 5)."""

from collections.abc import Sequence

from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_operator.decisions import dispatch
from belay_operator.observe.records import Work

PLACE_SECONDS = 10.0
"""Least time between two writes of one delegation's place; one that comes and goes within it costs none."""


class Places:
    """Remembers when each waiting delegation was last told its place."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[Ref, dict[Ref, float]] = {}

    def due(self, agent: Ref, queue: Sequence[Work]) -> tuple[list[tuple[Work, int | None]], float | None]:
        """Places to be written now, of those that wait for `agent`, in order, and seconds until the next is due.

        What is seen for the first time counts as told: its place was written with its reason, or can wait.
        """
        now = self._clock.monotonic()
        wrong = dispatch.misplaced(queue)
        before = self._told.pop(agent, {})
        kept = {work.ref for work in queue if work.position} | {work.ref for work, _ in wrong}
        told = {ref: before.get(ref, now) for ref in kept}
        ready = [(work, place) for work, place in wrong if told[work.ref] + PLACE_SECONDS <= now]
        waits = [told[work.ref] + PLACE_SECONDS - now for work, _ in wrong if told[work.ref] + PLACE_SECONDS > now]
        if told:
            self._told[agent] = told | {work.ref: now for work, _ in ready}
        return ready, min(waits, default=None)
