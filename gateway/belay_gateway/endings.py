"""What ends an attempt: its result, its failure, its release, and the word that cancelled work has stopped (D2, D3,
D10, D12). Pure."""

from typing import Any, Final, cast

from belay_api.actions import Complete, Fail, OnAttempt, Release
from belay_api.conditions import ConditionType, set_condition
from belay_api.delegation import MAX_TEXT_BYTES, DesiredState
from belay_api.messages import ErrorCode
from belay_api.reasons import Reason
from belay_api.retrying import Tries
from belay_api.times import to_wire
from belay_api.transitions import TERMINAL, Phase
from belay_gateway.cases import Case, being_cancelled, changed_progress, ended, other_holder, taken, withdrawn
from belay_gateway.objects import ended_by_others
from belay_gateway.proofs import acknowledged
from belay_gateway.verdicts import Change, NoChange, Refusal, Verdict
from belay_kube.client import Json

GIVING_UP: Final[dict[type[OnAttempt], Reason]] = {Fail: Reason.AGENT_FAILED, Release: Reason.RELEASED}
"""The actions that give an attempt up, and the reason each leaves."""
_CONDITION_CHARS = 1024


def complete(case: Case) -> Verdict:
    """Done, with the result."""
    result = cast(Complete, case.action).result
    if result.inline_bytes() > MAX_TEXT_BYTES:
        sentence = "result: text and data are more than 64 KiB of UTF-8; reply with a uri instead"
        return Refusal(ErrorCode.TOO_LARGE, sentence)
    same = case.status.get("result") == result.wire()
    end = {"phase": Phase.COMPLETED, "reason": Reason.COMPLETED, "message": "", "result": result.wire()}
    return _result(case, end, same)


def fail(case: Case) -> Verdict:
    """The end, unless another attempt may follow: terminal is for ever, so then it is handed back."""
    message = words(case)
    same = case.status.get("message") == message
    if case.phase not in TERMINAL and Tries.read(case.spec, case.status).may_follow(Reason.AGENT_FAILED):
        return _no_result(case) or Change(_handed_back(case, Reason.AGENT_FAILED, message))
    return _result(case, {"phase": Phase.FAILED, "reason": Reason.AGENT_FAILED, "message": message}, same)


def release(case: Case) -> Verdict:
    """Given back unfinished."""
    match case.phase:
        case phase if phase in TERMINAL:
            return ended(case)
        case Phase.DISPATCHED if case.spec.get("desiredState") == DesiredState.CANCELLED:
            return being_cancelled()
        case Phase.PENDING | Phase.QUEUED:
            return withdrawn()
    return _no_result(case) or Change(_handed_back(case, Reason.RELEASED, words(case)))


def words(case: Case) -> str:
    """Why the asker gives it up, in its words."""
    match case.action:
        case Fail(message=message):
            return message
        case Release(message=message) if message:
            return message
        case _:
            return f"released by session {case.asker.session_id}"


def _handed_back(case: Case, reason: Reason, message: str) -> Json:
    """The same phase with the reason the attempt was given up for; the operator does the rest (belay_api.retrying)."""
    given_up = {"reason": reason, "message": message}
    match case.phase:
        case Phase.DISPATCHED:
            return {**taken(case), **given_up}
        case Phase.QUEUED:
            # Who it was, so that the same word again is known for what it is (D2).
            return {"phase": Phase.QUEUED, "sessionId": case.asker.session_id, **given_up}
        case phase:
            return {"phase": phase, **given_up}


def _result(case: Case, end: Json, same: bool) -> Verdict:
    """One write from wherever the attempt stands to its end (`as if accepted first`)."""
    if case.phase in TERMINAL:
        replayed = case.held and same and (case.phase, case.status.get("reason")) == (end["phase"], end["reason"])
        return NoChange() if replayed else ended(case)
    if refused := _no_result(case):
        return refused
    holding = taken(case)
    if case.held:
        del holding["acceptedTime"]
    last = changed_progress(case, case.pending)
    at = to_wire(case.now)
    return Change(
        {**holding, **last, **end, "completionTime": at, "queuePosition": None, "conditions": _ending(case, end)}
    )


def _no_result(case: Case) -> Refusal | None:
    """Why nothing that ends the attempt is taken from the asker; late words on an offer taken back are (D12)."""
    match case.phase:
        case Phase.IN_PROGRESS | Phase.STUCK if not case.held:
            return other_holder(ErrorCode.NOT_HOLDER)
        case Phase.QUEUED if not case.status.get("dispatchedTime"):
            return withdrawn()
        case Phase.PENDING:
            return withdrawn()
    return None


def _ending(case: Case, end: Json) -> list[dict[str, Any]]:
    reason, message = str(end["reason"]), str(end["message"])[:_CONDITION_CHARS]
    old = case.status.get("conditions") or []
    finished = set_condition(old, ConditionType.FINISHED, True, reason, message, case.now)
    if end["phase"] != Phase.COMPLETED:
        return finished
    return set_condition(finished, ConditionType.COMPLETE, True, reason, message, case.now)


def cancelled(case: Case) -> Verdict:
    """The holder's word that work which others ended has stopped."""
    if case.phase not in TERMINAL:
        return Refusal(ErrorCode.INVALID, f"it is {case.phase}, not cancelled: send fail to give it up")
    if not case.held:
        return other_holder(ErrorCode.NOT_HOLDER)
    if not ended_by_others(case.delegation):
        return NoChange()  # it ended by its own reply: there is nothing to prove
    return acknowledged(case.delegation, case.now, "the agent said that it stopped")
