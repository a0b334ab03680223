"""An agent with many sessions and no work is looked at less often: each look goes through every row it has, and a fleet
that attaches at once, or whose rows are marked, asks for one with each row.
"""

from belay_api.names import Ref
from belay_api.transitions import LIVE
from belay_kube.clock import Clock
from belay_operator.observe.index import Index

ROWS = 100
"""An agent with fewer is looked at whenever something of it changes."""
SECONDS_A_ROW = 0.0001
"""Between two looks, for each row: about ten times what one look takes."""


class Crowds:
    """Remembers when the rows of each crowded agent were last gone through."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked: dict[Ref, float] = {}

    def rest(self, agent: Ref, index: Index) -> float | None:
        """Seconds until `agent` is to be looked at; None: now. Work never waits for that."""
        rows = index.count_rows(agent)
        if rows < ROWS:
            self._looked.pop(agent, None)
            return None
        now = self._clock.monotonic()
        wait = self._looked.get(agent, float("-inf")) + rows * SECONDS_A_ROW - now
        if wait > 0 and not index.count(agent, LIVE):
            return wait
        self._looked[agent] = now
        return None
