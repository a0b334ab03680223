"""Broadcasts: a transient word to every socket of an agent, or to every listener of a topic, on all gateways (C3).

Kept nowhere and told at most once. The bus gets it first: when that is known to be down nobody is told, so such a
broadcast can be sent again. When it stops answering meanwhile, others may have been told, and the refusal says so.
"""

import uuid
from collections import OrderedDict
from typing import Any

import structlog

from belay_api.messages import Broadcast, ErrorCode
from belay_api.meta import SESSION_TOPIC_PREFIX
from belay_api.names import Ref
from belay_gateway.access import Access
from belay_gateway.agents import Agents
from belay_gateway.auth import User
from belay_gateway.backlog import Backlog, Shared
from belay_gateway.bucket import Bucket, Buckets
from belay_gateway.bus import Bus, BusDown
from belay_gateway.carried import MAX_BODY_BYTES, Unfit, address_of, body_text, pack, subject_of, unpack
from belay_gateway.channel import agent_in
from belay_gateway.delegating import check_may_delegate
from belay_gateway.fanout import Fanout
from belay_gateway.metrics import Metrics
from belay_gateway.refused import Refused
from belay_gateway.settings import Settings
from belay_gateway.sockets import Sockets
from belay_gateway.subscription import Rejected
from belay_gateway.topics import Topics, topic_in
from belay_gateway.wire import text_of
from belay_kube.clock import Clock

log = structlog.get_logger(__name__)

_REMEMBERED = 10_000
_BURST = 5
_NO_ROOM = "too much waits to be sent to the sockets of this gateway: nobody was told, send it again in some seconds"
_COMPLAINTS = (0.1, 10.0)
"""Lines a second in the log, and at once, about what is malformed on the bus; all are counted."""


class Broadcasts:
    """Sends what people and programs broadcast, and tells what comes over the bus."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        agents: Agents,
        access: Access,
        sockets: Sockets,
        topics: Topics,
        bus: Bus,
        backlog: Backlog,
        fanout: Fanout,
        metrics: Metrics,
    ) -> None:
        self._me = settings.identity
        self._rate = settings.max_broadcasts_per_second
        self._agents = agents
        self._access = access
        self._sockets = sockets
        self._topics = topics
        self._bus = bus
        self._backlog = backlog
        self._fanout = fanout
        self._metrics = metrics
        self._buckets = Buckets(clock, self._rate, self._rate * _BURST)
        self._told: OrderedDict[str, None] = OrderedDict()
        self._complaints = Bucket(clock, *_COMPLAINTS)
        bus.subscribe(self.receive)

    async def to_agent(self, agent: Ref, sender: User, body: Any) -> Broadcast:
        """Tell every session of an agent; needs what delegating to it needs. Raises Refused, KubeError."""
        self._check_rate(sender)
        try:
            agent_in(str(agent))
        except Rejected as error:
            raise Refused(error.code, f"agent: {error.message}") from None
        await check_may_delegate(self._access, sender, agent)
        if await self._agents.find(agent) is None:
            raise Refused(ErrorCode.NOT_FOUND, f"agent {agent} doesn't exist: create it with kubectl apply")
        return await self._send(Broadcast(id=uuid.uuid4().hex, sender=sender.name, agent=str(agent), body=body))

    async def to_topic(self, topic: Ref, sender: User, body: Any) -> Broadcast:
        """Tell every listener of a topic; needs `create` on delegations there, and to a session's own topic to be
        that session, or `attach`. Raises Refused, KubeError.
        """
        self._check_rate(sender)
        try:
            topic_in(str(topic))
        except Rejected as error:
            raise Refused(error.code, f"topic: {error.message}") from None
        await self._check_topic(sender, topic)
        return await self._send(Broadcast(id=uuid.uuid4().hex, sender=sender.name, topic=str(topic), body=body))

    def _check_rate(self, sender: User) -> None:
        if not self._buckets.take(sender.name):
            self._metrics.broadcasts.labels(str(ErrorCode.RATE_LIMITED)).inc()
            sentence = f"{sender.name} broadcasts too often: at most {self._rate} a second here, try again later"
            raise Refused(ErrorCode.RATE_LIMITED, sentence)

    async def _check_topic(self, sender: User, topic: Ref) -> None:
        if topic.name.startswith(SESSION_TOPIC_PREFIX):
            if not await self._topics.may_speak(sender, topic):
                sentence = (
                    f"{sender.name} may not broadcast to topic {topic}: needs to be that session, or the verb attach"
                )
                raise Refused(ErrorCode.FORBIDDEN, sentence)
        else:
            await self._access.check(sender, "create", "delegations", topic.namespace)

    async def _send(self, broadcast: Broadcast) -> Broadcast:
        broadcast = self._checked(broadcast)
        if not self._backlog.has_room():
            self._metrics.broadcasts.labels(str(ErrorCode.UNAVAILABLE)).inc()
            raise Refused(ErrorCode.UNAVAILABLE, _NO_ROOM)
        try:
            await self._bus.publish(subject_of(broadcast), pack(self._me, broadcast))
        except BusDown as error:
            self._metrics.broadcasts.labels(str(ErrorCode.UNAVAILABLE)).inc()
            raise Refused(ErrorCode.UNAVAILABLE, str(error)) from None
        self._metrics.broadcasts.labels("sent").inc()
        self._tell(broadcast)
        return broadcast

    def _checked(self, broadcast: Broadcast) -> Broadcast:
        """The broadcast as every gateway will read it. Raises Refused."""
        try:
            size = len(body_text(broadcast.body).encode(errors="surrogatepass"))
            if size > MAX_BODY_BYTES:
                sentence = f"body: {size} bytes of JSON, at most {MAX_BODY_BYTES}: send an address instead"
                raise Refused(ErrorCode.TOO_LARGE, sentence)
            return unpack(subject_of(broadcast), pack(self._me, broadcast)).broadcast
        except (ValueError, RecursionError, Unfit) as error:
            raise Refused(ErrorCode.INVALID, f"body: not JSON that a peer could read ({error})"[:300]) from None

    # --- from the bus ------------------------------------------------------------------------------------------

    def receive(self, subject: str, data: bytes) -> None:
        """Tell what another gateway sent; what doesn't fit is dropped and counted."""
        try:
            carried = unpack(subject, data)
        except Unfit as error:
            self._metrics.bus_messages.labels("malformed").inc()
            if self._complaints.take():
                log.warning("a message of the bus was dropped", subject=subject[:300], error=str(error))
            return
        if not self._backlog.has_room():
            self._metrics.bus_messages.labels("no_room").inc()
            if self._complaints.take():
                log.warning("a broadcast of another gateway was dropped: too much waits to be sent", subject=subject)
            return
        fresh = carried.gateway != self._me and self._tell(carried.broadcast)
        self._metrics.bus_messages.labels("told" if fresh else "repeated").inc()

    def _tell(self, broadcast: Broadcast) -> bool:
        """Tell those who listen here, unless they were told already."""
        if broadcast.id in self._told:
            return False
        self._told[broadcast.id] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        shared, to = Shared(broadcast.type, text_of(broadcast.wire())), address_of(broadcast)
        if broadcast.topic:
            self._topics.tell(to, shared)
        else:
            self._fanout.tell([session.tell for session in self._sockets.of(to)], shared)
        return True
