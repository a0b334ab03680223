"""The sessions attached to this process: which socket speaks for which session of which agent."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from belay_api.delegation import Progress
from belay_api.frames import DisconnectReason, Frame
from belay_api.names import Ref, subscription_name
from belay_api.reasons import SubscriptionReason
from belay_gateway.auth import User
from belay_gateway.backlog import Shared
from belay_kube.logs import about

Key = tuple[str, str]


class Peer(Protocol):
    """The other end of a socket, as the rest of the gateway sees it."""

    def say(self, identifier: str, message: Frame, sent: Callable[[], None] | None = None) -> None:
        """Queue a message; `sent` is called once it was put on the wire. Never waits."""

    def say_shared(self, identifier: str, shared: Shared) -> None:
        """Queue a message that many are told. Never waits."""

    def disconnect(self, reason: DisconnectReason, *, reconnect: bool) -> None:
        """Tell the peer why, and close. Never waits."""

    def leave(self, identifier: str, why: SubscriptionReason) -> None:
        """End one subscription that asked for it, and the socket with the last one."""

    def end(self, identifier: str, reason: DisconnectReason, message: str, *, reconnect: bool) -> None:
        """End one subscription and say why; the socket too if it has no other or is to `reconnect`. Never waits."""

    def has_room(self) -> bool:
        """Whether less than half of what may wait for the peer does."""

    def heard_at(self) -> float:
        """Monotonic time of the last byte heard."""

    def review_soon(self) -> None:
        """Review the right to be here now, not at the next turn."""


@dataclass
class Offer:
    """A delegation shown to one socket."""

    attempt: int
    at: float


@dataclass(eq=False, slots=True)
class Session:
    """One attachment of an agent through one socket; `token` is the epoch of its lease."""

    agent: Ref
    session_id: str
    user: User
    token: str
    identifier: str
    peer: Peer
    touched_at: float
    is_open: bool = False
    """Confirmed to the peer: only then is anything said to it."""
    fenced: bool = False
    """Another socket has the session now: nothing may be written for this one any more."""
    leaving: bool = False
    """It said goodbye: whatever ends its socket first, it ended because of that."""
    touching: bool = False
    told_unresponsive: bool = False
    """Its row says that it has work it doesn't answer for."""
    is_ready: bool = False
    """What it owes from before is known: only then is anything offered to it."""
    offers: dict[str, Offer] = field(default_factory=dict)
    pending: dict[str, None] = field(default_factory=dict)
    """Offers that wait until the peer has read what it was sent, in order."""
    owed: set[Ref] = field(default_factory=set)
    """Work that it doesn't answer for, as found when it attached."""
    in_flight: Counter[str] = field(default_factory=Counter)
    """Actions being carried out, by delegation."""
    told: set[tuple[str, int]] = field(default_factory=set)
    """Ends that were told on this socket and are not yet acknowledged, by uid and attempt."""
    unwritten: dict[str, tuple[int, Progress]] = field(default_factory=dict)
    """Progress that was acknowledged, but came too soon to be written: attempt and progress by delegation."""

    @property
    def row(self) -> str:
        """Name of its AgentSubscription."""
        return subscription_name(self.agent.name, self.session_id)

    def in_logs(self) -> about:
        """Within, every line of the log says whose session it is about."""
        return about(agent=self.agent, session=self.session_id, user=self.user.name)

    def say(self, message: Frame, sent: Callable[[], None] | None = None) -> None:
        """Queue a message for its peer."""
        self.peer.say(self.identifier, message, sent)

    def tell(self, shared: Shared) -> None:
        """Queue what many are told, once it is confirmed."""
        if self.is_open:
            self.peer.say_shared(self.identifier, shared)


class Sockets:
    """The registry; one entry a session, the latest socket wins."""

    def __init__(self) -> None:
        self._by_agent: dict[Ref, dict[str, Session]] = {}
        self._by_row: dict[Key, Session] = {}

    def __len__(self) -> int:
        return len(self._by_row)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._by_row.values()))

    def add(self, session: Session) -> Session | None:
        """Enter `session`; returns the one it takes the place of."""
        sessions = self._by_agent.setdefault(session.agent, {})
        old = sessions.get(session.session_id)
        sessions[session.session_id] = session
        self._by_row[session.agent.namespace, session.row] = session
        return old

    def remove(self, session: Session) -> bool:
        """Take `session` out, if it still is the one that counts; whether it was."""
        sessions = self._by_agent.get(session.agent, {})
        if sessions.get(session.session_id) is not session:
            return False
        del sessions[session.session_id]
        if not sessions:
            del self._by_agent[session.agent]
        del self._by_row[session.agent.namespace, session.row]
        return True

    def of(self, agent: Ref) -> tuple[Session, ...]:
        """The sessions of an agent."""
        return tuple(self._by_agent.get(agent, {}).values())

    def session(self, agent: Ref, session_id: str | None) -> Session | None:
        """One session of an agent."""
        return self._by_agent.get(agent, {}).get(session_id or "")

    def with_row(self, namespace: str, row: str) -> Session | None:
        """The session behind a row."""
        return self._by_row.get((namespace, row))
