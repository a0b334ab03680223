"""One action of a holder on one delegation, as read; and what several of the rules say of it (judging.py). Pure."""

from dataclasses import dataclass
from datetime import datetime

from belay_api.actions import OnAttempt
from belay_api.delegation import Progress
from belay_api.messages import ErrorCode
from belay_api.reasons import Reason
from belay_api.times import to_wire
from belay_api.transitions import Phase, phase_of
from belay_gateway.verdicts import Asker, Refusal
from belay_kube.client import Json


@dataclass(frozen=True)
class Case:
    """One action on one delegation."""

    delegation: Json
    asker: Asker
    action: OnAttempt
    now: datetime
    threshold: int
    """Stuck threshold in force for the agent, in seconds."""
    pending: Progress | None = None
    """Progress acknowledged earlier, but not written."""
    remembers: bool = True
    """Whether progress that isn't written now is kept for the next write; else it must be written at once."""

    @property
    def spec(self) -> Json:
        """What was asked for."""
        return self.delegation.get("spec") or {}

    @property
    def status(self) -> Json:
        """How it stands."""
        return self.delegation.get("status") or {}

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        return phase_of(self.status.get("phase"))

    @property
    def held(self) -> bool:
        """Whether the asker is the holder."""
        return bool(self.status.get("sessionId") == self.asker.session_id)


# --- why nothing is taken from the asker ---------------------------------------------------------------------------


def ended(case: Case) -> Refusal:
    """It is over."""
    reason = case.status.get("reason") or "no reason"
    return Refusal(ErrorCode.SUPERSEDED, f"already {case.phase} ({reason}): stop working on it")


def withdrawn() -> Refusal:
    """It is offered to nobody now."""
    return Refusal(ErrorCode.SUPERSEDED, "the offer was withdrawn, it waits in the queue: wait for its next dispatch")


def being_cancelled() -> Refusal:
    """An offer that is about to end."""
    return Refusal(ErrorCode.SUPERSEDED, "it is being cancelled: leave it")


def other_holder(code: ErrorCode) -> Refusal:
    """It is another session's."""
    return Refusal(code, "another session holds it: stop working on it")


# --- what is written -----------------------------------------------------------------------------------------------


def taken(case: Case) -> Json:
    """The holder's fields, as of an accept now."""
    return {
        "phase": Phase.IN_PROGRESS,
        "reason": Reason.ACCEPTED,
        "message": f"accepted by session {case.asker.session_id}",
        "sessionId": case.asker.session_id,
        "gateway": case.asker.gateway,
        "acceptedTime": to_wire(case.now),
    }


def changed_progress(case: Case, progress: Progress | None) -> Json:
    """The patch that makes the status' progress this one; empty when it already is, or there is none."""
    wire = progress.wire() if progress else {}
    if not wire or wire == (case.status.get("progress") or {}):
        return {}
    return {"progress": {"percent": wire.get("percent"), "message": wire.get("message")}}
