"""`AgentChannel` with a `topic_id`: listeners of a topic hear of every change of phase of its delegations, and what is
broadcast to it (C3).

One reader for each namespace that has listeners: started with the first, stopped some time after the last, so that
nobody who comes and goes makes the API server list a namespace again and again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from belay_api.frames import Error, ErrorCode, Identifier
from belay_api.meta import SESSION_TOPIC_PREFIX
from belay_api.names import Ref, subscription_name
from belay_api.reasons import SubscriptionReason
from belay_gateway.access import Access, owns
from belay_gateway.agents import Agents
from belay_gateway.auth import User
from belay_gateway.backlog import Shared
from belay_gateway.cable import Connection
from belay_gateway.channel import is_label
from belay_gateway.fanout import Fanout
from belay_gateway.refusals import Why
from belay_gateway.subscription import Rejected
from belay_gateway.topicevents import NamespaceTopics
from belay_gateway.wire import ref_in
from belay_kube.client import DELEGATIONS, SUBSCRIPTIONS, Kube
from belay_kube.clock import Clock
from belay_kube.errors import NotFound
from belay_kube.reader import Reader

IDLE_SECONDS = 60.0
"""That a reader outlives its last listener."""
_SYNC_SECONDS = 10.0
_TOPIC_CHARS = 253


def topic_in(text: str) -> Ref:
    """The topic of an identifier: all after the first slash, slashes too. Raises Rejected."""
    namespace, _, topic = text.partition("/")
    if not is_label(namespace) or not 0 < len(topic) <= _TOPIC_CHARS:
        raise Rejected(ErrorCode.INVALID, 'topic_id: not of the form "namespace/topic"')
    return Ref(namespace, topic)


async def _synced(reader: Reader) -> None:
    try:
        async with asyncio.timeout(_SYNC_SECONDS):
            await reader.has_synced.wait()
    except TimeoutError:
        raise Rejected(ErrorCode.UNAVAILABLE, "the namespace can't be watched now: try again") from None


@dataclass
class _Watched:
    sink: NamespaceTopics
    reader: Reader
    task: "asyncio.Task[None]"
    listeners: int = 0
    idle: "asyncio.Task[None] | None" = None
    """Ends the reader, unless somebody listens again."""


class Topics:
    """Who listens to what, in all namespaces."""

    def __init__(self, kube: Kube, clock: Clock, agents: Agents, access: Access, fanout: Fanout) -> None:
        self._kube = kube
        self._clock = clock
        self._agents = agents
        self._access = access
        self._fanout = fanout
        self._watched: dict[str, _Watched] = {}
        self.on_ended: Callable[[asyncio.Task[None]], None] = lambda _: None
        """Called when a reader ends."""

    async def subscribe(self, connection: Connection, text: str, identifier: Identifier) -> "TopicSubscription":
        """A subscription that hears every change from now on. Raises Rejected, KubeError."""
        topic = topic_in(identifier.topic_id or "")
        if not await self.may_listen(connection.user, topic):
            raise Rejected(ErrorCode.FORBIDDEN, f"{connection.user.name} may not listen to topic {topic}")
        subscription = TopicSubscription(self, connection, text, topic)
        watched = self._start(subscription)
        try:
            await _synced(watched.reader)
        except BaseException:  # a socket may end at just the moment at which the reader has synced
            self.stop(subscription)
            raise
        return subscription

    async def may_listen(self, user: User, topic: Ref) -> bool:
        """Who may `get` delegations there; to a session's own topic, itself and holders of `attach` (C2)."""
        if not topic.name.startswith(SESSION_TOPIC_PREFIX):
            return await self._access.may_read_delegations(user, topic.namespace)
        agent, slash, session_id = topic.name.removeprefix(SESSION_TOPIC_PREFIX).partition("/")
        if not (is_label(agent) and slash and session_id):
            return False
        ref = Ref(topic.namespace, agent)
        return await self._access.has_attach(user, ref) or await self._is_session(user, ref, session_id)

    async def _is_session(self, user: User, agent: Ref, session_id: str) -> bool:
        seen = await self._agents.find(agent)
        if seen is None or not owns(user, agent.namespace, seen.owners):
            return False
        try:
            row = await self._kube.get(SUBSCRIPTIONS, agent.namespace, subscription_name(agent.name, session_id))
        except NotFound:
            return False
        return (row.get("status") or {}).get("user") == user.name

    def _start(self, subscription: "TopicSubscription") -> _Watched:
        namespace, topic = subscription.topic
        watched = self._watched.get(namespace)
        if watched is None:
            sink = NamespaceTopics(namespace, self._fanout)
            reader = Reader(self._kube, DELEGATIONS, sink, self._clock, namespace=namespace)
            task = asyncio.get_running_loop().create_task(reader.run(), name=f"reader of topics in {namespace}")
            task.add_done_callback(self.on_ended)
            watched = self._watched[namespace] = _Watched(sink, reader, task)
        watched.listeners += 1
        if watched.idle:
            watched.idle.cancel()
            watched.idle = None
        watched.sink.listeners.setdefault(topic, set()).add(subscription)
        return watched

    def stop(self, subscription: "TopicSubscription") -> None:
        """Take a listener out; the reader of a namespace ends some time after the last."""
        namespace, topic = subscription.topic
        watched = self._watched.get(namespace)
        if watched is None or subscription not in watched.sink.listeners.get(topic, ()):
            return
        watched.sink.listeners[topic].discard(subscription)
        if not watched.sink.listeners[topic]:
            del watched.sink.listeners[topic]
        watched.listeners -= 1
        if watched.listeners == 0:
            watched.idle = asyncio.get_running_loop().create_task(self._end(namespace, watched))

    async def _end(self, namespace: str, watched: _Watched) -> None:
        await self._clock.sleep(IDLE_SECONDS)
        del self._watched[namespace]
        watched.task.cancel()

    def tell(self, topic: Ref, shared: Shared) -> None:
        """Tell a message to each listener that this process has. Never waits."""
        watched = self._watched.get(topic.namespace)
        if watched:
            watched.sink.tell(topic.name, shared)

    async def close(self) -> None:
        """Stop every reader."""
        tasks = [task for watched in self._watched.values() for task in (watched.task, watched.idle) if task]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TopicSubscription:
    """One listener of one topic."""

    def __init__(self, topics: Topics, connection: Connection, identifier: str, topic: Ref) -> None:
        self._topics = topics
        self._connection = connection
        self._identifier = identifier
        self._is_open = False
        self.topic = topic

    def confirmed(self) -> None:
        """Events may flow."""
        self._is_open = True

    @property
    def user(self) -> str:
        """Who listens."""
        return self._connection.user.name

    def say(self, shared: Shared) -> None:
        """Tell a message."""
        if self._is_open:
            self._connection.say_shared(self._identifier, shared)

    def receive(self, data: str | None, /) -> None:
        """A topic takes no actions (C4)."""
        message = "a topic is for listening: send actions on an agent's subscription"
        self._connection.refuse(
            self._identifier, Why.TOPIC_ACTION, Error(code=ErrorCode.FORBIDDEN, message=message, ref=ref_in(data))
        )

    def end(self, _why: SubscriptionReason, /) -> None:
        """Stop listening; what a fan-out still has for it isn't told any more."""
        self._is_open = False
        self._topics.stop(self)

    def stale_after(self) -> None:
        """A listener asks for nothing of its own."""

    async def still_allowed(self, user: User) -> bool:
        """Whether `user` may still listen."""
        return await self._topics.may_listen(user, self.topic)
