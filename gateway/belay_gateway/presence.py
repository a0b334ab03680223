"""Rows of sessions: taken when a socket attaches, given up when it goes, and compared with the sockets for ever after.

A row is written before the peer is told (P1). The API server decides between gateways by resourceVersion, and every
later write tests the epoch's token, so it does nothing to a row that is gone or is another socket's (P4, P5).
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import structlog

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.frames import DisconnectReason
from belay_api.messages import ErrorCode
from belay_api.names import Ref
from belay_api.reasons import SubscriptionReason
from belay_gateway.acting import Acting
from belay_gateway.metrics import Metrics
from belay_gateway.rows import (
    Lease,
    RowConflict,
    check_ours,
    claimed,
    disconnection,
    lease_of,
    new_row,
    said_goodbye,
)
from belay_gateway.sockets import Key, Session, Sockets
from belay_gateway.subscription import Rejected
from belay_gateway.tasks import KeyedLocks, Tasks
from belay_kube.client import JSON_PATCH, SUBSCRIPTIONS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, KubeError, NotFound
from belay_kube.finding import find
from belay_kube.logs import about

log = structlog.get_logger(__name__)

_CLAIM_TRIES = 8
_WRITES_AT_ONCE = 16
_FENCE_SECONDS = 5.0
"""Most that a session waits, before it is confirmed, for writes that its old socket had sent."""


@dataclass(frozen=True)
class Lost:
    """A session that has no socket any more, and whose row must say so."""

    key: Key
    token: str
    why: SubscriptionReason
    at: datetime


class Presence:
    """Writes the rows of one gateway."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        identity: str,
        sockets: Sockets,
        acting: Acting,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._identity = identity
        self._sockets = sockets
        self._acting = acting
        self._tasks = tasks
        self._metrics = metrics
        self._locks = KeyedLocks()
        self._writers = asyncio.Semaphore(_WRITES_AT_ONCE)
        self._claiming: set[str] = set()
        self._lost: dict[str, Lost] = {}
        self._marking: set[str] = set()
        self._rows: dict[Key, tuple[str, str]] = {}
        """Own rows as last seen: token and phase."""

    # --- attach ------------------------------------------------------------------------------------------------

    async def attach(self, session: Session) -> None:
        """Take the session's row and enter the session. Raises Rejected, KubeError."""
        async with self._locks.hold((session.agent, session.session_id)):
            self._claiming.add(session.token)
            try:
                await self._claim(session)
                if before := self._sockets.session(session.agent, session.session_id):
                    before.fenced = True
                await self._acting.fence(session, _FENCE_SECONDS)
                old = self._sockets.add(session)
            finally:
                self._claiming.discard(session.token)
        self._metrics.sessions.set(len(self._sockets))
        if old:
            self._replaced(old)

    async def _claim(self, session: Session) -> None:
        stands = (session.agent.namespace, session.row) in self._rows
        for _ in range(_CLAIM_TRIES):
            row = await self._row(session.agent.namespace, session.row) if stands else None
            stands = False
            try:
                row = row or await self._made_or_found(session)
                check_ours(row, session.agent, session.session_id, session.user.name)
                status = claimed(row, session.user.name, self._identity, session.token, self._clock.now())
                claim = await self._kube.patch_status(SUBSCRIPTIONS, row, status)
            except (AlreadyExists, Conflict, NotFound):
                # Another socket of this session was faster; who is right is decided by what stands there now.
                self._metrics.conflicts.labels("agentsubscriptions").inc()
                continue
            except RowConflict as conflict:
                raise Rejected(ErrorCode.FORBIDDEN, str(conflict)) from None
            session.told_unresponsive = bool(claim["status"].get("unresponsive"))
            self._metrics.row_writes.labels("claim", "ok").inc()
            return
        raise Rejected(ErrorCode.UNAVAILABLE, f"session {session.session_id} is contended: try again")

    async def _made_or_found(self, session: Session) -> Json:
        """Its row, made if there is none, which is what most find: no look before. Raises KubeError."""
        namespace = session.agent.namespace
        try:
            return await self._kube.create(SUBSCRIPTIONS, namespace, new_row(session.agent, session.session_id))
        except (AlreadyExists, Forbidden):
            # A quota that is full, or a namespace that ends, refuses to make even what stands there.
            row = await self._row(namespace, session.row)
            if row is None:
                raise
            return row

    async def _row(self, namespace: str, name: str) -> Json | None:
        return await find(self._kube, SUBSCRIPTIONS, namespace, name)

    async def holds(self, session: Session) -> bool:
        """Whether the session may still write: its socket is here, or nobody took its row since. Raises KubeError."""
        if session.fenced:
            return False
        if self._sockets.session(session.agent, session.session_id) is session:
            return True
        row = await self._row(session.agent.namespace, session.row)
        session.fenced = ((row or {}).get("status") or {}).get("token") != session.token
        return not session.fenced

    # --- detach ------------------------------------------------------------------------------------------------

    def detach(self, session: Session, why: SubscriptionReason) -> None:
        """The session's socket is gone: say so in its row, if the row still is this socket's. Never waits."""
        if not self._sockets.remove(session):
            return
        self._metrics.sessions.set(len(self._sockets))
        key = (session.agent.namespace, session.row)
        why = SubscriptionReason.GOODBYE if session.leaving else why
        self._mark_soon(Lost(key, session.token, why, self._clock.now()))

    def _mark_soon(self, lost: Lost) -> None:
        if lost.token in self._marking:
            return
        self._lost[lost.token] = lost
        self._marking.add(lost.token)
        with about(row=Ref(*lost.key)):
            self._tasks.spawn(self._mark(lost), "marking a row")

    async def _mark(self, lost: Lost) -> None:
        """Mark the row, or leave it in `_lost`, where the next renewal of the Lease finds it (P6, C6)."""
        try:
            async with self._writers:
                result = await self._write_mark(lost)
        except KubeError as error:
            result = "failed"
            log.warning("a row could not be marked, trying again", error=error.message[:300])
        else:
            del self._lost[lost.token]
        finally:
            self._marking.discard(lost.token)
        self._metrics.row_writes.labels("disconnect", result).inc()

    async def _write_mark(self, lost: Lost) -> str:
        namespace, name = lost.key
        patch = disconnection(lost.token, lost.why, lost.at)
        try:
            await self._kube.patch(SUBSCRIPTIONS, namespace, name, patch, subresource="status", content_type=JSON_PATCH)
        except NotFound:
            return "gone"
        except Invalid:
            # A failed test, unless the row still is what was tested.
            if lease_of(await self._row(namespace, name), lost.token) is Lease.HELD:
                raise
            return "not ours"
        return "ok"

    def reconcile(self) -> None:
        """Mark every row of this gateway that has no socket; called with each renewal of the Lease (P6)."""
        in_use = self._claiming | {session.token for session in self._sockets}
        for key, (token, phase) in self._rows.items():
            if phase == SubscriptionPhase.LIVE and token not in in_use and token not in self._lost:
                self._mark_soon(Lost(key, token, SubscriptionReason.CONNECTION_LOST, self._clock.now()))
        for lost in tuple(self._lost.values()):
            self._mark_soon(lost)

    # --- Sink of the reader of own rows ------------------------------------------------------------------------

    def changed(self, obj: Json) -> None:
        """A row of this gateway as it is now."""
        status = obj.get("status") or {}
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        self._rows[key] = (status.get("token", ""), status.get("phase", ""))
        session = self._sockets.with_row(*key)
        if session and lease_of(obj, session.token) is not Lease.HELD:
            self.look_at(session)

    def deleted(self, obj: Json) -> None:
        """A row was deleted, or another gateway holds it now."""
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        self._rows.pop(key, None)
        session = self._sockets.with_row(*key)
        if session:
            self.look_at(session)

    def synced(self) -> None:
        """Nothing waits for it here."""

    def lost(self) -> None:
        """What was seen stays in use: every write is tested by the API server."""

    def look_at(self, session: Session) -> None:
        """Something was wrong with the session's row; what was seen may be old, so read it before acting."""
        with session.in_logs():
            self._tasks.spawn(self._verify(session), "reading a row again")

    async def _verify(self, session: Session) -> None:
        try:
            row = await self._row(session.agent.namespace, session.row)
        except KubeError as error:
            log.warning("a row could not be read, its next renewal tells", row=session.row, error=error.message[:300])
            return
        lease = lease_of(row, session.token)
        if lease is Lease.HELD or not self._sockets.remove(session):
            return
        self._metrics.sessions.set(len(self._sockets))
        if lease is Lease.TAKEN:
            self._replaced(session)
        elif said_goodbye(row, session.token):
            sentence = "somebody said goodbye for the session"
            session.peer.end(session.identifier, DisconnectReason.REMOTE, sentence, reconnect=False)
        else:
            sentence = "the session's row is gone or Expired: subscribe again"
            session.peer.end(session.identifier, DisconnectReason.LEASE_LOST, sentence, reconnect=True)

    def _replaced(self, session: Session) -> None:
        session.fenced = True
        sentence = "the session attached elsewhere"
        session.peer.end(session.identifier, DisconnectReason.REPLACED, sentence, reconnect=False)
