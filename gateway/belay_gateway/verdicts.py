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
from belay_api.frames import (
    Accept,
    Cancelled,
    Complete,
    ErrorCode,
    Fail,
    Heartbeat,
    OnAttempt,
    ProgressMade,
    Release,
)
from belay_api.reasons import Reason, agent_forgot
from belay_api.retrying import Tries, is_handed_back
from belay_api.times import from_wire, to_wire
from belay_api.transitions import HELD, TERMINAL, Phase, phase_of
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


def decide(case: Case) -> Verdict:
    """The verdict: the first finding of the checks, else what the action does in this phase."""
    return _not_for_asker(case) or _wrong_attempt(case) or _handed_back(case) or _BY_ACTION[type(case.action)](case)


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


def _handed_back(case: Case) -> Verdict | None:
    """An attempt that was given up is held by nobody; giving it up again changes nothing (D2, D10)."""
    if not is_handed_back(case.status):
        return None
    if isinstance(case.action, Cancelled):
        return NoChange()
    reason, message = case.status.get("reason"), case.status.get("message")
    if case.held and reason == _GIVING_UP.get(type(case.action)) and message == _words(case):
        return NoChange()
    return Refusal(ErrorCode.SUPERSEDED, f"attempt {case.action.attempt} was given up ({reason}): stop working on it")


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
    return passed >= case.threshold / 4 or (changed and (passed >= PROGRESS_SECONDS or not case.remembers))


# --- results -------------------------------------------------------------------------------------------------------


def _complete(case: Case) -> Verdict:
    result = cast(Complete, case.action).result
    if result.inline_bytes() > MAX_TEXT_BYTES:
        sentence = "result: text and data are more than 64 KiB of UTF-8; reply with a uri instead"
        return Refusal(ErrorCode.TOO_LARGE, sentence)
    same = case.status.get("result") == result.wire()
    end = {"phase": Phase.COMPLETED, "reason": Reason.COMPLETED, "message": "", "result": result.wire()}
    return _result(case, end, same)


def _fail(case: Case) -> Verdict:
    """The end, unless another attempt may follow: terminal is for ever, so then it is handed back."""
    message = _words(case)
    same = case.status.get("message") == message
    if case.phase not in TERMINAL and Tries.read(case.spec, case.status).may_follow(Reason.AGENT_FAILED):
        return _no_result(case) or Change(handed_back(case, Reason.AGENT_FAILED, message))
    return _result(case, {"phase": Phase.FAILED, "reason": Reason.AGENT_FAILED, "message": message}, same)


def _release(case: Case) -> Verdict:
    match case.phase:
        case phase if phase in TERMINAL:
            return _ended(case)
        case Phase.DISPATCHED if case.spec.get("desiredState") == DesiredState.CANCELLED:
            return _being_cancelled()
        case Phase.PENDING | Phase.QUEUED:
            return _withdrawn()
    return _no_result(case) or Change(handed_back(case, Reason.RELEASED, _words(case)))


def _words(case: Case) -> str:
    """Why the asker gives it up, in its words."""
    match case.action:
        case Fail(message=message):
            return message
        case Release(message=message) if message:
            return message
        case _:
            return f"released by session {case.asker.session_id}"


def handed_back(case: Case, reason: Reason, message: str) -> Json:
    """The same phase with the reason the attempt was given up for; the operator does the rest (belay_api.retrying)."""
    given_up = {"reason": reason, "message": message}
    match case.phase:
        case Phase.DISPATCHED:
            return {**_taken(case), **given_up}
        case Phase.QUEUED:
            # Who it was, so that the same word again is known for what it is (D2).
            return {"phase": Phase.QUEUED, "sessionId": case.asker.session_id, **given_up}
        case phase:
            return {"phase": phase, **given_up}


def forgotten(delegation: Json, asker: Asker) -> Verdict:
    """Held work that the list of a `resume` lacks is handed back in the session's name (C9)."""
    status = delegation.get("status") or {}
    held = status.get("sessionId") == asker.session_id and phase_of(status.get("phase")) in HELD
    if not held or is_handed_back(status):
        return NoChange()
    message = agent_forgot(asker.agent, asker.session_id)
    return Change({"phase": status["phase"], "reason": Reason.AGENT_FORGOT, "message": message})


def _result(case: Case, end: Json, same: bool) -> Verdict:
    """One write from wherever the attempt stands to its end (`as if accepted first`)."""
    if case.phase in TERMINAL:
        replayed = case.held and same and (case.phase, case.status.get("reason")) == (end["phase"], end["reason"])
        return NoChange() if replayed else _ended(case)
    if refused := _no_result(case):
        return refused
    taken = _taken(case)
    if case.held:
        del taken["acceptedTime"]
    last = _progress(case, case.pending)
    at = to_wire(case.now)
    return Change(
        {**taken, **last, **end, "completionTime": at, "queuePosition": None, "conditions": _ending(case, end)}
    )


def _no_result(case: Case) -> Refusal | None:
    """Why nothing that ends the attempt is taken from the asker; late words on an offer taken back are (D12)."""
    match case.phase:
        case Phase.IN_PROGRESS | Phase.STUCK if not case.held:
            return _other_holder(ErrorCode.NOT_HOLDER)
        case Phase.QUEUED if not case.status.get("dispatchedTime"):
            return _withdrawn()
        case Phase.PENDING:
            return _withdrawn()
    return None


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


_GIVING_UP: Final[dict[type[OnAttempt], Reason]] = {Fail: Reason.AGENT_FAILED, Release: Reason.RELEASED}
_BY_ACTION: Final[dict[type[OnAttempt], Callable[[Case], Verdict]]] = {
    Accept: _accept,
    Heartbeat: _beat,
    ProgressMade: _beat,
    Complete: _complete,
    Fail: _fail,
    Release: _release,
    Cancelled: _cancelled,
}
