"""Actions on one attempt, said on a socket or by HTTP: decided, written while the session may, remembered, recorded.

Whoever calls holds the session's turn for that delegation (acting.py), so both ways share one order and one fence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from belay_api.actions import Accept, Cancelled, Complete, Fail, Heartbeat, OnAttempt, ProgressMade, Release
from belay_api.delegation import Progress
from belay_api.messages import ErrorCode
from belay_api.names import Ref
from belay_api.reasons import Reason
from belay_gateway.access import Access
from belay_gateway.acting import Acting, Who
from belay_gateway.agents import Agents
from belay_gateway.auth import User
from belay_gateway.cases import Case
from belay_gateway.events import Events
from belay_gateway.holdings import Holdings
from belay_gateway.judging import decide
from belay_gateway.sockets import Session
from belay_gateway.verdicts import Asker, Change, NoChange, Refusal, Verdict
from belay_gateway.writes import Decide, May, Writes
from belay_kube.client import Json
from belay_kube.clock import Clock

IN_FLIGHT: Final = 64
"""Most actions of one session that may be under way."""
FENCED: Final = Refusal(ErrorCode.SUPERSEDED, "another socket has this session now: stop")
TOO_MANY: Final = Refusal(ErrorCode.UNAVAILABLE, "too many actions at once: wait for acks")
_PATIENT: Final = (Complete, Fail, Release, Cancelled)
"""What must not get lost in a short outage."""
_RECORDED: Final = {ErrorCode.SUPERSEDED: Reason.SUPERSEDED, ErrorCode.NOT_HOLDER: Reason.NOT_HOLDER}


@dataclass(frozen=True)
class Speaker:
    """The session whose word it is; `gateway` is the process that has its socket."""

    agent: Ref
    session_id: str
    gateway: str
    here: Session | None
    """Its attachment, if that is to this process."""
    may: May
    """Asked before each write."""

    @property
    def who(self) -> Who:
        """What stays the same when the socket changes."""
        return self.agent, self.session_id


@dataclass(frozen=True)
class Outcome:
    """What was decided, and the delegation it was decided on or, after a write, as it was written."""

    verdict: Verdict
    delegation: Json | None


@dataclass(frozen=True)
class Attempts:
    """Carries out actions on attempts."""

    clock: Clock
    agents: Agents
    access: Access
    acting: Acting
    holdings: Holdings
    writes: Writes
    events: Events

    async def act(self, speaker: Speaker, action: OnAttempt) -> Outcome:
        """One action, whatever becomes of it: nothing that the API server answers is raised."""
        seen: list[Json] = []

        def verdict_on(delegation: Json) -> Verdict:
            seen[:] = [delegation]
            return self._verdict(speaker, action, delegation)

        verdict = self._without_asking(speaker, action, verdict_on)
        if verdict is None:
            verdict = await self._settle(speaker, action, verdict_on, seen)
        if speaker.here:
            self._remember(speaker.here, action, verdict, seen)
        self._record(speaker, action, verdict, seen)
        return Outcome(verdict, seen[-1] if seen else None)

    def threshold(self, agent: Ref, delegation: Json) -> int:
        """Seconds without a beat after which it is Stuck."""
        own = (delegation.get("spec") or {}).get("stuckThresholdSeconds")
        return int(own or self.agents.times(agent).stuck_threshold)

    async def lost_right(self, user: User, agent: Ref) -> Refusal | None:
        """Asked before each write: the right to attach is looked at again, not only at each review (DESIGN section 7).
        Raises KubeError."""
        seen = await self.agents.find(agent)
        if await self.access.may_attach(user, agent, seen.owners if seen else ()):
            return None
        return Refusal(ErrorCode.FORBIDDEN, f"{user.name} may not act as agent {agent} any more: stop")

    # --- deciding ----------------------------------------------------------------------------------------------

    def _verdict(self, speaker: Speaker, action: OnAttempt, delegation: Json) -> Verdict:
        here = speaker.here
        if here and here.fenced:
            return FENCED
        return decide(
            Case(
                delegation,
                Asker(speaker.agent.name, speaker.session_id, speaker.gateway),
                action,
                self.clock.now(),
                self.threshold(speaker.agent, delegation),
                _pending_progress(here, action) if here else None,
                remembers=here is not None,
            )
        )

    def _without_asking(self, speaker: Speaker, action: OnAttempt, verdict_on: Decide) -> Verdict | None:
        """A beat that isn't worth a write isn't worth a read either; most beats are such."""
        known = self.holdings.get(speaker.agent.namespace, action.name) if speaker.here else None
        if known is None or not isinstance(action, Heartbeat | ProgressMade):
            return None
        verdict = verdict_on(known)
        return verdict if isinstance(verdict, NoChange) else None

    async def _settle(self, speaker: Speaker, action: OnAttempt, verdict_on: Decide, seen: list[Json]) -> Verdict:
        ref = Ref(speaker.agent.namespace, action.name)
        patient, what = isinstance(action, _PATIENT), action.__class__.__name__
        with self.acting.writing(speaker.here):
            return await self.writes.settle(ref, what, verdict_on, patient=patient, may=speaker.may, wrote=seen.append)

    # --- afterwards --------------------------------------------------------------------------------------------

    def _remember(self, here: Session, action: OnAttempt, verdict: Verdict, seen: Sequence[Json]) -> None:
        """What a verdict on an action of this session means for the ones that follow."""
        match verdict:
            case NoChange(unwritten=progress) if progress is not None:
                here.unwritten[action.name] = (action.attempt, progress)
            case Change():
                here.unwritten.pop(action.name, None)
                here.offers.pop(action.name, None)
        if isinstance(action, Cancelled) and _has_stopped(verdict):
            self.holdings.answered(here, Ref(here.agent.namespace, action.name), seen[0] if seen else None)

    def _record(self, speaker: Speaker, action: OnAttempt, verdict: Verdict, seen: Sequence[Json]) -> None:
        """Say on the delegation that an action of a session was refused, where people should know (D10)."""
        if not isinstance(verdict, Refusal):
            return
        reason = _RECORDED.get(verdict.code)
        if reason and seen and not isinstance(action, Accept):
            who = f"session {speaker.session_id} of agent {speaker.agent.name}"
            note = f"{action.__class__.__name__} of attempt {action.attempt} by {who} was refused: {verdict.message}"
            self.events.warn(seen[0], reason, "Reply", note)


def _has_stopped(verdict: Verdict) -> bool:
    return not isinstance(verdict, Refusal) or verdict.code == ErrorCode.NOT_FOUND


def _pending_progress(session: Session, action: OnAttempt) -> Progress | None:
    """Progress on this attempt that was acknowledged, but not yet written."""
    attempt, progress = session.unwritten.get(action.name, (0, None))
    return progress if attempt == action.attempt else None
