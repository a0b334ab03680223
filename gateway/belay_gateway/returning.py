"""A session that attaches (again): what it still holds moves to this gateway, what was ended meanwhile is told, and a
`resume` is answered, which is authoritative for what the session really has in hand (C9).
"""

import asyncio
from collections.abc import Sequence

import structlog

from belay_api.actions import HeldAttempt, Resume
from belay_api.messages import ErrorCode, Resumed, ResumeVerdict
from belay_api.reasons import Reason, agent_forgot
from belay_api.transitions import Phase
from belay_gateway.events import Events
from belay_gateway.held import adopted, forgotten, is_held, is_unacknowledged, resume_verdict
from belay_gateway.holdings import Holdings
from belay_gateway.objects import attempt_of, ref_of
from belay_gateway.patience import patiently
from belay_gateway.proofs import acknowledged
from belay_gateway.sockets import Session
from belay_gateway.verdicts import Asker, Change, NoChange, Refusal, Verdict
from belay_gateway.writes import Decide, Writes, refusal_of
from belay_kube.client import DELEGATIONS, Json, Kube, pages
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
from belay_kube.finding import find

log = structlog.get_logger(__name__)

_LISTS_AT_ONCE = 4
_READS_AT_ONCE = 8


class Returning:
    """Brings a session and the server's idea of it together."""

    def __init__(
        self, kube: Kube, clock: Clock, identity: str, holdings: Holdings, writes: Writes, events: Events
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._identity = identity
        self._holdings = holdings
        self._writes = writes
        self._events = events
        self._lists = asyncio.Semaphore(_LISTS_AT_ONCE)
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    async def find(self, session: Session) -> Sequence[Json]:
        """What it had in hand when it came, and what it owes of that: noted, so that it gets nothing new before."""
        try:
            delegations = await patiently(self._clock, lambda: self._of(session), lambda: session.is_open)
        except KubeError as error:
            log.warning("work of a session could not be listed", session=session.session_id, error=error.message[:300])
            return ()
        for delegation in delegations:
            self._holdings.note(session, delegation)
        return delegations

    async def welcome(self, session: Session, delegations: Sequence[Json]) -> None:
        """Adopt what it holds, and tell again what it hasn't acknowledged."""
        for delegation in delegations:
            await self._meet(session, delegation)

    async def _meet(self, session: Session, delegation: Json) -> Json | None:
        """Adopt it if it is held; returns what is there then. Of what happened meanwhile nothing else tells here."""
        latest = await self._adopt(session, delegation)
        self._holdings.tell_left(delegation, latest)
        if latest is None:
            self._holdings.answered(session, ref_of(delegation), None)
            return None
        if is_unacknowledged(latest):
            self._holdings.tell(latest)
        self._holdings.note(session, latest)
        return latest

    async def resume(self, session: Session, action: Resume) -> list[Resumed] | Refusal:
        """A verdict for each entry; what the list lacks is not in hand any more."""
        try:
            known = {d["metadata"]["name"]: d for d in await self._of(session)}
            entries = await asyncio.gather(*(self._verdict(session, entry, known) for entry in action.held))
        except KubeError as error:
            return refusal_of(error)
        for name in known.keys() - {entry.name for entry in action.held}:
            await self._not_in_hand(session, known[name])
        return entries

    async def _of(self, session: Session) -> Sequence[Json]:
        mine = f"spec.agentRef.name={session.agent.name},status.sessionId={session.session_id}"
        selector = f"{mine},status.phase!={Phase.COMPLETED}"
        async with self._lists:
            found = pages(self._kube, DELEGATIONS, session.agent.namespace, fieldSelector=selector)
            return [delegation async for page in found for delegation in page["items"]]

    def _asker(self, session: Session) -> Asker:
        return Asker(session.agent.name, session.session_id, self._identity)

    async def _verdict(self, session: Session, entry: HeldAttempt, known: dict[str, Json]) -> Resumed:
        delegation = known.get(entry.name) or await self._read(session.agent.namespace, entry.name)
        verdict = resume_verdict(delegation, self._asker(session), entry)
        if delegation and verdict is ResumeVerdict.CONTINUE:
            verdict = resume_verdict(await self._meet(session, delegation), self._asker(session), entry)
        return Resumed(name=entry.name, attempt=entry.attempt, verdict=verdict)

    async def _read(self, namespace: str, name: str) -> Json | None:
        async with self._reads:
            return await find(self._kube, DELEGATIONS, namespace, name)

    async def _adopt(self, session: Session, delegation: Json) -> Json | None:
        """Returns what was last read of it; None when it is gone."""
        asker, latest = self._asker(session), delegation
        if isinstance(adopted(delegation, asker), NoChange):
            return delegation

        def verdict_on(read: Json) -> Verdict:
            nonlocal latest
            latest = read
            return NoChange() if session.fenced else adopted(read, asker)

        verdict = await self._settle(delegation, "adopt", verdict_on)
        is_gone = isinstance(verdict, Refusal) and verdict.code == ErrorCode.NOT_FOUND
        return None if is_gone else latest

    async def _not_in_hand(self, session: Session, delegation: Json) -> None:
        if is_unacknowledged(delegation):
            attempt = attempt_of(delegation)

            def verdict_on(latest: Json) -> Verdict:
                if attempt_of(latest) != attempt or not is_unacknowledged(latest):
                    return NoChange()
                return acknowledged(latest, self._clock.now(), "the session resumed without it")

            await self._settle(delegation, "acknowledge", verdict_on)
            self._holdings.answered(session, ref_of(delegation), delegation)
        elif is_held(delegation, self._asker(session)):
            await self._hand_back(session, delegation)

    async def _hand_back(self, session: Session, delegation: Json) -> None:
        """It holds work that it doesn't have: an orphan at once, which the operator treats (C9)."""
        attempt = attempt_of(delegation)

        def verdict_on(latest: Json) -> Verdict:
            if session.fenced or attempt_of(latest) != attempt:
                return NoChange()
            return forgotten(latest, self._asker(session))

        if isinstance(await self._settle(delegation, "forgotten", verdict_on), Change):
            note = agent_forgot(session.agent.name, session.session_id)
            log.warning("an agent forgot its work", delegation=str(ref_of(delegation)), note=note)
            self._events.warn(delegation, Reason.AGENT_FORGOT, "Resume", note)

    async def _settle(self, delegation: Json, what: str, verdict_on: Decide) -> Verdict:
        ref = ref_of(delegation)
        verdict = await self._writes.settle(ref, what, verdict_on, patient=True, live=True)
        if isinstance(verdict, Refusal):
            log.warning("a delegation could not be written", delegation=str(ref), what=what, error=verdict.message)
        return verdict
