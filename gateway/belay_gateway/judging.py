"""What an action of a holder does to a delegation. Pure: the object as read, who asks, what, and `now` go in; a change
of its status, nothing, or a refusal comes out (DESIGN.md sections 3 and 5; D2, D3, D10, D12).
"""

from collections.abc import Callable
from typing import Final

from belay_api.actions import Accept, Cancelled, Complete, Fail, Heartbeat, OnAttempt, ProgressMade, Release
from belay_api.messages import ErrorCode
from belay_api.retrying import is_handed_back
from belay_gateway import endings, taking
from belay_gateway.cases import Case
from belay_gateway.verdicts import NoChange, Refusal, Verdict


def decide(case: Case) -> Verdict:
    """The verdict: the first finding of the checks, else what the action does in this phase."""
    return _not_for_asker(case) or _wrong_attempt(case) or _handed_back(case) or _BY_ACTION[type(case.action)](case)


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
    if case.held and reason == endings.GIVING_UP.get(type(case.action)) and message == endings.words(case):
        return NoChange()
    return Refusal(ErrorCode.SUPERSEDED, f"attempt {case.action.attempt} was given up ({reason}): stop working on it")


_BY_ACTION: Final[dict[type[OnAttempt], Callable[[Case], Verdict]]] = {
    Accept: taking.accept,
    Heartbeat: taking.beat,
    ProgressMade: taking.beat,
    Complete: endings.complete,
    Fail: endings.fail,
    Release: endings.release,
    Cancelled: endings.cancelled,
}
