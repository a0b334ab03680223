"""What becomes of a tool call, as tables: opened, waited for, answered (L14, L15)."""

from typing import Any

import pytest

from belay_api.agentsession import OpenToolCall
from belay_api.names import tool_call_name
from belay_api.pendingmessage import MessagePhase
from belay_api.permissionrequest import PermissionPhase
from belay_operator.decisions.calls import (
    DEFAULT_TIMEOUT_SECONDS,
    Answer,
    Asked,
    Begun,
    Facts,
    Runs,
    Start,
    Step,
    TimeOut,
    Traits,
    Wait,
    opened,
    step,
    strays,
    too_late,
)
from belay_operator.decisions.landing import call_wire
from belay_operator.decisions.outcomes import Response, outcome
from belay_operator.observe.mailbox_records import OpenCall
from belay_operator.observe.records import AgentRecord

from .builders import NAMESPACE, at
from .mailbox import mail, session, use

DELEGATES = Traits(Runs.DELEGATION, default_timeout=None)
QUICK = Traits(Runs.AT_ONCE)
RUNS = Traits(Runs.IN_PROCESS, idempotent=False)
REPEATS = Traits(Runs.IN_PROCESS)
ALLOWED, DENIED = Asked(PermissionPhase.ALLOWED), Asked(PermissionPhase.DENIED, "ann", "too dear")
UNDECIDED, EXPIRED = Asked(PermissionPhase.PENDING), Asked(PermissionPhase.EXPIRED, None, "nobody decided within 60s")


def call(timeout: int | None = 60, *, delegates: bool = False, asks: bool = False) -> OpenCall:
    """A call of tool `work`, open since `T0`."""
    return OpenCall("c", "work", at(0), timeout, "child" if delegates else None, "request" if asks else None)


def child(phase: str | None, **status: Any) -> dict[str, Any]:
    """A delegation as it is read."""
    return {"metadata": {"name": "child"}, "status": {"phase": phase, **status} if phase else {}}


RUN, CHILD, ASKED = call(), call(delegates=True), call(asks=True)
ASKED_CHILD = call(delegates=True, asks=True)
DONE = child("Completed", result={"text": "42"})

STEPS: dict[str, tuple[OpenCall, Facts, float, str]] = {
    "its delegation goes on": (CHILD, Facts(DELEGATES, child=child("InProgress")), 1, "wait 60"),
    "its delegation is new": (CHILD, Facts(DELEGATES, child=child(None)), 1, "wait 60"),
    "without a timeout": (call(None, delegates=True), Facts(DELEGATES, child=child("Queued")), 10**9, "wait"),
    "its delegation is Completed": (CHILD, Facts(DELEGATES, child=DONE), 1, "answer 42"),
    "Completed in time, seen late": (CHILD, Facts(DELEGATES, child=DONE), 61, "answer 42"),
    "its delegation is Failed": (
        CHILD,
        Facts(DELEGATES, child=child("Failed", reason="DeadlineExceeded", message="too slow")),
        1,
        "fail delegation child is Failed (DeadlineExceeded): too slow",
    ),
    "its delegation is Cancelled": (
        CHILD,
        Facts(DELEGATES, child=child("Cancelled", reason="AgentOffline", message="it left")),
        1,
        "fail delegation child is Cancelled (AgentOffline): it left",
    ),
    "its delegation was deleted": (
        CHILD,
        Facts(DELEGATES),
        1,
        "fail delegation child was deleted before its end was known",
    ),
    "one second before its timeout": (CHILD, Facts(DELEGATES, child=child("InProgress")), 59, "wait 60"),
    "at its timeout": (CHILD, Facts(DELEGATES, child=child("InProgress")), 60, "timeout 60"),
    "undecided": (ASKED, Facts(QUICK, Begun.NO, UNDECIDED), 59, "wait 60"),
    "undecided, a delegation": (ASKED_CHILD, Facts(DELEGATES, Begun.NO, UNDECIDED), 1, "wait 60"),
    "undecided at its timeout": (ASKED, Facts(QUICK, Begun.NO, UNDECIDED), 60, "timeout 60"),
    "denied": (ASKED, Facts(QUICK, Begun.NO, DENIED), 1, "fail ann denied the use of work: too dear"),
    "expired": (
        ASKED,
        Facts(QUICK, Begun.NO, EXPIRED),
        1,
        "fail the use of work was not allowed: nobody decided within 60s",
    ),
    "its request was deleted": (
        ASKED,
        Facts(QUICK, Begun.NO),
        1,
        "fail the use of work was not allowed: PermissionRequest request was deleted",
    ),
    "allowed": (ASKED, Facts(QUICK, Begun.NO, ALLOWED), 1, "start"),
    "allowed, a delegation": (ASKED_CHILD, Facts(DELEGATES, Begun.NO, ALLOWED), 1, "start"),
    "allowed, its delegation goes on": (
        ASKED_CHILD,
        Facts(DELEGATES, Begun.NO, ALLOWED, child("Queued")),
        1,
        "wait 60",
    ),
    "allowed, its delegation was deleted": (
        ASKED_CHILD,
        Facts(DELEGATES, Begun.HERE, ALLOWED),
        1,
        "fail delegation child was deleted before its end was known",
    ),
    "allowed, its delegation goes on, the request is gone": (
        ASKED_CHILD,
        Facts(DELEGATES, Begun.NO, None, child("InProgress")),
        1,
        "wait 60",
    ),
    "allowed, its delegation was deleted, the request is gone": (
        ASKED_CHILD,
        Facts(DELEGATES, Begun.HERE),
        1,
        "fail delegation child was deleted before its end was known",
    ),
    "allowed and run here, the request is gone": (ASKED, Facts(RUNS, Begun.HERE), 1, "wait 60"),
    "allowed and run here, the request has expired": (ASKED, Facts(RUNS, Begun.HERE, EXPIRED), 1, "wait 60"),
    "run elsewhere, the request is gone": (
        ASKED,
        Facts(RUNS, Begun.PERHAPS),
        1,
        "fail the use of work was not allowed: PermissionRequest request was deleted",
    ),
    "to be run here": (RUN, Facts(RUNS, Begun.NO), 1, "start"),
    "runs here": (RUN, Facts(RUNS, Begun.HERE), 1, "wait 60"),
    "ran here": (RUN, Facts(RUNS, Begun.HERE, came=Response("42")), 1, "answer 42"),
    "ran here to its timeout": (RUN, Facts(RUNS, Begun.HERE), 60, "timeout 60"),
    "ran elsewhere": (
        RUN,
        Facts(RUNS, Begun.PERHAPS),
        1,
        "fail interrupted: the process that ran work ended; it may or may not have had its effect",
    ),
    "ran elsewhere, and may again": (RUN, Facts(REPEATS, Begun.PERHAPS), 1, "start"),
    "answered at once, not seen yet": (RUN, Facts(QUICK, Begun.PERHAPS), 1, "start"),
    "of a tool that is no more": (RUN, Facts(None, Begun.PERHAPS), 1, "start"),
}


def told(done: Step) -> str:
    """A step in a few words."""
    match done:
        case Answer(response):
            return f"{'answer' if response.success else 'fail'} {response.content}"
        case Start():
            return "start"
        case TimeOut(seconds):
            return f"timeout {seconds}"
        case Wait(until):
            return f"wait {(until - at(0)).total_seconds():.0f}" if until else "wait"


@pytest.mark.parametrize(("given", "facts", "now", "expected"), STEPS.values(), ids=STEPS)
def test_L14_L15_a_call_is_never_lost(given: OpenCall, facts: Facts, now: float, expected: str) -> None:
    """What came counts first, then time, then people's decision, then whether the tool may be started."""
    assert told(step(given, facts, at(now))) == expected


OUTCOMES: dict[str, tuple[dict[str, Any], str, bool]] = {
    "text": (child("Completed", result={"text": "42"}), "42", True),
    "data": (child("Completed", result={"data": {"is": "é"}}), '{"is": "é"}', True),
    "all of it": (
        child("Completed", result={"text": "see", "data": {"n": 1}, "uri": "s3://x"}),
        'see\n{"n": 1}\nThe result is at s3://x',
        True,
    ),
    "nothing": (child("Completed"), "delegation child is Completed, without a result", True),
    "empty text": (child("Completed", result={"text": ""}), "delegation child is Completed, without a result", True),
    "failed with words": (
        child("Failed", reason="AgentFailed", message="no", result={"text": "half of it"}),
        "delegation child is Failed (AgentFailed): no\nhalf of it",
        False,
    ),
    "no reason": (child("Cancelled"), "delegation child is Cancelled", False),
}


@pytest.mark.parametrize(("ended", "content", "success"), OUTCOMES.values(), ids=OUTCOMES)
def test_D8_the_end_of_a_delegation_in_words(ended: dict[str, Any], content: str, success: bool) -> None:
    """A result as text, data and address; any other end as phase, reason and message."""
    assert outcome(ended) == Response(content, success)


@pytest.mark.parametrize(
    ("ended", "content", "success"),
    [
        (DONE, "42", True),
        (child("Cancelled"), "timed out after 60 seconds", False),
        (child("Failed"), "timed out after 60 seconds", False),
        (None, "timed out after 60 seconds", False),
    ],
    ids=["Completed just then", "Cancelled", "Failed just then", "nothing was made"],
)
def test_L15_an_overdue_call(ended: dict[str, Any] | None, content: str, success: bool) -> None:
    """It timed out, unless its delegation was Completed before it could be cancelled."""
    assert too_late(60, ended) == Response(content, success)


def agent(*tools: dict[str, Any]) -> AgentRecord:
    """Agent `a` with these tools."""
    meta = {"namespace": NAMESPACE, "name": "a", "uid": "u", "resourceVersion": "1"}
    spec = {"runtime": "Model", "model": {"provider": "echo", "name": "echo"}, "tools": list(tools)}
    return AgentRecord.read({"metadata": meta, "spec": spec})


NAME = tool_call_name("uid-s", "c")
KNOWN = {"delegate": DELEGATES, "work": QUICK}
OPENED: dict[str, tuple[AgentRecord | None, str, tuple[object, ...]]] = {
    "a delegation, as long as it takes": (agent(), "delegate", (None, NAME, None)),
    "a delegation in a time": (
        agent({"name": "delegate", "timeoutSeconds": 5, "agents": ["b"]}),
        "delegate",
        (5, NAME, None),
    ),
    "a tool": (agent(), "work", (DEFAULT_TIMEOUT_SECONDS, None, None)),
    "a tool in a time": (agent({"name": "work", "timeoutSeconds": 7}), "work", (7, None, None)),
    "people are asked": (agent({"name": "work", "permission": "Ask"}), "work", (DEFAULT_TIMEOUT_SECONDS, None, NAME)),
    "denied": (agent({"name": "work", "permission": "Deny"}), "work", (DEFAULT_TIMEOUT_SECONDS, None, None)),
    "unknown": (agent({"name": "what", "permission": "Ask"}), "what", (DEFAULT_TIMEOUT_SECONDS, None, None)),
    "the agent is gone": (None, "work", (DEFAULT_TIMEOUT_SECONDS, None, None)),
}


@pytest.mark.parametrize(("given", "tool", "expected"), OPENED.values(), ids=OPENED)
def test_an_opened_call(given: AgentRecord | None, tool: str, expected: tuple[object, ...]) -> None:
    """Its timeout is the Agent's, else the tool's; what it makes is named after session and call."""
    (made,) = opened("uid-s", given, [use("c", tool).wire()], KNOWN, at(3))
    assert (made.id, made.tool, made.started) == ("c", tool, at(3))
    assert (made.timeout, made.delegation, made.permission) == expected
    assert OpenToolCall.model_validate(call_wire(made)).id == "c"


def test_L15_a_stray_response_is_one_that_nothing_waits_for() -> None:
    """The first response of an open call is none; a second one is, and one to a call that isn't open; not while the
    model is asked, whose answer may open it, and not what was parked already."""
    first, again, other = mail("1").answering("c"), mail("2").answering("c"), mail("3").answering("x")
    parked, user = mail("4").answering("x").returned(MessagePhase.PARKED), mail("5")
    letters = [one.record for one in (other, again, first, parked, user)]
    found = {
        "executing": strays(session().executing("c").record, letters),
        "idle": strays(session().record, letters),
        "awaiting": strays(session().awaiting().record, letters),
    }
    assert {phase: [m.ref.name for m in stray] for phase, stray in found.items()} == {
        "executing": ["2", "3"],
        "idle": ["1", "2", "3"],
        "awaiting": [],
    }
