"""Delegations in: a Model agent's work goes into a mailbox, and what the session makes of it into its status.

    Dispatched ─▶ session, prompt message, InProgress ─▶ beats ─▶ Completed | Failed | the next attempt

Each step may be done again after a crash: names are deterministic, and a prompt is read only once its delegation is
InProgress. Every end is decided on a live read, and again on the answer when somebody wrote first (DESIGN.md 3).
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import structlog

from belay_api.handover_words import prompt_is_gone
from belay_api.names import Ref
from belay_api.reasons import Reason, session_of_another, session_was_deleted
from belay_api.transitions import TERMINAL, Phase
from belay_kube.client import Json
from belay_kube.clock import Clock
from belay_kube.errors import Conflict, Temporary
from belay_operator.apply import Applier, Outcome
from belay_operator.decisions import dispatch, handover
from belay_operator.decisions.view import Change
from belay_operator.drain.store import Store, owner_reference
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord
from belay_operator.observe.records import Work
from belay_operator.queues import after
from belay_operator.seen import Seen

log = structlog.get_logger(__name__)

_TRIES = 5
_SOON_SECONDS = 1.0
_KEEP_MOST = 10_000
Write = Callable[[Work, Change], Awaitable[Outcome]]
Turn = Mapping[str, Any]
"""The specification of a SessionTurn (wire form)."""


class Handover:
    """Holds the work of Model agents, as a gateway holds that of sockets."""

    def __init__(self, seen: Seen, store: Store, applier: Applier, write: Write, clock: Clock) -> None:
        self._seen = seen
        self._store = store
        self._applier = applier
        self._write = write
        """Writes a change and takes in the answer (`Delegations.write`)."""
        self._clock = clock
        self._told: OrderedDict[tuple[str, int], str] = OrderedDict()
        """The progress that was written last, by uid and attempt."""
        self._over: OrderedDict[tuple[str, Ref], Phase | None] = OrderedDict()
        """Ends that were read live, by session and delegation; None: deleted."""

    # --- in ---

    async def look(self, work: Work) -> None:
        """Take an offer; end what lost its session. Raises KubeError: look again."""
        if work.phase is Phase.DISPATCHED:
            await self.take(work)
        elif work.phase in (Phase.IN_PROGRESS, Phase.STUCK) and work.handed_back is None:
            await self._see_to(work)

    async def take(self, work: Work) -> None:
        """Put the prompt of an offered delegation into its session's mailbox, then say so. Raises KubeError."""
        obj = await self._applier.live_delegation(work.ref)
        if obj is None or obj["metadata"]["resourceVersion"] != work.version:
            self._seen.answered_work(work.ref, obj)
            return
        name = dispatch.session_name(work)
        if not dispatch.is_nameable(name):
            await self._write(work, dispatch.unnameable(work))
            return
        session = await self._session(work, Ref(work.ref.namespace, name))
        if session.agent != work.agent:
            message = session_of_another(name, work.agent.name, session.agent.name)
            await self._write(work, Change(Phase.FAILED, Reason.SESSION_MISMATCH, message, {"sessionId": None}))
            return
        await self._bring(work, session, obj["spec"]["task"])
        await self._write(work, handover.took(name, self._clock.now()))

    async def _session(self, work: Work, ref: Ref) -> SessionRecord:
        """The session of that name, opened if there is none; one that the delegation didn't name goes with it."""
        obj = await self._store.session(ref)
        if obj is None:
            owned = work.addressed is None
            parent = work.ref.name if owned else None
            owner = owner_reference("Delegation", work.ref.name, work.uid) if owned else None
            await self._store.open_session(ref, work.agent.name, parent, owner)
            obj = await self._store.session(ref)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            raise Temporary(f"AgentSession {ref} is being deleted: tried again")
        session = SessionRecord.read(obj)
        self._seen.saw_session(session)
        return session

    async def _bring(self, work: Work, session: SessionRecord, task: Json) -> None:
        """The prompt of this attempt, and of no earlier one that nobody has read."""
        name = handover.prompt_name(session, work)
        if work.attempt > 1:
            for message in self._seen.mailboxes.mail_of(session.ref):
                if message.delegation == work.ref.name and message.pending and message.ref.name != name:
                    await self._store.delete_message(message.ref, message.uid)
        content = handover.content(task["prompt"], task.get("inputs") or {})
        sent = await self._store.send(session, name, content, ("Delegation", work.ref.name), bounce_back=True)
        if sent:
            # The watch tells of it later: until then it would be missed.
            self._seen.saw_message(MessageRecord.read(sent))

    async def _see_to(self, work: Work) -> None:
        """Fail work that no session has: its session was deleted, or its prompt before it was read (DESIGN.md 3)."""
        ref = Ref(work.ref.namespace, work.holder or dispatch.session_name(work))
        session = self._seen.mailboxes.sessions.get(ref)
        if session and handover.may_be_with(session, work, self._seen.mailboxes.messages.get(_prompt(session, work))):
            return
        message = await self._why_nobodys(work, ref)
        if message:
            await self._write(work, Change(Phase.FAILED, Reason.SESSION_DELETED, message))

    async def _why_nobodys(self, work: Work, ref: Ref) -> str | None:
        """Why nobody will ever answer, on live reads; None: somebody may. The session comes last: who read the prompt
        before it was missed holds the claim until `serving` says so."""
        found = await self._store.session(ref)
        if found is None:
            return session_was_deleted(ref.name)
        first = SessionRecord.read(found)
        prompt = await self._store.message(_prompt(first, work))
        found = await self._store.session(ref)
        last = SessionRecord.read(found) if found else None
        if last is None or last.uid != first.uid:
            raise Temporary(f"AgentSession {ref} is being replaced: tried again")
        if handover.may_be_with(last, work, MessageRecord.read(prompt) if prompt else None):
            return None
        return prompt_is_gone(ref.name)

    def is_taken(self, session: SessionRecord, delegation: str) -> bool:
        """Whether the prompt of a delegation may be read: before it is InProgress, a crash could bring it twice."""
        work = self._seen.index.work.get(Ref(session.ref.namespace, delegation))
        return work is not None and work.phase is not Phase.DISPATCHED and handover.holds(session, work)

    # --- while it is worked on ---

    async def tend(
        self, session: SessionRecord, progress: str | None = None, answering: Iterable[str] = ()
    ) -> datetime | None:
        """Beat for what a session works on, those it is just `answering` included, and tell how far the answer is;
        returns when to come again, None when it isn't at work. Raises KubeError."""
        if not handover.is_at_work(session):
            return None
        names = dict.fromkeys([*session.serving, *answering])
        works = [self._seen.index.work.get(Ref(session.ref.namespace, name)) for name in names]
        dues = [await self._beat(session, work, progress) for work in works if work and handover.holds(session, work)]
        return min(dues, default=None)

    async def _beat(self, session: SessionRecord, work: Work, progress: str | None) -> datetime:
        threshold = work.threshold(self._seen.index.times_of(work.agent))
        told = self._told.get((work.uid, work.attempt))
        beat = handover.beat(work, session.ref.name, progress or None, told, self._clock.now(), threshold)
        if beat.change is None:
            return beat.due
        if not (await self._write(work, beat.change)).written:
            return after(self._clock.now(), _SOON_SECONDS)
        if progress:
            _remember(self._told, (work.uid, work.attempt), progress)
        return beat.due

    async def lost(self, session: SessionRecord) -> frozenset[str]:
        """Delegations, by name, that the session serves or has the prompt of, and that ended without it: nobody waits
        for an answer to these. Raises KubeError."""
        mail = self._seen.mailboxes.mail_of(session.ref)
        unread = {message.delegation for message in mail if message.pending and message.delegation}
        names = {*session.serving, *unread}
        return frozenset([name for name in names if await self._is_lost(session, name, read=name not in unread)])

    async def _is_lost(self, session: SessionRecord, name: str, *, read: bool) -> bool:
        """Whether it has ended; of what was read, otherwise than by the answer to it."""
        ref = Ref(session.ref.namespace, name)
        key = session.uid, ref
        if ref in self._seen.index.work:
            self._over.pop(key, None)
            return False
        if key not in self._over:
            obj = await self._applier.live_delegation(ref)
            work = Work.read(obj) if obj else None
            if work and work.phase not in TERMINAL:
                self._seen.saw_work(work)
                return False
            _remember(self._over, key, work.phase if work else None)
        return not (read and self._over[key] is Phase.COMPLETED)

    # --- out ---

    async def settled(self, session: SessionRecord, turn: Turn) -> None:
        """End the delegations that a turn of `session` (as it was before) ends, and say of those that others ended that
        they are worked on no more. Raises KubeError, after each was tried: do it again."""
        error: Temporary | None = None
        for name in handover.concerned(session, turn):
            try:
                await self._settle(session, Ref(session.ref.namespace, name), turn)
            except Temporary as passing:
                error = passing
        if error:
            raise error

    async def _settle(self, session: SessionRecord, ref: Ref, turn: Turn) -> None:
        obj = await self._applier.live_delegation(ref)
        for _ in range(_TRIES):
            if obj is None:
                return
            work = Work.read(obj)
            if work.phase in TERMINAL:
                if await self._proven(session, obj):
                    return
                obj = await self._applier.live_delegation(ref)
                continue
            if await self._is_unread(session, work, turn):
                return
            change = handover.end(work, session, turn, self._clock.now())
            outcome = await self._write(work, change) if change else None
            if outcome is None or outcome.written:
                return
            obj = outcome.obj
        raise Conflict(f"delegation {ref} changes too often just now to be settled: tried again", 409)

    async def _is_unread(self, session: SessionRecord, work: Work, turn: Turn) -> bool:
        """Whether its prompt waits in the mailbox still: what was settled is an earlier attempt, or another of that
        name."""
        prompt = handover.prompt_name(session, work)
        if any(message["name"] == prompt for message in turn.get("consumed") or ()):
            return False
        return await self._store.message(Ref(session.ref.namespace, prompt)) is not None

    async def _proven(self, session: SessionRecord, obj: Json) -> bool:
        """Say that ended work is worked on no more, if that is owed; False when somebody wrote first."""
        meta = obj["metadata"]
        conditions = handover.stopped(obj.get("status") or {}, session.ref.name, self._clock.now())
        if conditions is None:
            return True
        ref = Ref(meta["namespace"], meta["name"])
        outcome = await self._applier.conditions(ref, meta["resourceVersion"], conditions)
        return outcome.written or outcome.obj is None


def _prompt(session: SessionRecord, work: Work) -> Ref:
    """The message that brings its prompt."""
    return Ref(session.ref.namespace, handover.prompt_name(session, work))


def _remember(memory: OrderedDict[Any, Any], key: object, value: object) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _KEEP_MOST:
        memory.popitem(last=False)
