"""Actions of agents become writes. Each runs in a task of the process, not of the socket, so that it outlives the
socket that asked for it; one that was fenced off writes nothing more. Actions of one session on one delegation keep
their order, others don't wait for each other.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog

from belay_api.frames import (
    Accept,
    Ack,
    Action,
    AnyAction,
    Cancelled,
    Complete,
    Error,
    ErrorCode,
    Fail,
    Goodbye,
    Heartbeat,
    OnAttempt,
    ProgressMade,
    Release,
    Resume,
)
from belay_api.names import Ref
from belay_api.reasons import Reason, SubscriptionReason
from belay_gateway.access import Access
from belay_gateway.acting import ALL, Acting, who
from belay_gateway.agents import Agents
from belay_gateway.events import Events
from belay_gateway.holdings import Holdings
from belay_gateway.metrics import Metrics
from belay_gateway.presence import Presence
from belay_gateway.returning import Returning
from belay_gateway.sockets import Session
from belay_gateway.tasks import KeyedLocks, Tasks
from belay_gateway.verdicts import Asker, Case, Change, NoChange, Refusal, Verdict, decide
from belay_gateway.wire import Malformed, parse_action
from belay_gateway.writes import Decide, Writes, refusal_of
from belay_kube.client import Json
from belay_kube.clock import Clock
from belay_kube.errors import KubeError

log = structlog.get_logger(__name__)

_IN_FLIGHT = 64
"""Most actions of one session that may be under way."""
_PATIENT = (Complete, Fail, Release, Cancelled)
"""What must not get lost in a short outage."""
_RECORDED = {ErrorCode.SUPERSEDED: Reason.SUPERSEDED, ErrorCode.NOT_HOLDER: Reason.NOT_HOLDER}
_FENCED = Refusal(ErrorCode.SUPERSEDED, "another socket has this session now: stop")
_BROKEN = Refusal(ErrorCode.UNAVAILABLE, "the gateway failed at this, which is its own fault: try again")


Other = Callable[[Session, Any], Awaitable[Ack | Refusal]]
"""Carries out one action for a session; what it answers is sent. May raise nothing a peer should hear of."""


class Inbound:
    """Carries out what agents ask for, and answers."""

    def __init__(
        self,
        identity: str,
        clock: Clock,
        agents: Agents,
        access: Access,
        presence: Presence,
        acting: Acting,
        holdings: Holdings,
        returning: Returning,
        writes: Writes,
        events: Events,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._agents = agents
        self._access = access
        self._presence = presence
        self._acting = acting
        self._holdings = holdings
        self._returning = returning
        self._writes = writes
        self._events = events
        self._tasks = tasks
        self._metrics = metrics
        self._locks = KeyedLocks()
        self.others: dict[type[Action], Other] = {}
        """Who carries out the actions that are not about one attempt or the whole session, by their class."""

    def receive(self, session: Session, data: str | None) -> None:
        """Read a message and start what it asks for. Never waits."""
        try:
            action = parse_action(data)
        except Malformed as error:
            self._answer(session, error.ref, Refusal(error.code, error.message))
            return
        self._metrics.frames_in.labels(action.action).inc()
        if session.in_flight.total() >= _IN_FLIGHT:
            self._answer(session, action.ref, Refusal(ErrorCode.UNAVAILABLE, "too many actions at once: wait for acks"))
            return
        self._start(session, action)

    def _start(self, session: Session, action: AnyAction) -> None:
        match action:
            case Resume():
                work, key = self._resume(session, action), ALL
            case Goodbye():
                session.leaving = True
                work, key = self._goodbye(session, action), ALL
            case OnAttempt():
                work, key = self._act(session, action), action.name
            case _:
                work, key = self._other(session, action), f"{action.action} {action.ref}"
        self._acting.enter(session, key)
        self._tasks.spawn(self._carry_out(session, action, key, work), f"action {action.action}")

    async def _carry_out(self, session: Session, action: AnyAction, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Whatever happens, the peer gets an answer."""
        try:
            await self._in_turn(session, key, work)
        except Exception:
            log.exception("an action was not carried out", action=action.action)
            self._answer(session, action.ref, _BROKEN)
        finally:
            work.close()
            self._acting.leave(session, key)

    async def _in_turn(self, session: Session, key: str, work: Coroutine[Any, Any, None]) -> None:
        """One after another for one delegation; what concerns the whole session waits for all that came before,
        on whichever of its sockets."""
        if key == ALL:
            for name in self._acting.delegations(session):
                async with self._locks.hold((*who(session), name)):
                    continue
        async with self._locks.hold((*who(session), key)):
            await work

    # --- one attempt -------------------------------------------------------------------------------------------

    async def _act(self, session: Session, action: OnAttempt) -> None:
        asker = Asker(session.agent.name, session.session_id, self._identity)
        seen: list[Json] = []

        def verdict_on(delegation: Json) -> Verdict:
            seen[:] = [delegation]
            if session.fenced:
                return _FENCED
            threshold = self.threshold(session.agent, delegation)
            pending = pending_progress(session, action)
            return decide(Case(delegation, asker, action, self._clock.now(), threshold, pending))

        async def may() -> Refusal | None:
            return await self._lost_right(session) if await self._presence.holds(session) else _FENCED

        verdict = self._without_asking(session, action, verdict_on)
        if verdict is None:
            ref = Ref(session.agent.namespace, action.name)
            patient = isinstance(action, _PATIENT)
            what = action.__class__.__name__
            with self._acting.writing(session):
                verdict = await self._writes.settle(ref, what, verdict_on, patient=patient, may=may)
        self.remember(session, action, verdict)
        if isinstance(action, Cancelled) and _has_stopped(verdict):
            self._holdings.answered(session, Ref(session.agent.namespace, action.name), seen[0] if seen else None)
        self.record(session.agent, session.session_id, action, verdict, seen)
        self._answer(session, action.ref, verdict)

    def threshold(self, agent: Ref, delegation: Json) -> int:
        """Seconds without a beat after which it is Stuck."""
        own = (delegation.get("spec") or {}).get("stuckThresholdSeconds")
        return int(own or self._agents.times(agent).stuck_threshold)

    def _without_asking(self, session: Session, action: OnAttempt, verdict_on: Decide) -> Verdict | None:
        """A beat that isn't worth a write isn't worth a read either; most beats are such."""
        known = self._holdings.get(session.agent.namespace, action.name)
        if known is None or not isinstance(action, Heartbeat | ProgressMade):
            return None
        verdict = verdict_on(known)
        return verdict if isinstance(verdict, NoChange) else None

    def remember(self, session: Session, action: OnAttempt, verdict: Verdict) -> None:
        """What a verdict on an action of this session means for the ones that follow."""
        match verdict:
            case NoChange(unwritten=progress) if progress is not None:
                session.unwritten[action.name] = (action.attempt, progress)
            case Change():
                session.unwritten.pop(action.name, None)
                session.offers.pop(action.name, None)

    def record(self, agent: Ref, session_id: str, action: OnAttempt, verdict: Verdict, seen: Sequence[Json]) -> None:
        """Say on the delegation that an action of a session was refused, where people should know (D10)."""
        if not isinstance(verdict, Refusal):
            return
        reason = _RECORDED.get(verdict.code)
        if reason and seen and not isinstance(action, Accept):
            who = f"session {session_id} of agent {agent.name}"
            note = f"{action.__class__.__name__} of attempt {action.attempt} by {who} was refused: {verdict.message}"
            self._events.warn(seen[0], reason, "Reply", note)

    async def _lost_right(self, session: Session) -> Refusal | None:
        """Asked before each write: the right to attach is looked at again, not only at each review (DESIGN section 7).
        Raises KubeError."""
        seen = await self._agents.find(session.agent)
        if await self._access.may_attach(session.user, session.agent, seen.owners if seen else ()):
            return None
        sentence = f"{session.user.name} may not act as agent {session.agent} any more: stop"
        return Refusal(ErrorCode.FORBIDDEN, sentence)

    async def _not_now(self, session: Session) -> Refusal | None:
        try:
            return await self._lost_right(session)
        except KubeError as error:
            return refusal_of(error)

    async def _other(self, session: Session, action: Action) -> None:
        answer = await self._not_now(session) or await self.others[type(action)](session, action)
        if isinstance(answer, Refusal):
            self._answer(session, action.ref, answer)
        else:
            session.say(answer)

    # --- the whole session -------------------------------------------------------------------------------------

    async def _resume(self, session: Session, action: Resume) -> None:
        answer = await self._not_now(session) or await self._returning.resume(session, action)
        if isinstance(answer, Refusal):
            self._answer(session, action.ref, answer)
        else:
            session.say(Ack(ref=action.ref, held=answer))

    async def _goodbye(self, session: Session, action: Goodbye) -> None:
        session.say(Ack(ref=action.ref))
        session.peer.leave(session.identifier, SubscriptionReason.GOODBYE)

    def _answer(self, session: Session, ref: str | int | None, verdict: Verdict) -> None:
        if isinstance(verdict, Refusal):
            self._metrics.refusals.action(verdict.code)
            session.say(Error(ref=ref, code=verdict.code, message=verdict.message))
        else:
            session.say(Ack(ref=ref))


def _has_stopped(verdict: Verdict) -> bool:
    return not isinstance(verdict, Refusal) or verdict.code == ErrorCode.NOT_FOUND


def pending_progress(session: Session, action: OnAttempt) -> Any:
    """Progress on this attempt that was acknowledged, but not yet written."""
    attempt, progress = session.unwritten.get(action.name, (0, None))
    return progress if attempt == action.attempt else None
