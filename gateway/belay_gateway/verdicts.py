"""What an action of a holder does to a delegation. Pure: the object as read, who asks, what, and `now` go in; a change
of its status, nothing, or a refusal comes out. The write that follows carries the resourceVersion of what was read, so
of several who decide at once one wins and the others decide again (DESIGN.md sections 3 and 5; D2, D3, D10, D12).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from belay_api.conditions import ConditionType, condition_is_true, set_condition
from belay_api.delegation import MAX_TEXT_BYTES, DesiredState, Progress
from belay_api.frames import Accept, Cancelled, Complete, ErrorCode, Fail, Heartbeat, OnAttempt, ProgressMade
from belay_api.reasons import Reason
from belay_api.times import from_wire, to_wire
from belay_api.transitions import TERMINAL, Phase, phase_of
from belay_gateway.objects import ended_by_others
from belay_kube.client import Json

PROGRESS_SECONDS = 5.0
"""Least time between two writes of changed progress."""
_CONDITION_CHARS = 1024


@dataclass(frozen=True)
class Asker:
    """The session that asks, and the gateway it is attached to."""

    agent: str
    session_id: str
    gateway: str


@dataclass(frozen=True)
class Change:
    """A merge patch of the status."""

    status: Json


@dataclass(frozen=True)
class NoChange:
    """Already so, or not worth a write: acknowledged."""

    unwritten: Progress | None = None
    """Progress that came too soon after the last write; the next beat that is due must carry it."""


@dataclass(frozen=True)
class Refusal:
    """Nothing changes; `message` says why and what to do."""

    code: ErrorCode
    message: str


Verdict = Change | NoChange | Refusal


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


def decide(case: Case) -> Verdict:
    """The verdict: the first finding of the checks, else what the action does in this phase."""
    return _not_for_asker(case) or _wrong_attempt(case) or _BY_ACTION[type(case.action)](case)


# --- checks that every action passes -------------------------------------------------------------------------------


def _not_for_asker(case: Case) -> Refusal | None:
    spec = case.spec
    if (spec.get("agentRef") or {}).get("name") != case.asker.agent:
        return Refusal(ErrorCode.NOT_FOUND, f"agent {case.asker.agent} has no delegation {case.action.name}")
    if spec.get("sessionId") not in (None, case.asker.session_id):
        return Refusal(ErrorCode.NOT_HOLDER, "it is addressed to another session of this agent: stop working on it")
    return None


def _wrong_attempt(case: Case) -> Verdict | None:
    attempt = case.status.get("attempt")
    if attempt == case.action.attempt:
        return None
    if isinstance(case.action, Cancelled):
        return NoChange()  # the old attempt has stopped; that one is over anyway
    if attempt is None:
        return Refusal(ErrorCode.SUPERSEDED, "it was never offered: wait for its dispatch")
    return Refusal(
        ErrorCode.SUPERSEDED, f"attempt {case.action.attempt} is over, attempt {attempt} counts: stop working on it"
    )


def _ended(case: Case) -> Refusal:
    reason = case.status.get("reason") or "no reason"
    return Refusal(ErrorCode.SUPERSEDED, f"already {case.phase} ({reason}): stop working on it")


def _withdrawn() -> Refusal:
    return Refusal(ErrorCode.SUPERSEDED, "the offer was withdrawn, it waits in the queue: wait for its next dispatch")


def _being_cancelled() -> Refusal:
    return Refusal(ErrorCode.SUPERSEDED, "it is being cancelled: leave it")


def _other_holder(code: ErrorCode) -> Refusal:
    return Refusal(code, "another session holds it: stop working on it")


# --- accept, beats -------------------------------------------------------------------------------------------------


def _accept(case: Case) -> Verdict:
    match case.phase:
        case Phase.DISPATCHED if case.spec.get("desiredState") == DesiredState.CANCELLED:
            return _being_cancelled()
        case Phase.DISPATCHED:
            return Change(_taken(case))
        case Phase.IN_PROGRESS | Phase.STUCK if case.held:
            moved = case.status.get("gateway") != case.asker.gateway
            return Change({"gateway": case.asker.gateway}) if moved else NoChange()
        case Phase.IN_PROGRESS | Phase.STUCK:
            return _other_holder(ErrorCode.TAKEN)
        case Phase.PENDING | Phase.QUEUED:
            return _withdrawn()
        case _:
            return _ended(case)


def _taken(case: Case) -> Json:
    """The holder's fields, as of an accept now."""
    return {
        "phase": Phase.IN_PROGRESS,
        "reason": Reason.ACCEPTED,
        "message": f"accepted by session {case.asker.session_id}",
        "sessionId": case.asker.session_id,
        "gateway": case.asker.gateway,
        "acceptedTime": to_wire(case.now),
    }


def _beat(case: Case) -> Verdict:
    progress = case.action.progress if isinstance(case.action, ProgressMade) else case.pending
    written = {"lastHeartbeatTime": to_wire(case.now), **_progress(case, progress)}
    match case.phase:
        case Phase.DISPATCHED if case.spec.get("desiredState") == DesiredState.CANCELLED:
            return _being_cancelled()
        case Phase.DISPATCHED:
            return Change({**_taken(case), **written})
        case Phase.IN_PROGRESS if case.held:
            due = _beat_is_due(case, changed="progress" in written)
            return Change({"gateway": case.asker.gateway, **written}) if due else NoChange(progress)
        case Phase.STUCK if case.held:
            resumed = {"phase": Phase.IN_PROGRESS, "reason": Reason.RESUMED, "message": "the holder beats again"}
            return Change({**resumed, "gateway": case.asker.gateway, **written})
        case Phase.IN_PROGRESS | Phase.STUCK:
            return _other_holder(ErrorCode.NOT_HOLDER)
        case Phase.PENDING | Phase.QUEUED:
            return _withdrawn()
        case _:
            return _ended(case)


def _progress(case: Case, progress: Progress | None) -> Json:
    """The patch that makes the status' progress this one; empty when it already is, or there is none."""
    wire = progress.wire() if progress else {}
    if not wire or wire == (case.status.get("progress") or {}):
        return {}
    return {"progress": {"percent": wire.get("percent"), "message": wire.get("message")}}


def _beat_is_due(case: Case, *, changed: bool) -> bool:
    last = from_wire(case.status.get("lastHeartbeatTime"))
    if last is None or case.status.get("gateway") != case.asker.gateway:
        return True
    passed = (case.now - last).total_seconds()
    return passed >= case.threshold / 4 or (changed and passed >= PROGRESS_SECONDS)


# --- results -------------------------------------------------------------------------------------------------------


def _complete(case: Case) -> Verdict:
    result = cast(Complete, case.action).result
    if result.text is not None and len(result.text.encode(errors="surrogatepass")) > MAX_TEXT_BYTES:
        return Refusal(ErrorCode.TOO_LARGE, "result.text: more than 64 KiB of UTF-8; reply with a uri instead")
    same = case.status.get("result") == result.wire()
    end = {"phase": Phase.COMPLETED, "reason": Reason.COMPLETED, "message": "", "result": result.wire()}
    return _result(case, end, same)


def _fail(case: Case) -> Verdict:
    message = cast(Fail, case.action).message
    same = case.status.get("message") == message
    return _result(case, {"phase": Phase.FAILED, "reason": Reason.AGENT_FAILED, "message": message}, same)


def _result(case: Case, end: Json, same: bool) -> Verdict:
    """One write from wherever the attempt stands to its end (`as if accepted first`)."""
    match case.phase:
        case phase if phase in TERMINAL:
            replayed = case.held and same and (phase, case.status.get("reason")) == (end["phase"], end["reason"])
            return NoChange() if replayed else _ended(case)
        case Phase.IN_PROGRESS | Phase.STUCK if not case.held:
            return _other_holder(ErrorCode.NOT_HOLDER)
        case Phase.PENDING | Phase.QUEUED if not case.status.get("dispatchedTime"):
            return _withdrawn()
        case Phase.PENDING:
            return _withdrawn()
    taken = _taken(case)
    if case.held:
        del taken["acceptedTime"]
    last = _progress(case, case.pending)
    at = to_wire(case.now)
    return Change(
        {**taken, **last, **end, "completionTime": at, "queuePosition": None, "conditions": _ending(case, end)}
    )


def _ending(case: Case, end: Json) -> list[dict[str, Any]]:
    reason, message = str(end["reason"]), str(end["message"])[:_CONDITION_CHARS]
    old = case.status.get("conditions") or []
    ended = set_condition(old, ConditionType.FINISHED, True, reason, message, case.now)
    if end["phase"] != Phase.COMPLETED:
        return ended
    return set_condition(ended, ConditionType.COMPLETE, True, reason, message, case.now)


def _cancelled(case: Case) -> Verdict:
    if case.phase not in TERMINAL:
        return Refusal(ErrorCode.INVALID, f"it is {case.phase}, not cancelled: send fail to give it up")
    if not case.held:
        return _other_holder(ErrorCode.NOT_HOLDER)
    if not ended_by_others(case.delegation):
        return NoChange()  # it ended by its own reply: there is nothing to prove
    return acknowledged(case.delegation, case.now, "the agent said that it stopped")


def acknowledged(delegation: Json, now: datetime, message: str) -> Verdict:
    """The proof that work which was ended has stopped."""
    return _marked(delegation, ConditionType.CANCEL_ACKNOWLEDGED, "Acknowledged", message, now)


def delivered(delegation: Json, now: datetime, session_id: str) -> Verdict:
    """The proof that the holder was told of the end."""
    message = f"told to session {session_id}"
    return _marked(delegation, ConditionType.CANCEL_DELIVERED, "Delivered", message, now)


def _marked(delegation: Json, kind: ConditionType, reason: str, message: str, now: datetime) -> Verdict:
    conditions = (delegation.get("status") or {}).get("conditions") or []
    if condition_is_true(conditions, kind):
        return NoChange()
    return Change({"conditions": set_condition(conditions, kind, True, reason, message, now)})


_BY_ACTION: Final[dict[type[OnAttempt], Callable[[Case], Verdict]]] = {
    Accept: _accept,
    Heartbeat: _beat,
    ProgressMade: _beat,
    Complete: _complete,
    Fail: _fail,
    Cancelled: _cancelled,
}
