"""After something came to nothing: how long a session is left alone, and what has to be another first (L10, L11).

| what happened                           | what waits | for how long                             |
|-----------------------------------------|------------|------------------------------------------|
| the API server failed, or a bug         | everything | longer each time, or as it asked         |
| it was claimed, and there was nothing   | everything | longer each time: what was seen isn't so |
| a round failed (L10)                    | the model  | about n^4 s                              |
| key or configuration were refused (L11) | the model  | until one of them is another             |
"""

from collections.abc import Callable
from dataclasses import dataclass

from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_kube.errors import Temporary
from belay_operator.decisions.claiming import NotYet
from belay_operator.drain.configuration import Configurations, Signature
from belay_operator.observe.mailbox_records import SessionRecord
from belay_operator.observe.records import AgentRecord

_LOOK_SECONDS = 60.0
"""Between two looks at whether what was refused has changed; a change of the Agent is seen at once."""
_FAILED_SECONDS = 2.0
_IDLE_SECONDS = 1.0
_MOST_SECONDS = 300.0


_SHARED_SECONDS = 5.0
_Sight = tuple[str, int] | None
"""Uid and generation of an Agent as it was seen."""


@dataclass
class _Refused:
    """What a refused configuration rested on, the Agent as it was seen then, and when it was last looked at."""

    rested_on: Signature
    agent: _Sight
    looked: float


class Setbacks:
    """What is remembered of sessions until they are well again; a restart forgets it, and tries once more."""

    def __init__(
        self, configurations: Configurations, agent: Callable[[Ref], AgentRecord | None], clock: Clock
    ) -> None:
        self._configurations = configurations
        self._agent = agent
        self._clock = clock
        self._times: dict[Ref, int] = {}
        self._held: dict[Ref, float] = {}
        self._rests: dict[Ref, float] = {}
        self._refused: dict[Ref, _Refused] = {}
        self._looks: dict[Ref, tuple[_Sight, float, Signature]] = {}

    # --- what happened ---

    def failed(self, ref: Ref, error: Exception) -> None:
        """The API server failed, or something that nobody foresaw."""
        asked = error.delay if isinstance(error, Temporary) else None
        self._hold(ref, _FAILED_SECONDS, asked or 0.0)

    def was_idle(self, ref: Ref) -> None:
        """It was claimed and there was nothing to do: what was seen is out of date, or somebody else is at it."""
        self._hold(ref, _IDLE_SECONDS)

    def round_failed(self, ref: Ref, seconds: float) -> None:
        """The model gave no answer; it isn't asked again for so long."""
        self._rests[ref] = self._clock.monotonic() + seconds

    def refused(self, session: SessionRecord, rested_on: Signature) -> None:
        """The model can't be asked with a configuration that rests on this."""
        seen = _seen(self._agent(session.agent))
        self._refused[session.ref] = _Refused(rested_on, seen, self._clock.monotonic())

    def went_well(self, ref: Ref) -> None:
        """A half-step was gone."""
        self._times.pop(ref, None)
        self._held.pop(ref, None)
        self._rests.pop(ref, None)

    def agreed(self, ref: Ref) -> None:
        """What was seen and what is there are the same again."""
        self._times.pop(ref, None)

    def forget(self, ref: Ref) -> None:
        """The session is gone."""
        self.went_well(ref)
        self._refused.pop(ref, None)

    # --- what follows ---

    def held(self, ref: Ref) -> float | None:
        """Seconds for which it is left alone."""
        return self._left(self._held, ref)

    def is_refused(self, ref: Ref) -> bool:
        """Whether it waits for people to change something; its conditions say so already."""
        return ref in self._refused

    async def hindrance(self, session: SessionRecord) -> NotYet | None:
        """Why the model isn't asked just now. Raises KubeError."""
        left = self._left(self._rests, session.ref)
        return NotYet(until=left) if left else await self._unready(session)

    async def _unready(self, session: SessionRecord) -> NotYet | None:
        refused = self._refused.get(session.ref)
        if refused is None:
            return None
        seen = _seen(self._agent(session.agent))
        left = refused.looked + _LOOK_SECONDS - self._clock.monotonic()
        if left > 0 and seen == refused.agent:
            return NotYet(until=left)
        refused.looked, refused.agent = self._clock.monotonic(), seen
        if await self._look(session.agent, seen) == refused.rested_on:
            return NotYet(until=_LOOK_SECONDS)
        self._refused.pop(session.ref, None)
        if not self._refused:
            self._looks.clear()
        return None

    async def _look(self, agent: Ref, seen: _Sight) -> Signature:
        """What the configuration of an agent rests on: one look serves all sessions that ask at about the same time."""
        now = self._clock.monotonic()
        of, at, signature = self._looks.get(agent, (None, float("-inf"), ()))
        if of != seen or now - at > _SHARED_SECONDS:
            signature = (await self._configurations.find(agent)).signature
            self._looks[agent] = seen, now, signature
        return signature

    def _hold(self, ref: Ref, first: float, least: float = 0.0) -> None:
        times = self._times[ref] = self._times.get(ref, 0) + 1
        grown = min(_MOST_SECONDS, first * 2 ** min(times - 1, 10))
        self._held[ref] = self._clock.monotonic() + max(grown, least)

    def _left(self, waits: dict[Ref, float], ref: Ref) -> float | None:
        left = waits.get(ref, 0.0) - self._clock.monotonic()
        if left > 0:
            return left
        waits.pop(ref, None)
        return None


def _seen(agent: AgentRecord | None) -> _Sight:
    return (agent.uid, agent.generation) if agent else None
