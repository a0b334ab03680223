"""What a Model agent's session says on its own topic: the Sink of the reader of that one AgentSession.

A turn is read by its name once the session counts it, so that nobody's whole conversation is listed because somebody
begins to listen; it is told before the state in which it left the session.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from belay_api.messages import SessionChanged
from belay_api.meta import SESSION_TOPIC_PREFIX
from belay_api.names import Ref, turn_name
from belay_gateway.backlog import Shared
from belay_gateway.lanes import Lane
from belay_gateway.sessionevents import DELETED, session_event, turn_event, turn_text, turns_of
from belay_gateway.wire import text_of
from belay_kube.client import SESSIONS, TURNS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, Temporary
from belay_kube.logs import about
from belay_kube.reader import Reader

log = structlog.get_logger(__name__)

_TRIES = 5
_RETRY_SECONDS = 1.0

Tell = Callable[[Shared], None]


@dataclass(frozen=True)
class OwnTopic:
    """The topic `session/<agent>/<name>` of a namespace, in its parts."""

    namespace: str
    agent: str
    name: str

    @property
    def topic(self) -> str:
        """As events name it."""
        return f"{SESSION_TOPIC_PREFIX}{self.agent}/{self.name}"


class SessionTopic:
    """Knows how a session stands, and tells what changes of it. A session of another agent is none of this topic's."""

    def __init__(self, kube: Kube, clock: Clock, own: OwnTopic, tell: Tell) -> None:
        self._kube = kube
        self._clock = clock
        self._own = own
        self._tell = tell
        self._lane: Lane[tuple[range, SessionChanged]] = Lane(self._speak)
        self._stands: SessionChanged | None = None
        self._uid = ""
        self._live = False

    def reader(self) -> Reader:
        """The reader that this is to be the Sink of."""
        mine = {"fieldSelector": f"metadata.name={self._own.name}"}
        return Reader(self._kube, SESSIONS, self, self._clock, namespace=self._own.namespace, selectors=mine)

    # --- the Sink ----------------------------------------------------------------------------------------------

    def changed(self, obj: Json) -> None:
        """Tell how it stands if that is news, and the turns that it counts since."""
        if obj["spec"]["agentRef"]["name"] != self._own.agent:
            return
        new, old, uid = session_event(self._own.topic, obj), self._stands, obj["metadata"]["uid"]
        counted = old.turns if old and uid == self._uid else 0
        self._stands, self._uid = new, uid
        if self._live and new != old:
            self._lane.put((range(counted + 1, turns_of(obj) + 1), new))

    def deleted(self, _obj: Json) -> None:
        """The last that is told of it."""
        old, self._stands = self._stands, None
        if old and self._live:
            self._lane.put((range(0), old.model_copy(update={"phase": DELETED, "progress": None})))

    def synced(self) -> None:
        """From here on every change is news."""
        self._live = True

    def lost(self) -> None:
        """What changes meanwhile is told when contact is back."""

    def stop(self) -> None:
        """Nobody listens any more."""
        self._lane.stop()

    # --- telling -----------------------------------------------------------------------------------------------

    async def _speak(self, item: tuple[range, SessionChanged]) -> None:
        turns, stands = item
        for sequence in turns:
            with about(
                agent=Ref(self._own.namespace, self._own.agent), session=Ref(self._own.namespace, self._own.name)
            ):
                turn = await self._turn(sequence)
            if turn:
                event = turn_event(self._own.topic, turn)
                self._tell(Shared(event.type, turn_text(self._own.namespace, event)))
        self._tell(Shared(stands.type, text_of(stands.wire())))

    async def _turn(self, sequence: int) -> Json | None:
        """The turn; None if it is gone, or can't be read for long."""
        turn = Ref(self._own.namespace, turn_name(self._own.name, sequence))
        for left in reversed(range(_TRIES)):
            try:
                return await self._kube.get(TURNS, turn.namespace, turn.name)
            except KubeError as error:
                if left and isinstance(error, Temporary):
                    await self._clock.sleep(error.delay or _RETRY_SECONDS)
                    continue
                log.warning("a turn was not told", turn=str(turn), error=error.message)
                break
        return None
