"""What the delegations of one namespace say to its topics: the Sink of that namespace's reader.

An event goes to the topic of the delegation, to the own topic of the session that holds it, and to those who wait for
its end: the session that asked for it on its socket, and the session that holds its parent (D8). Anybody who may create
delegations can name any parent, so the holder's topic is told only to those in whose name the child was asked for.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol

from belay_api.agentsubscription import AgentRef
from belay_api.delegation import Result
from belay_api.frames import MAX_FRAME_BYTES
from belay_api.messages import Event
from belay_api.meta import ANNOTATION_ASKED_BY, SESSION_TOPIC_PREFIX
from belay_api.reasons import Reason
from belay_api.transitions import TERMINAL, Phase
from belay_gateway.backlog import Shared
from belay_gateway.fanout import Fanout
from belay_gateway.objects import attempt_of, phase_in
from belay_gateway.wire import text_of
from belay_kube.client import Json

MAX_EVENT_BYTES = MAX_FRAME_BYTES - 32 * 1024
"""Of the message; the rest of the frame is its identifier, at most 2048 characters however they are escaped."""
_MAX_MESSAGE = 2048


class Listener(Protocol):
    """Who listens to a topic."""

    @property
    def user(self) -> str:
        """In whose name."""

    def say(self, shared: Shared) -> None:
        """Tell a message. Never waits."""


@dataclass(frozen=True, slots=True)
class Stand:
    """What is remembered of one delegation: what an event of it says in short, and whom it concerns."""

    agent: str
    phase: Phase
    reason: str | None
    attempt: int
    topic: str | None = None
    holder: str | None = None
    """The own topic of the session that holds it, or did."""
    asker: str | None = None
    """The own topic of the session that asked for it."""
    parent: str | None = field(default=None, compare=False)
    """Name of the delegation it is a part of."""
    requester: str | None = field(default=None, compare=False)
    """The user in whose name it was asked for."""
    percent: int | None = None
    progress: str | None = None
    """What its agent says it is at; nobody's any more once it has ended."""


def stand_of(obj: Json) -> Stand:
    """How a delegation stands. Pure."""
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    agent, session, parent = spec["agentRef"]["name"], status.get("sessionId"), spec.get("parentRef") or {}
    asked_by = (meta.get("annotations") or {}).get(ANNOTATION_ASKED_BY)
    phase, progress = phase_in(obj), status.get("progress") or {}
    return Stand(
        agent=agent,
        phase=phase,
        reason=status.get("reason"),
        attempt=attempt_of(obj),
        topic=spec.get("topic"),
        holder=f"{SESSION_TOPIC_PREFIX}{agent}/{session}" if session else None,
        asker=f"{SESSION_TOPIC_PREFIX}{asked_by}" if asked_by else None,
        parent=parent.get("name") if parent.get("kind", "Delegation") == "Delegation" else None,
        requester=spec.get("requester"),
        percent=progress.get("percent"),
        progress=progress.get("message") if phase not in TERMINAL else None,
    )


def event_of(topic: str, name: str, stand: Stand, status: Json) -> Event:
    """What a topic is told; with the message and the result once it has ended. Pure."""
    ended = stand.phase in TERMINAL
    return Event(
        topic=topic,
        name=name,
        agent=AgentRef(name=stand.agent),
        phase=str(stand.phase),
        reason=stand.reason,
        attempt=stand.attempt,
        percent=stand.percent,
        progress=stand.progress,
        message=status.get("message") if ended else None,
        result=Result.model_construct(**status["result"]) if ended and status.get("result") else None,
    )


def event_text(namespace: str, event: Event) -> str:
    """The JSON of an event; of a result that doesn't fit in a frame the message says where it is. Pure."""
    text = text_of(event.wire())
    if event.result is None or len(text.encode()) <= MAX_EVENT_BYTES:
        return text
    where = f"the result is too large for a frame: kubectl get delegation {event.name} -n {namespace} -o yaml"
    said = f"{event.message[:_MAX_MESSAGE]}; {where}" if event.message else where
    kept = Result(uri=event.result.uri) if event.result.uri else None
    return text_of(event.model_copy(update={"message": said, "result": kept}).wire())


class NamespaceTopics:
    """Knows how the delegations of a namespace stand, and who listens to its topics. Of one that has ended only that is
    kept: nothing of it changes any more."""

    def __init__(self, namespace: str, fanout: Fanout) -> None:
        self.listeners: dict[str, set[Listener]] = {}
        self._namespace = namespace
        self._fanout = fanout
        self._stands: dict[str, Stand] = {}
        self._ended: dict[str, str] = {}
        """The uids of those that have ended, by name."""
        self._live = False

    def changed(self, obj: Json) -> None:
        """Tell the listeners, if it stands otherwise than before or has come further."""
        name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
        if self._ended.get(name) == uid:
            return
        new, old = stand_of(obj), self._stands.get(name)
        self._remember(name, uid, new)
        if self._live and old != new:
            self._tell(name, new, obj.get("status") or {})

    def _remember(self, name: str, uid: str, stand: Stand) -> None:
        if stand.phase in TERMINAL:
            self._ended[name] = uid
            self._stands.pop(name, None)
        else:
            self._ended.pop(name, None)
            self._stands[name] = stand

    def deleted(self, obj: Json) -> None:
        """A delegation that is deleted before its end ends by that."""
        name = obj["metadata"]["name"]
        self._ended.pop(name, None)
        old = self._stands.pop(name, None)
        if old:
            self._tell(name, replace(old, phase=Phase.CANCELLED, reason=Reason.DELETED, progress=None), {})

    def synced(self) -> None:
        """From here on every change is news."""
        self._live = True

    def lost(self) -> None:
        """What changes meanwhile is told when contact is back."""

    def stop(self) -> None:
        """Nobody listens any more: what is told to nobody need not be dropped."""

    def tell(self, topic: str, shared: Shared, user: str | None = None) -> None:
        """Tell a message to each listener of a topic, or to those in the name of `user`."""
        listeners = self.listeners.get(topic, ())
        self._fanout.tell([each.say for each in listeners if user is None or each.user == user], shared)

    def _tell(self, name: str, stand: Stand, status: Json) -> None:
        concerned = {topic for topic in (stand.topic, stand.holder, stand.asker) if topic}
        for topic in concerned & self.listeners.keys():
            self.tell(topic, self._event(topic, name, stand, status))
        over = self._over(stand)
        if over and over not in concerned and over in self.listeners:
            self.tell(over, self._event(over, name, stand, status), stand.requester)

    def _over(self, stand: Stand) -> str | None:
        """The own topic of the session that holds its parent, if anybody is known in whose name it was asked for."""
        parent = self._stands.get(stand.parent) if stand.parent and stand.requester else None
        return parent.holder if parent else None

    def _event(self, topic: str, name: str, stand: Stand, status: Json) -> Shared:
        event = event_of(topic, name, stand, status)
        return Shared(event.type, event_text(self._namespace, event))
