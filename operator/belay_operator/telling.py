"""When an Agent's status is written: presence at once, counts once they have lasted and there is room for them.

Work that comes and goes changes the counts of its agent all the time, and each write is stored and told to all who
watch Agents. How many of them there are must not grow with the number of agents at work (DESIGN.md section 9).
"""

from belay_api.names import Ref
from belay_kube.clock import Clock

STATUS_SECONDS = 1.0
"""At most one status write an agent in this time; and for so long counts must differ: they may be as before by then."""
COUNTS_SECONDS = 5.0
"""At most one write an agent in this time, while nothing changes but how much work there is."""
COUNTS_PER_SECOND = 10
"""At most so many writes a second, of all agents together, that tell of counts alone."""


class Telling:
    """Remembers when each agent's status was told, and whose turn it is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told_at: dict[Ref, float] = {}
        self._differs_since: dict[Ref, float] = {}
        self._turns: dict[Ref, float] = {}
        self._next_turn = float("-inf")

    def wait(self, agent: Ref, *, counts_only: bool) -> float:
        """Seconds until a status that differs from what stands is to be written; 0 or less: now."""
        now = self._clock.monotonic()
        # To the microsecond, as due times are: a shorter wait would be over at once, and asked for again.
        return round(self._due(agent, now, counts_only=counts_only) - now, 6)

    def told(self, agent: Ref) -> None:
        """It is being written."""
        self._told_at[agent] = self._clock.monotonic()
        self.same(agent)

    def same(self, agent: Ref) -> None:
        """It is what stands already."""
        self._differs_since.pop(agent, None)
        self._turns.pop(agent, None)

    def gone(self, agent: Ref) -> None:
        """There is no such agent any more."""
        self._told_at.pop(agent, None)
        self.same(agent)

    def _due(self, agent: Ref, now: float, *, counts_only: bool) -> float:
        since = self._differs_since.setdefault(agent, now)
        told_at = self._told_at.get(agent, float("-inf"))
        if not counts_only:
            return told_at + STATUS_SECONDS
        due = max(told_at + COUNTS_SECONDS, since + STATUS_SECONDS)
        return due if due > now else self._turn(agent, now)

    def _turn(self, agent: Ref, now: float) -> float:
        """When this agent may, in the order in which they fell due."""
        turn = self._turns.get(agent)
        if turn is None:
            turn = self._turns[agent] = max(now, self._next_turn)
            self._next_turn = turn + 1 / COUNTS_PER_SECOND
        return turn
