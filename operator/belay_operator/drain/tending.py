"""What a session is owed beside answers: a phase, the reason why mail waits, the end of mail that nobody reads."""

from datetime import datetime

import structlog

from belay_api.agentsession import SessionPhase
from belay_api.conditions import ConditionType, set_condition
from belay_api.names import Ref
from belay_api.reasons import SessionReason
from belay_api.session_words import mail_flows
from belay_kube.client import Json
from belay_kube.clock import Clock
from belay_kube.errors import Conflict
from belay_operator.decisions.claiming import NotYet
from belay_operator.drain.store import Store
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord
from belay_operator.observe.mailboxes import Mailboxes
from belay_operator.queues import after

log = structlog.get_logger(__name__)

DEFAULT_KEEP_SECONDS = 86_400
"""How long returned mail is kept, and mail for a session that never came."""


class Tending:
    """Writes only to sessions that nobody drains, and only what changed."""

    def __init__(self, store: Store, mailboxes: Mailboxes, clock: Clock, keep: int = DEFAULT_KEEP_SECONDS) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._keep = keep

    async def tell(self, session: SessionRecord, why: NotYet | None) -> None:
        """Say that mail waits, and why (`why.reason`); or no longer. A new session is told that it is Idle. Raises
        KubeError."""
        status: Json = {} if session.has_status else {"phase": str(SessionPhase.IDLE)}
        told = next(
            (c for c in session.conditions_kept if c.type == ConditionType.BLOCKED and c.status == "True"), None
        )
        if why and why.reason and (told is None or told.reason != why.reason):
            await self._write(session, status, why.reason, why.message, holds=True)
        elif not (why and why.reason) and told:
            await self._write(session, status, SessionReason.FLOWING, mail_flows(), holds=False)
        elif status:
            await self._write(session, status)

    async def note_interrupt(self, session: SessionRecord) -> None:
        """Nothing was under way that could be interrupted: the request is done (L17). Raises KubeError."""
        await self._write(session, {"observedInterruptRequest": session.interrupt})

    async def expire(self, ref: Ref) -> datetime | None:
        """Delete mail that was returned a time ago, or is left over; when to look again. Raises KubeError."""
        now, due = self._clock.now(), []
        for message in self._mailboxes.left_over(ref):
            await self._remove(message)
        for message in self._mailboxes.mail_of(ref):
            ends = self._end_of(message)
            if ends is not None and ends <= now:
                await self._remove(message)
            elif ends is not None:
                due.append(ends)
        return min(due, default=None)

    def _end_of(self, message: MessageRecord) -> datetime | None:
        """When a message is deleted unread; None: not while its session is there."""
        if not message.pending:
            return after(message.completed or message.created, self._keep)
        return None if message.session in self._mailboxes.sessions else after(message.created, self._keep)

    async def _remove(self, message: MessageRecord) -> None:
        log.info("mail deleted unread", message=str(message.ref), session=str(message.session), phase=message.phase)
        await self._store.delete_message(message.ref, message.uid)
        self._mailboxes.drop_message(message.ref)

    async def _write(
        self,
        session: SessionRecord,
        status: Json,
        reason: SessionReason | None = None,
        message: str = "",
        *,
        holds: bool = False,
    ) -> None:
        """Write with the version that was seen; a conflict brings it up again, as it was seen then."""
        if reason is not None:
            live = await self._store.session(session.ref)
            if live is None or live["metadata"]["resourceVersion"] != session.version:
                self._take_in(live, session)
                return
            conditions = (live.get("status") or {}).get("conditions") or []
            now = self._clock.now()
            status["conditions"] = set_condition(conditions, ConditionType.BLOCKED, holds, reason, message, now)
        try:
            written = await self._store.write_session(session.ref, session.version, status)
        except Conflict:
            written = await self._store.session(session.ref)
        self._take_in(written, session)

    def _take_in(self, written: Json | None, session: SessionRecord) -> None:
        if written is None:
            self._mailboxes.drop_session(session.ref)
        else:
            self._mailboxes.put_session(SessionRecord.read(written))
        # The watch has nothing new to say of what was taken in here.
        self._mailboxes.look(session.ref)
