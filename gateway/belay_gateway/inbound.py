"""Actions of agents become writes. Each runs in a task of the process, not of the socket, so that it outlives the
socket that asked for it; one that was fenced off writes nothing more. Actions of one session on one delegation keep
their order, others don't wait for each other.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from belay_api.actions import Action, AnyAction, Goodbye, OnAttempt, Resume
from belay_api.messages import Ack, Error, ErrorCode
from belay_api.names import Ref
from belay_api.reasons import SubscriptionReason
from belay_gateway.acting import ALL, Acting, who
from belay_gateway.attempts import FENCED, IN_FLIGHT, TOO_MANY, Attempts, Speaker
from belay_gateway.metrics import Metrics
from belay_gateway.presence import Presence
from belay_gateway.returning import Returning
from belay_gateway.sockets import Session
from belay_gateway.tasks import Tasks
from belay_gateway.verdicts import Refusal, Verdict
from belay_gateway.wire import Malformed, parse_action
from belay_gateway.writes import refusal_of
from belay_kube.errors import KubeError
from belay_kube.logs import about

log = structlog.get_logger(__name__)

_BROKEN = Refusal(ErrorCode.UNAVAILABLE, "the gateway failed at this, which is its own fault: try again")


Other = Callable[[Session, Any], Awaitable[Ack | Refusal]]
"""Carries out one action for a session; what it answers is sent. May raise nothing a peer should hear of."""


class Inbound:
    """Carries out what agents ask for, and answers."""

    def __init__(
        self,
        identity: str,
        presence: Presence,
        acting: Acting,
        attempts: Attempts,
        returning: Returning,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._identity = identity
        self._presence = presence
        self._acting = acting
        self._attempts = attempts
        self._returning = returning
        self._tasks = tasks
        self._metrics = metrics
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
        if session.in_flight.total() >= IN_FLIGHT:
            self._answer(session, action.ref, TOO_MANY)
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
        name = action.name if isinstance(action, OnAttempt) else None
        with about(delegation=Ref(session.agent.namespace, name) if name else None):
            self._tasks.spawn(self._carry_out(session, action, key, work), f"action {action.action}")

    async def _carry_out(self, session: Session, action: AnyAction, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Whatever happens, the peer gets an answer."""
        try:
            async with self._acting.turn(who(session), key):
                await work
        except Exception:
            log.exception("an action was not carried out", action=action.action)
            self._answer(session, action.ref, _BROKEN)
        finally:
            work.close()
            self._acting.leave(session, key)

    # --- one attempt -------------------------------------------------------------------------------------------

    async def _act(self, session: Session, action: OnAttempt) -> None:
        async def may() -> Refusal | None:
            if not await self._presence.holds(session):
                return FENCED
            return await self._attempts.lost_right(session.user, session.agent)

        speaker = Speaker(session.agent, session.session_id, self._identity, session, may)
        self._answer(session, action.ref, (await self._attempts.act(speaker, action)).verdict)

    async def _not_now(self, session: Session) -> Refusal | None:
        try:
            return await self._attempts.lost_right(session.user, session.agent)
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
