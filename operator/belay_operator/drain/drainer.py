"""The loop over sessions: whatever happens to one brings it up here, and what there is to do for it is begun.

Judging is quick and one at a time for each session; a half-step may take minutes and runs beside, at most one for each
session, its call to the model in a bounded pool. When it is over the session is looked at again, so that no outside
help is needed to go on (L13).
"""

import asyncio
import random
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

import structlog

from belay_api.agentsession import SessionPhase
from belay_api.conditions import ConditionType
from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
from belay_kube.events import About
from belay_kube.logs import about
from belay_operator.decisions import claiming, rounds
from belay_operator.decisions.calls import strays
from belay_operator.decisions.claiming import Claimable
from belay_operator.decisions.interrupts import interrupt_wanted, is_asked_for
from belay_operator.drain.guarded import Guarded
from belay_operator.drain.halfstep import HalfStep, Parts
from belay_operator.drain.llm.base import Unauthenticated, Unready
from belay_operator.drain.pool import Pool
from belay_operator.drain.roundfailed import RoundFailed
from belay_operator.drain.setbacks import Setbacks
from belay_operator.drain.tending import Tending
from belay_operator.events import Recorder
from belay_operator.keys import Key, KeyKind
from belay_operator.metrics import Metrics
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord
from belay_operator.observe.records import AgentRecord
from belay_operator.queues import after
from belay_operator.seen import Seen

log = structlog.get_logger(__name__)

_NONE: frozenset[str] = frozenset()
_SUM_SECONDS = 1.0
"""Between two sums of what the sessions of an agent spent."""


class Delegations(Protocol):
    """The delegations that a session works on."""

    async def lost(self, session: SessionRecord) -> frozenset[str]:
        """Names of those whose end was not ours. Raises KubeError."""

    async def tend(
        self, session: SessionRecord, progress: str | None = None, answering: Iterable[str] = ()
    ) -> datetime | None:
        """Keep those alive that the session works on; when to look again. Raises KubeError."""

    def is_taken(self, session: SessionRecord, delegation: str) -> bool:
        """Whether the prompt of a delegation may be read."""


class ToolCalls(Protocol):
    """The tool calls that are open."""

    async def tend(self, session: SessionRecord, agent: AgentRecord | None) -> datetime | None:
        """Answer those that can be answered; when to look again. Raises KubeError."""

    async def stray(self, message: MessageRecord) -> bool:
        """Park a tool response that answers no open call (L15). Raises KubeError."""

    def gone(self, session: Ref) -> None:
        """A session was deleted: end what runs for it."""


class Drainer:
    """Drains mailboxes, in the name of one process."""

    def __init__(
        self,
        seen: Seen,
        parts: Parts,
        delegations: Delegations,
        calls: ToolCalls,
        tending: Tending,
        setbacks: Setbacks,
        pool: Pool,
        recorder: Recorder,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._seen = seen
        self._parts = parts
        self._delegations = delegations
        self._calls = calls
        self._tending = tending
        self._setbacks = setbacks
        self._pool = pool
        self._recorder = recorder
        self._clock = clock
        self._metrics = metrics
        self._running: dict[Ref, tuple[HalfStep, asyncio.Task[None], str]] = {}
        """Half-steps, their tasks, and the uids of their sessions."""

    @property
    def at_work(self) -> frozenset[Ref]:
        """Sessions that a half-step is under way for."""
        return frozenset(self._running)

    async def judge(self, ref: Ref) -> None:
        """Look at one session and begin what there is to do; a part that fails stops no other. Raises the first error
        when all were tried: look again."""
        session, parts = self._seen.mailboxes.sessions.get(ref), Guarded()
        self._let_go(ref, session)
        if session is None:
            self._setbacks.forget(ref)
            self._calls.gone(ref)
            dues = [await parts.run(self._tending.expire(ref), None)]
        elif ref in self._running:
            dues = [await self._look_after(session, parts)]
        else:
            dues = await self._look_at(session, parts)
        self._remind(ref, *dues)
        parts.done()

    async def _look_at(self, session: SessionRecord, parts: Guarded) -> list[datetime | None]:
        """Beats first: they are late soonest."""
        ref = session.ref
        dues = [await parts.run(self._delegations.tend(session), None)]
        lost = await parts.run(self._delegations.lost(session), _NONE)
        dues += [await self._tend(session, parts), await parts.run(self._tending.expire(ref), None)]
        # What was tended may have been written: judged is what is there now.
        now = self._seen.mailboxes.sessions.get(ref)
        if now is not None and ref not in self._running:
            dues.append(await parts.run(self._decide(now, lost), None))
        return dues

    def _let_go(self, ref: Ref, session: SessionRecord | None) -> None:
        """What is asked for a session that was deleted, or is about to be, is asked for nobody."""
        if ref in self._running:
            half, _, uid = self._running[ref]
            if session is None or session.uid != uid or session.leaving:
                half.let_go()

    async def _tend(self, session: SessionRecord, parts: Guarded) -> datetime | None:
        if session.phase is SessionPhase.AWAITING:
            return None
        for message in strays(session, self._seen.mailboxes.mail_of(session.ref)):
            await parts.run(self._calls.stray(message), False)
        agent = self._seen.index.agents.get(session.agent)
        return await parts.run(self._calls.tend(session, agent), None)

    async def _decide(self, session: SessionRecord, lost: frozenset[str]) -> datetime | None:
        """Begin a half-step, or say why not; when to look again."""
        left = self._setbacks.held(session.ref)
        if left:
            return after(self._clock.now(), left)
        rests, dead = session.phase is not SessionPhase.AWAITING, self._abandoned(session, lost)
        if rests and not session.leaving and interrupt_wanted(session, lost.__contains__):
            if session.open_calls or dead:
                self._start(session, lost, interrupt=True)
            else:
                await self._tending.note_interrupt(session)
            return None
        verdict = await self._verdict(session, lost)
        if isinstance(verdict, Claimable):
            self._start(session, lost, may_ask=verdict.hindrance is None)
            return None
        if dead and rests and not session.leaving and not session.open_calls:
            # Nobody needs to be asked for that.
            self._start(session, lost, may_ask=False)
            return None
        self._setbacks.agreed(session.ref)
        if rests and not self._setbacks.is_refused(session.ref):
            await self._tending.tell(session, verdict)
        return None if verdict.until is None else after(self._clock.now(), verdict.until)

    async def _verdict(self, session: SessionRecord, lost: frozenset[str]) -> claiming.Verdict:
        mail = self._seen.mailboxes.mail_of(session.ref)
        agent = self._seen.index.agents.get(session.agent)

        def pickable(message: MessageRecord) -> bool:
            name = message.delegation
            return name is None or name in lost or self._delegations.is_taken(session, name)

        blocked = await self._setbacks.hindrance(session)
        return claiming.verdict(session, mail, agent, self._claim_age(session), blocked, pickable)

    def _claim_age(self, session: SessionRecord) -> float | None:
        """A claim of our own under which nothing runs is nobody's: a write failed, or it was interrupted."""
        if session.claim and session.claim.holder == self._parts.claims.identity:
            return float("inf")
        return self._seen.mailboxes.claim_age(session.ref)

    def _abandoned(self, session: SessionRecord, lost: frozenset[str]) -> bool:
        return any(m.pending and m.delegation in lost for m in self._seen.mailboxes.mail_of(session.ref))

    # --- half-steps ---

    def _start(
        self, session: SessionRecord, lost: frozenset[str], *, may_ask: bool = True, interrupt: bool = False
    ) -> None:
        def pickable(delegation: str) -> bool:
            return self._delegations.is_taken(session, delegation)

        half = HalfStep(self._parts, lost, pickable, may_ask=may_ask)
        if interrupt:
            half.interrupt.ask()
        with about(agent=session.agent, session=session.ref):
            drained = self._drain(session, half)
            task = asyncio.get_running_loop().create_task(drained, name=f"half-step of {session.ref}")
        self._running[session.ref] = half, task, session.uid

    async def _drain(self, session: SessionRecord, half: HalfStep) -> None:
        ref, slot = session.ref, self._pool.slot()
        try:
            if half.asks and not await half.has_place(slot):
                return
            if self._seen.mailboxes.sessions.get(ref) is not session:
                return
            if await half.run(session, slot):
                self._setbacks.went_well(ref)
                self._spent(session.agent)
            else:
                self._setbacks.was_idle(ref)
        except RoundFailed as failed:
            self._round_failed(session, failed)
        except Exception as error:  # noqa: BLE001 - S7: one session must not end the others
            self._failed(ref, error)
        finally:
            slot.leave()
            del self._running[ref]
            self._seen.look_at_sessions([ref])

    def _spent(self, agent: Ref) -> None:
        """Its status tells what all of its sessions spent: they are summed up at most once in a while."""
        self._seen.timers.sooner(Key(KeyKind.AGENT, agent), after(self._clock.now(), _SUM_SECONDS))

    async def _look_after(self, session: SessionRecord, parts: Guarded) -> datetime | None:
        """L17: the round under way is cut short when somebody asks for it, or nobody waits for the answer; else those
        who wait are kept alive, and are told how far it is."""
        half, *_ = self._running[session.ref]
        lost = await parts.run(self._delegations.lost(session), _NONE)
        if is_asked_for(session) or (half.concern and half.concern <= lost):
            half.learn(lost)
            half.interrupt.ask()
            return None
        return await parts.run(self._delegations.tend(session, half.progress, half.answering), None)

    async def stop(self) -> None:
        """End all half-steps; what they hold is given back."""
        tasks = [task for _, task, _ in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what went wrong ---

    def _round_failed(self, session: SessionRecord, failed: RoundFailed) -> None:
        """L10, L11: raised, so logged and counted; tried again with a backoff, or when the configuration changes."""
        ref, error = session.ref, failed.error
        self._setbacks.went_well(ref)
        self._metrics.errors.labels(str(KeyKind.SESSION)).inc()
        log.warning("no answer", session=str(ref), reason=error.reason, rounds=failed.rounds, error=error.message)
        if isinstance(error, Unauthenticated):
            about = About("AgentSession", ref, session.uid)
            self._recorder.say(about, ConditionType.AUTHENTICATION_REQUIRED, error.message, warning=True)
        if isinstance(error, Unready):
            self._setbacks.refused(session, failed.rested_on)
        else:
            pause = rounds.pause_after(failed.rounds, random.random())  # noqa: S311
            self._setbacks.round_failed(ref, pause)

    def _failed(self, ref: Ref, error: Exception) -> None:
        self._setbacks.failed(ref, error)
        self._metrics.errors.labels(str(KeyKind.SESSION)).inc()
        trace = None if isinstance(error, KubeError) else error
        log.warning("half-step failed, will try again", session=str(ref), error=str(error), exc_info=trace)

    # --- helpers ---

    def _remind(self, ref: Ref, *dues: datetime | None) -> None:
        key, due = Key(KeyKind.SESSION, ref), min((due for due in dues if due is not None), default=None)
        if due is None:
            self._seen.timers.drop(key)
        else:
            self._seen.timers.set(key, due)
