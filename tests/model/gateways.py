"""Gateways as actors: verdicts, rows and writes are the real ones; frames between socket and agent are left out."""

from collections.abc import Callable
from dataclasses import dataclass, field

from belay_api.actions import Cancelled, HeldAttempt, OnAttempt
from belay_api.messages import ErrorCode, ResumeVerdict
from belay_api.names import Ref, subscription_name
from belay_api.reasons import SubscriptionReason
from belay_api.times import to_wire
from belay_api.transitions import Phase
from belay_gateway.cases import Case
from belay_gateway.held import adopted, forgotten, is_delivered, is_held, is_unacknowledged, resume_verdict
from belay_gateway.hints import Hints
from belay_gateway.judging import decide
from belay_gateway.metrics import Metrics
from belay_gateway.objects import attempt_of, ended_by_others, phase_in, ref_of
from belay_gateway.proofs import acknowledged, delivered
from belay_gateway.rows import Lease, claimed, disconnection, lease_of, new_row, renewal
from belay_gateway.verdicts import Asker, Change, NoChange, Refusal, Verdict
from belay_gateway.writes import Writes
from belay_kube.client import DELEGATIONS, JSON_PATCH, SUBSCRIPTIONS, Json
from belay_kube.clock import Clock
from belay_kube.errors import AlreadyExists, Conflict, Invalid, NotFound
from belay_operator.observe.presence_records import GatewayLease

from .connection import Connection, Crash
from .history import History

_METRICS = Metrics()
_CLAIMS = 5
_FENCED = Refusal(ErrorCode.SUPERSEDED, "another socket has this session now: stop")
_THRESHOLD = 40


@dataclass(eq=False)
class Socket:
    """One attachment of a session, as the gateway and the agent at its ends know it."""

    agent: Ref
    session: str
    token: str
    fenced: bool = False
    attempts: dict[str, int] = field(default_factory=dict)
    """What the agent was offered, holds, or was told to stop: the attempt it speaks of, by delegation."""
    heard: dict[str, int] = field(default_factory=dict)
    """All that it ever heard of: what was refused comes late, and must be refused again."""
    holds: set[str] = field(default_factory=set)
    """What it says it holds when it resumes."""

    @property
    def row(self) -> str:
        """The name of its row."""
        return subscription_name(self.agent.name, self.session)

    def hear(self, delegation: Json) -> None:
        """The agent is told of an attempt."""
        name = delegation["metadata"]["name"]
        self.attempts[name] = self.heard[name] = attempt_of(delegation)


class GatewayActor:
    """One gateway process, from its start to its crash."""

    def __init__(
        self,
        identity: str,
        connection: Connection,
        clock: Clock,
        namespace: str,
        history: History,
        new_token: Callable[[], str],
    ) -> None:
        self.identity = identity
        self.connection = connection
        self.sockets: dict[tuple[Ref, str], Socket] = {}
        self._clock = clock
        self._namespace = namespace
        self._history = history
        self._new_token = new_token
        self._lost: dict[str, tuple[Socket, SubscriptionReason]] = {}
        self._seen: dict[Ref, Json] = {}
        hints = Hints()
        hints.sources = (self._seen.get,)
        self._writes = Writes(connection, clock, hints, _METRICS)

    # --- rows --------------------------------------------------------------------------------------------------

    async def attach(self, agent: Ref, session: str) -> Socket:
        """A new socket takes the session, and what it still holds comes with it. Raises KubeError."""
        socket = Socket(agent, session, self._new_token())
        await self._claim(socket)
        if before := self.sockets.get((agent, session)):
            before.fenced = True
        self.sockets[(agent, session)] = socket
        for delegation in await self._of(socket):
            await self._adopt(socket, delegation)
        return socket

    async def _claim(self, socket: Socket) -> None:
        for _ in range(_CLAIMS):
            try:
                row = await self._row(socket)
                row = row or await self.connection.create(
                    SUBSCRIPTIONS, self._namespace, new_row(socket.agent, socket.session)
                )
                status = claimed(row, "somebody", self.identity, socket.token, self._clock.now())
                await self.connection.patch_status(SUBSCRIPTIONS, row, status)
            except (AlreadyExists, Conflict, NotFound):
                continue
            return
        raise AssertionError(f"session {socket.session} was contended for ever")

    async def _row(self, socket: Socket) -> Json | None:
        try:
            return await self.connection.get(SUBSCRIPTIONS, self._namespace, socket.row)
        except NotFound:
            return None

    async def detach(self, socket: Socket, why: SubscriptionReason, *, says_so: bool) -> None:
        """The socket is gone; if the row isn't told now, the next renewal of the Lease tells it (P6)."""
        if self.sockets.get((socket.agent, socket.session)) is socket:
            del self.sockets[(socket.agent, socket.session)]
            self._lost[socket.token] = socket, why
            if says_so:
                await self._mark(socket, why)

    async def _mark(self, socket: Socket, why: SubscriptionReason) -> None:
        patch = disconnection(socket.token, why, self._clock.now())
        await self._patch_row(socket, patch)
        self._lost.pop(socket.token, None)

    async def _patch_row(self, socket: Socket, patch: list[Json]) -> bool:
        """Whether it was still the socket's."""
        try:
            await self.connection.patch(
                SUBSCRIPTIONS, self._namespace, socket.row, patch, subresource="status", content_type=JSON_PATCH
            )
        except (NotFound, Invalid):
            return False
        return True

    async def renew(self) -> GatewayLease:
        """Renew the Lease and every row; a socket without a row of its own goes."""
        for socket, why in tuple(self._lost.values()):
            await self._mark(socket, why)
        for socket in tuple(self.sockets.values()):
            if not await self._patch_row(socket, renewal(socket.token, self._clock.now())):
                await self._verify(socket)
        return GatewayLease(self.identity, to_wire(self._clock.now()), released=False, touch_seconds=15.0)

    async def _verify(self, socket: Socket) -> None:
        lease = lease_of(await self._row(socket), socket.token)
        if lease is not Lease.HELD:
            socket.fenced = lease is Lease.TAKEN
            self.sockets.pop((socket.agent, socket.session), None)

    # --- what agents say ---------------------------------------------------------------------------------------

    async def act(self, socket: Socket, action: OnAttempt) -> Verdict | None:
        """Carry an action out and answer it; None: the gateway died over it."""
        seen: list[Json] = []

        def verdict_on(delegation: Json) -> Verdict:
            seen[:] = [delegation]
            return _FENCED if socket.fenced else self._decide(delegation, socket, action)

        async def may() -> Refusal | None:
            return None if await self._may_write(socket) else _FENCED

        try:
            ref = Ref(self._namespace, action.name)
            verdict = await self._writes.settle(ref, "act", verdict_on, may=may)
            await self._told(socket, action, verdict, seen)
        except Crash:
            return None
        return verdict

    def _decide(self, delegation: Json, socket: Socket, action: OnAttempt) -> Verdict:
        asker = self._asker(socket)
        threshold = (delegation.get("spec") or {}).get("stuckThresholdSeconds") or _THRESHOLD
        return decide(Case(delegation, asker, action, self._clock.now(), threshold))

    async def _may_write(self, socket: Socket) -> bool:
        if self.sockets.get((socket.agent, socket.session)) is socket:
            return not socket.fenced
        return ((await self._row(socket) or {}).get("status") or {}).get("token") == socket.token

    async def _told(self, socket: Socket, action: OnAttempt, verdict: Verdict, seen: list[Json]) -> None:
        """What the answer means to the agent, and that the same again changes nothing (D2)."""
        name = action.name
        if isinstance(verdict, Refusal):
            socket.holds.discard(name)
            socket.attempts.pop(name, None)
            return
        if isinstance(action, Cancelled):
            socket.holds.discard(name)
            socket.attempts.pop(name, None)
            return
        self._history.acknowledged(seen[0], socket.session, action)
        if isinstance(verdict, Change):
            await self._again(socket, action, verdict)
        if phase_in({"status": verdict.status} if isinstance(verdict, Change) else seen[0]) is Phase.IN_PROGRESS:
            socket.holds.add(name)

    async def _again(self, socket: Socket, action: OnAttempt, change: Change) -> None:
        try:
            now = await self.connection.get(DELEGATIONS, self._namespace, action.name)
        except NotFound:
            return
        status = now.get("status") or {}
        if any(status.get(key) != value for key, value in change.status.items() if value is not None):
            return  # somebody went first
        verdict = self._decide(now, socket, action)
        if not isinstance(verdict, NoChange):
            self._history.broken.append(f"D2: {action} again, after {change}: {verdict}")

    async def resume(self, socket: Socket) -> None:
        """The agent says what it has in hand; what is not among it is handed back, or proven to have stopped (C9)."""
        known = {d["metadata"]["name"]: d for d in await self._of(socket)}
        held = {name: socket.attempts[name] for name in socket.holds if name in socket.attempts}
        for name, attempt in held.items():
            entry = HeldAttempt(name=name, attempt=attempt)
            if resume_verdict(known.get(name), self._asker(socket), entry) is not ResumeVerdict.CONTINUE:
                socket.holds.discard(name)
        for name in known.keys() - held.keys():
            await self._not_in_hand(socket, known[name])

    async def _not_in_hand(self, socket: Socket, delegation: Json) -> None:
        attempt = attempt_of(delegation)

        def verdict_on(latest: Json) -> Verdict:
            if socket.fenced or attempt_of(latest) != attempt:
                return NoChange()
            if is_unacknowledged(latest):
                return acknowledged(latest, self._clock.now(), "the session resumed without it")
            return forgotten(latest, self._asker(socket))

        if is_unacknowledged(delegation) or is_held(delegation, self._asker(socket)):
            await self._writes.settle(ref_of(delegation), "resume", verdict_on, live=True)

    def _asker(self, socket: Socket) -> Asker:
        return Asker(socket.agent.name, socket.session, self.identity)

    # --- what agents are told ----------------------------------------------------------------------------------

    async def look(self) -> None:
        """The watches catch up: offers go to every socket of the agent, ends to who held the work."""
        listed = await self.connection.list(DELEGATIONS, self._namespace)
        self._seen.clear()
        for delegation in listed["items"]:
            self._seen[ref_of(delegation)] = delegation
            for socket in tuple(self.sockets.values()):
                if delegation["spec"]["agentRef"]["name"] == socket.agent.name:
                    await self._tell(socket, delegation)

    async def _tell(self, socket: Socket, delegation: Json) -> None:
        status = delegation.get("status") or {}
        if phase_in(delegation) is Phase.DISPATCHED:
            socket.hear(delegation)
        if status.get("sessionId") != socket.session or not ended_by_others(delegation):
            return
        socket.hear(delegation)
        if not is_delivered(delegation):
            await self._record_delivery(socket, delegation)

    async def _record_delivery(self, socket: Socket, delegation: Json) -> None:
        attempt = attempt_of(delegation)

        def verdict_on(latest: Json) -> Verdict:
            if attempt_of(latest) != attempt or not ended_by_others(latest):
                return NoChange()
            return delivered(latest, self._clock.now(), socket.session)

        await self._writes.settle(ref_of(delegation), "delivered", verdict_on)

    async def _adopt(self, socket: Socket, delegation: Json) -> None:
        def verdict_on(latest: Json) -> Verdict:
            return NoChange() if socket.fenced else adopted(latest, self._asker(socket))

        socket.hear(delegation)
        await self._writes.settle(ref_of(delegation), "adopt", verdict_on, live=True)

    async def _of(self, socket: Socket) -> list[Json]:
        selector = f"spec.agentRef.name={socket.agent.name},status.sessionId={socket.session}"
        items: list[Json] = (await self.connection.list(DELEGATIONS, self._namespace, fieldSelector=selector))["items"]
        return items
