"""`AgentChannel` with a `topic_id`: listeners of a topic hear of every change of phase of its delegations, and what is
broadcast to it (C3). The own topic of a Model agent's session hears how that stands, too, and every turn.

One reader of delegations for each namespace that has listeners, and one for each Model agent's session that has.
"""

import asyncio
import re
from collections.abc import Callable

from belay_api.agent import Runtime
from belay_api.frames import Identifier
from belay_api.messages import Error, ErrorCode
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
from belay_gateway.sessiontopic import OwnTopic, SessionTopic
from belay_gateway.subscription import Rejected
from belay_gateway.topicevents import NamespaceTopics
from belay_gateway.watching import Watches
from belay_gateway.wire import ref_in
from belay_kube.client import DELEGATIONS, SUBSCRIPTIONS, Kube
from belay_kube.clock import Clock
from belay_kube.errors import NotFound
from belay_kube.reader import Reader

_SYNC_SECONDS = 10.0
_TOPIC_CHARS = 253
_SESSION_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_TOLD = ("agentsessions", "sessionturns", "delegations")
"""What is told on the own topic of a Model agent's session."""


def topic_in(text: str) -> Ref:
    """The topic of an identifier: all after the first slash, slashes too. Raises Rejected."""
    namespace, _, topic = text.partition("/")
    if not is_label(namespace) or not 0 < len(topic) <= _TOPIC_CHARS:
        raise Rejected(ErrorCode.INVALID, 'topic_id: not of the form "namespace/topic"')
    return Ref(namespace, topic)


def own_topic(topic: Ref) -> OwnTopic | None:
    """The parts of a session's own topic; None of another one, or of one that no session has. Pure."""
    if not topic.name.startswith(SESSION_TOPIC_PREFIX):
        return None
    agent, slash, name = topic.name.removeprefix(SESSION_TOPIC_PREFIX).partition("/")
    return OwnTopic(topic.namespace, agent, name) if is_label(agent) and slash and name else None


async def _synced(reader: Reader) -> None:
    try:
        async with asyncio.timeout(_SYNC_SECONDS):
            await reader.has_synced.wait()
    except TimeoutError:
        raise Rejected(ErrorCode.UNAVAILABLE, "the namespace can't be watched now: try again") from None


class Topics:
    """Who listens to what, in all namespaces."""

    def __init__(self, kube: Kube, clock: Clock, agents: Agents, access: Access, fanout: Fanout) -> None:
        self._kube = kube
        self._clock = clock
        self._agents = agents
        self._access = access
        self._fanout = fanout
        self.namespaces: Watches[str, NamespaceTopics] = Watches(clock)
        """The readers of delegations, by namespace."""
        self.sessions: Watches[Ref, SessionTopic] = Watches(clock)
        """Those of sessions of Model agents, by topic."""

    def on_ended(self, ended: Callable[[asyncio.Task[None]], None]) -> None:
        """Have `ended` called when a reader ends."""
        self.namespaces.on_ended = self.sessions.on_ended = ended

    async def subscribe(self, connection: Connection, text: str, identifier: Identifier) -> "TopicSubscription":
        """A subscription that hears every change from now on. Raises Rejected, KubeError."""
        topic = topic_in(identifier.topic_id or "")
        if not await self.may_listen(connection.user, topic):
            raise Rejected(ErrorCode.FORBIDDEN, f"{connection.user.name} may not listen to topic {topic}")
        subscription = TopicSubscription(self, connection, text, topic, await self._followed(topic))
        readers = self._start(subscription)
        try:
            for reader in readers:
                await _synced(reader)
        except BaseException:  # a socket may end at just the moment at which the reader has synced
            self.stop(subscription)
            raise
        return subscription

    async def may_listen(self, user: User, topic: Ref) -> bool:
        """Who may `get` delegations there. To a session's own topic, itself and holders of `attach` (C2), and if it is
        a Model agent's, who may read all that is told there."""
        if not topic.name.startswith(SESSION_TOPIC_PREFIX):
            return await self._access.may_read_delegations(user, topic.namespace)
        return await self.may_speak(user, topic) or await self._may_read(user, topic)

    async def may_speak(self, user: User, topic: Ref) -> bool:
        """To a session's own topic: itself, and holders of `attach` on its agent (C2)."""
        own = own_topic(topic)
        if own is None:
            return False
        ref = Ref(own.namespace, own.agent)
        return await self._access.has_attach(user, ref) or await self._is_session(user, ref, own.name)

    async def _may_read(self, user: User, topic: Ref) -> bool:
        own = own_topic(topic)
        seen = await self._agents.find(Ref(own.namespace, own.agent)) if own else None
        if own is None or seen is None or seen.runtime != Runtime.MODEL:
            return False
        for resource in _TOLD:
            if not await self._access.may(user, "get", resource, own.namespace):
                return False
        return True

    async def _is_session(self, user: User, agent: Ref, session_id: str) -> bool:
        seen = await self._agents.find(agent)
        if seen is None or not owns(user, agent.namespace, seen.owners):
            return False
        try:
            row = await self._kube.get(SUBSCRIPTIONS, agent.namespace, subscription_name(agent.name, session_id))
        except NotFound:
            return False
        return (row.get("status") or {}).get("user") == user.name

    async def _followed(self, topic: Ref) -> OwnTopic | None:
        """The topic, if an AgentSession may be behind it; the agent of one may come later."""
        own = own_topic(topic)
        if own is None or not _SESSION_NAME.fullmatch(own.name):
            return None
        seen = await self._agents.find(Ref(own.namespace, own.agent))
        return own if seen is None or seen.runtime == Runtime.MODEL else None

    def _start(self, subscription: "TopicSubscription") -> list[Reader]:
        namespace, topic = subscription.topic
        watched = self.namespaces.join(namespace, lambda: self._read_namespace(namespace))
        watched.sink.listeners.setdefault(topic, set()).add(subscription)
        own = subscription.follows
        if own is None:
            return [watched.reader]
        return [watched.reader, self.sessions.join(subscription.topic, lambda: self._read_session(own)).reader]

    def _read_namespace(self, namespace: str) -> tuple[NamespaceTopics, Reader]:
        sink = NamespaceTopics(namespace, self._fanout)
        return sink, Reader(self._kube, DELEGATIONS, sink, self._clock, namespace=namespace)

    def _read_session(self, own: OwnTopic) -> tuple[SessionTopic, Reader]:
        topic = Ref(own.namespace, own.topic)
        sink = SessionTopic(self._kube, self._clock, own, lambda shared: self.tell(topic, shared))
        return sink, sink.reader()

    def stop(self, subscription: "TopicSubscription") -> None:
        """Take a listener out; the readers end some time after their last."""
        namespace, topic = subscription.topic
        watched = self.namespaces.running.get(namespace)
        if watched is None or subscription not in watched.sink.listeners.get(topic, ()):
            return
        watched.sink.listeners[topic].discard(subscription)
        if not watched.sink.listeners[topic]:
            del watched.sink.listeners[topic]
        self.namespaces.leave(namespace)
        if subscription.follows:
            self.sessions.leave(subscription.topic)

    def tell(self, topic: Ref, shared: Shared) -> None:
        """Tell a message to each listener that this process has. Never waits."""
        watched = self.namespaces.running.get(topic.namespace)
        if watched:
            watched.sink.tell(topic.name, shared)

    async def close(self) -> None:
        """Stop every reader."""
        await self.namespaces.close()
        await self.sessions.close()


class TopicSubscription:
    """One listener of one topic."""

    def __init__(
        self, topics: Topics, connection: Connection, identifier: str, topic: Ref, follows: OwnTopic | None
    ) -> None:
        self._topics = topics
        self._connection = connection
        self._identifier = identifier
        self._is_open = False
        self.topic = topic
        self.follows = follows
        """The topic, if an AgentSession may be behind it."""

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
