"""Finds the ancestors of a delegation: unfinished ones in the index, others by a live read (DESIGN.md 3 and 5)."""

import asyncio
from collections import OrderedDict

import structlog

from belay_api.names import Ref
from belay_api.transitions import LIVE
from belay_kube.clock import Clock
from belay_kube.logs import nothing
from belay_operator.apply import Applier
from belay_operator.decisions import lineage
from belay_operator.decisions.lineage import Ancestor, Line
from belay_operator.decisions.view import Change
from belay_operator.keys import Key, KeyKind
from belay_operator.observe.kinship import above, session_of
from belay_operator.observe.mailbox_records import SessionRecord
from belay_operator.observe.records import Work
from belay_operator.queues import after
from belay_operator.seen import Seen

log = structlog.get_logger(__name__)

_KEEP_SECONDS = 60.0
"""How long a read of a finished ancestor serves: a phase that is terminal stays, only a deletion can be missed."""
_KEEP_MOST = 10_000
_MOST_STEPS = 2 * lineage.MOST_DEPTH
"""Up a line: between two delegations there may be a session."""
_MISSING_SECONDS = 5.0
"""How long a parent that wasn't there isn't asked for again, unless word of it comes."""


class UnreadableError(Exception):
    """An ancestor makes no sense, so nothing can be decided on it; looked at again as long as it is so."""


class Families:
    """Lines of ancestors, and what is decided on them."""

    def __init__(self, seen: Seen, applier: Applier, clock: Clock) -> None:
        self._seen = seen
        self._applier = applier
        self._clock = clock
        self._asked: dict[Ref, asyncio.Task[Ancestor | None]] = {}
        self._ended: OrderedDict[Ref, tuple[float, Ancestor]] = OrderedDict()

    async def cut_off(self, work: Work) -> Change | None:
        """Whether an ancestor's end reaches `work`; one that can't be read ends nothing. Raises KubeError."""
        parent = above(work)
        if parent is None or parent in self._seen.index.work:
            return None
        try:
            return lineage.cut_off(work, await self._line(work, whole=False))
        except UnreadableError as error:
            log.warning("not known whether work is cut off", delegation=str(work.ref), error=str(error))
            return None

    async def admit(self, work: Work) -> Work | Change:
        """Newborn `work` as it may be taken up, or why it is not. Raises KubeError, UnreadableError."""
        index = self._seen.index
        agent = index.agents.get(work.agent)
        line = await self._line(work, whole=True)
        reentry = agent is None or agent.allow_reentry
        return lineage.admit(work, line, self._clock.now(), reentry=reentry, times=index.times_of(work.agent))

    async def _line(self, work: Work, *, whole: bool) -> Line:
        """The ancestors up to the first that is unfinished, or all, as many as may be."""
        found: list[Ancestor] = []
        at = parent = above(work)
        while at is not None and len(found) < _MOST_STEPS:
            if at != parent and work.ref in self._seen.index.work:
                self._seen.index.kinship.add(work.ref, at)
            # What was never taken up waits for a parent that is missing; nothing ends by that, so a late word will do.
            ancestor = None if whole and at == parent and self._is_missing(at, work) else await self._find(at)
            if ancestor is None:
                # A session may outlive what it was opened for: it ends the line then.
                ends = bool(found) and found[-1].is_session
                return Line(tuple(found), missing=None if ends else at)
            found.append(ancestor)
            if at == work.ref or (ancestor.phase in LIVE and not whole):
                break
            at = ancestor.parent
        return Line(tuple(found))

    async def _find(self, ref: Ref) -> Ancestor | None:
        index = self._seen.index
        if work := index.work.get(ref):
            return Ancestor.of(work, index.times_of(work.agent))
        session = session_of(ref)
        if session and (record := self._seen.mailboxes.sessions.get(session)):
            return Ancestor.session(record)
        kept = self._ended.get(ref)
        if kept and self._clock.monotonic() - kept[0] < _KEEP_SECONDS:
            return kept[1]
        return await asyncio.shield(self._asked.get(ref) or self._ask(ref))

    def _ask(self, ref: Ref) -> "asyncio.Task[Ancestor | None]":
        """One read for all who ask at the same time: there may be a thousand children."""
        task = self._asked[ref] = asyncio.create_task(self._read(ref), context=nothing())
        task.add_done_callback(lambda _: self._asked.pop(ref, None))
        return task

    async def _read(self, ref: Ref) -> Ancestor | None:
        kinship = self._seen.index.kinship
        kinship.asks(ref)
        session = session_of(ref)
        try:
            live = self._applier.live_session(session) if session else self._applier.live_delegation(ref)
            obj = await live
            if obj is None:
                self._ended.pop(ref, None)
                kinship.missed(ref, self._clock.monotonic())
                return None
        finally:
            kinship.answered(ref)
        try:
            if session:
                return Ancestor.session(SessionRecord.read(obj))
            work = Work.read(obj)
        except (KeyError, ValueError, TypeError) as error:
            raise UnreadableError(f"{ref}, above other delegations, can't be read: {error!r}") from error
        return self._keep(Ancestor.of(work, self._seen.index.times_of(work.agent)))

    def _is_missing(self, ref: Ref, child: Work) -> bool:
        """Whether it wasn't there a moment ago; if that is what `child` is told, it is asked for once more later."""
        missed = self._seen.index.kinship.missed_at(ref)
        left = 0.0 if missed is None else missed + _MISSING_SECONDS - self._clock.monotonic()
        if left > 0:
            self._seen.timers.sooner(Key(KeyKind.AGENT, child.agent), after(self._clock.now(), left))
        return left > 0

    def _keep(self, ancestor: Ancestor) -> Ancestor:
        if ancestor.phase not in LIVE:
            self._ended[ancestor.ref] = self._clock.monotonic(), ancestor
            self._ended.move_to_end(ancestor.ref)
            if len(self._ended) > _KEEP_MOST:
                self._ended.popitem(last=False)
        return ancestor
