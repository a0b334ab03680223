"""`AgentChannel` with an `agent_id`: a process attaches as one session of an agent."""

import re
import uuid
from dataclasses import dataclass
from typing import Final

from belay_api.agent import Runtime
from belay_api.frames import DisconnectReason, Identifier
from belay_api.messages import Attached, ErrorCode
from belay_api.names import Ref
from belay_api.reasons import SubscriptionReason
from belay_gateway.access import Access
from belay_gateway.agents import Agents, AgentSeen
from belay_gateway.auth import User
from belay_gateway.cable import Connection
from belay_gateway.holdings import Holdings
from belay_gateway.inbound import Inbound
from belay_gateway.outbound import Offers
from belay_gateway.presence import Presence
from belay_gateway.returning import Returning
from belay_gateway.sockets import Session, Sockets
from belay_gateway.subscription import Rejected
from belay_gateway.tasks import Tasks
from belay_kube.clock import Clock
from belay_kube.logs import about

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def is_label(text: str) -> bool:
    """Whether it can name a namespace or an agent; nothing else may get into a path of the API server."""
    return _LABEL.fullmatch(text) is not None


def agent_in(text: str) -> Ref:
    """The agent of an identifier. Raises Rejected."""
    namespace, _, name = text.partition("/")
    if not (is_label(namespace) and is_label(name)):
        raise Rejected(ErrorCode.INVALID, 'agent_id: not of the form "namespace/name"')
    return Ref(namespace, name)


@dataclass(frozen=True)
class AgentChannel:
    """Attaches sessions, and closes those of agents that are gone."""

    clock: Clock
    agents: Agents
    access: Access
    sockets: Sockets
    presence: Presence
    inbound: Inbound
    offers: Offers
    holdings: Holdings
    returning: Returning
    tasks: Tasks

    async def subscribe(self, connection: Connection, text: str, identifier: Identifier) -> "AgentSubscription":
        """A subscription whose row stands written. Raises Rejected, KubeError."""
        agent = agent_in(identifier.agent_id or "")
        with about(agent=agent, session=identifier.session_id):
            await self._check(connection.user, agent)
        session = Session(
            agent=agent,
            session_id=identifier.session_id or uuid.uuid4().hex,
            user=connection.user,
            token=uuid.uuid4().hex,
            identifier=text,
            peer=connection,
            touched_at=self.clock.monotonic(),
        )
        other = self.sockets.session(agent, session.session_id)
        if other and other.peer is connection:
            raise Rejected(ErrorCode.INVALID, f"this socket already is session {session.session_id} of agent {agent}")
        with session.in_logs():
            await self.presence.attach(session)
        return AgentSubscription(self, session, is_new=identifier.session_id is None)

    async def _check(self, user: User, agent: Ref) -> AgentSeen:
        seen = await self.agents.find(agent)
        if seen is None:
            raise Rejected(ErrorCode.NOT_FOUND, f"agent {agent} doesn't exist: create it with kubectl apply")
        if not await self.access.may_attach(user, agent, seen.owners):
            sentence = f"{user.name} may not attach as agent {agent}: needs a place in its owners or the verb attach"
            raise Rejected(ErrorCode.FORBIDDEN, sentence)
        if seen.runtime != Runtime.CHANNEL:
            raise Rejected(ErrorCode.INVALID, f"agent {agent} has runtime {seen.runtime}: processes don't attach to it")
        return seen

    def offer(self, session: Session) -> None:
        """From now on it is offered what there is."""
        session.is_ready = True
        self.offers.offer_all(session)

    async def welcome(self, session: Session) -> None:
        """A session that may have been here before: what it owes is known before it gets anything new."""
        work = await self.returning.find(session)
        self.offer(session)
        await self.returning.welcome(session, work)

    def agent_deleted(self, agent: Ref) -> None:
        """Close the sockets of an agent that is gone."""
        for session in self.sockets.of(agent):
            sentence = f"agent {agent} was deleted"
            session.peer.end(session.identifier, DisconnectReason.AGENT_DELETED, sentence, reconnect=False)

    def owners_changed(self, agent: Ref) -> None:
        """Who may attach changed: look at those who are."""
        for session in self.sockets.of(agent):
            session.peer.review_soon()


class AgentSubscription:
    """One session on one socket."""

    __slots__ = ("_channel", "_is_new", "_session")

    def __init__(self, channel: AgentChannel, session: Session, *, is_new: bool) -> None:
        self._channel = channel
        self._session = session
        self._is_new = is_new

    def confirmed(self) -> None:
        """Say who it is, then what there is to do."""
        session, times = self._session, self._channel.agents.times(self._session.agent)
        session.is_open = True
        session.say(
            Attached(
                agent=str(session.agent),
                session=session.session_id,
                token=session.token,
                heartbeat_seconds=times.heartbeat,
                stale_after_seconds=times.stale_after,
                grace_seconds=times.grace,
            )
        )
        if self._is_new:
            self._channel.offer(session)
        else:
            with session.in_logs():
                self._channel.tasks.spawn(self._channel.welcome(session), "welcoming a session")

    def receive(self, data: str | None, /) -> None:
        """An action of the agent."""
        with self._session.in_logs():
            self._channel.inbound.receive(self._session, data)

    def end(self, why: SubscriptionReason, /) -> None:
        """The session's socket is gone."""
        self._session.is_open = False
        with self._session.in_logs():
            self._channel.presence.detach(self._session, why)

    def stale_after(self) -> float:
        """What its agent asks for."""
        return self._channel.agents.times(self._session.agent).stale_after

    async def still_allowed(self, user: User) -> bool:
        """Whether `user` may still attach as this agent."""
        seen = await self._channel.agents.find(self._session.agent)
        return seen is not None and await self._channel.access.may_attach(user, self._session.agent, seen.owners)
