"""The rules of a holder's actions, without an API server: from a sentence to what is written (D2, D3, D10, D12)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from belay_api.actions import Accept, Cancelled, Complete, Fail, Heartbeat, HeldAttempt, ProgressMade, Release
from belay_api.delegation import Progress, Result
from belay_api.messages import ErrorCode
from belay_api.times import to_wire
from belay_api.transitions import Phase, Writer, allowed
from belay_gateway.cases import Case
from belay_gateway.held import adopted, forgotten, is_held, is_unacknowledged, resume_verdict
from belay_gateway.holdings import left_frame
from belay_gateway.judging import decide
from belay_gateway.objects import ended_by_others
from belay_gateway.verdicts import Asker, Change, NoChange, Refusal, Verdict

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ME = Asker("a", "s1", "gw")
ACCEPT = Accept(name="d", attempt=1)
BEAT = Heartbeat(name="d", attempt=1)
HALF = ProgressMade(name="d", attempt=1, progress=Progress(percent=50))
DONE = Complete(name="d", attempt=1, result=Result(text="ok"))
LOST = Fail(name="d", attempt=1, message="no")
STOPPED = Cancelled(name="d", attempt=1)
BACK = Release(name="d", attempt=1, message="busy")
ALL = (ACCEPT, BEAT, HALF, DONE, LOST, STOPPED, BACK)
REPLIES = (BEAT, HALF, DONE, LOST, BACK)


def ago(seconds: float) -> str:
    """A time before now, on the wire."""
    return to_wire(NOW - timedelta(seconds=seconds))


def work(phase: str | None = None, holder: str | None = None, **status: Any) -> dict[str, Any]:
    """A delegation to agent a, at attempt 1 unless said otherwise."""
    spec = status.pop("spec", {})
    known = {"phase": phase, "sessionId": holder, "attempt": 1, "gateway": "gw" if holder else None, **status}
    return {
        "metadata": {"name": "d", "namespace": "ns", "uid": "u", "resourceVersion": "1"},
        "spec": {"agentRef": {"name": "a"}, "task": {"prompt": "p"}, **spec},
        "status": {key: value for key, value in known.items() if value is not None},
    }


def on(delegation: dict[str, Any], action: Any, pending: Progress | None = None) -> Verdict:
    """The verdict for session s1 now, with the default threshold."""
    return decide(Case(delegation, ME, action, NOW, 600, pending))


def written(verdict: Verdict) -> dict[str, Any]:
    """What is written."""
    assert isinstance(verdict, Change), verdict
    return verdict.status


def code(verdict: Verdict) -> ErrorCode:
    """Why it is refused."""
    assert isinstance(verdict, Refusal), verdict
    assert verdict.message
    return verdict.code


@pytest.mark.parametrize("action", [ACCEPT, BEAT, HALF], ids=lambda a: a.action)
def test_D7_first_sign_of_life_takes_the_offer(action: Any) -> None:
    """Accept, beat and progress on an offer make the session its holder."""
    status = written(on(work("Dispatched"), action))
    assert (status["phase"], status["sessionId"], status["gateway"]) == ("InProgress", "s1", "gw")
    assert status["acceptedTime"] == to_wire(NOW)
    assert ("lastHeartbeatTime" in status) == (action is not ACCEPT)


@pytest.mark.parametrize("phase", ["Dispatched", "InProgress", "Stuck"])
@pytest.mark.parametrize("action", [DONE, LOST], ids=lambda a: a.action)
def test_D12_result_ends_it_from_any_held_phase(phase: str, action: Any) -> None:
    """One write, with the conditions, and foreign conditions kept."""
    foreign = {"type": "Foreign", "status": "True", "reason": "R", "message": "", "lastTransitionTime": ago(9)}
    delegation = work(phase, None if phase == "Dispatched" else "s1", conditions=[foreign])
    status = written(on(delegation, action))
    ended = ("Completed", "Completed") if action is DONE else ("Failed", "AgentFailed")
    assert (status["phase"], status["reason"]) == ended
    assert (status["completionTime"], status["sessionId"]) == (to_wire(NOW), "s1")
    kinds = {c["type"]: c["status"] for c in status["conditions"]}
    assert kinds == {"Foreign": "True", "Finished": "True", **({"Complete": "True"} if action is DONE else {})}


@pytest.mark.parametrize("action", [DONE, LOST], ids=lambda a: a.action)
def test_D12_late_reply_to_an_offer_that_was_taken_back(action: Any) -> None:
    """Queued again without a new attempt: the result of that attempt counts."""
    status = written(on(work("Queued", dispatchedTime=ago(700), queuePosition=2), action))
    assert (status["phase"] in ("Completed", "Failed"), status["queuePosition"]) == (True, None)


@pytest.mark.parametrize("action", [DONE, LOST], ids=lambda a: a.action)
def test_D12_never_offered_work_takes_no_reply(action: Any) -> None:
    """Nobody can have done what was offered to nobody."""
    assert code(on(work("Queued"), action)) == ErrorCode.SUPERSEDED


def test_D2_the_same_again_is_acknowledged() -> None:
    """Each action whose effect stands already writes nothing."""
    completed = work("Completed", "s1", reason="Completed", result={"text": "ok"})
    failed = work("Failed", "s1", reason="AgentFailed", message="no")
    assert on(work("InProgress", "s1"), ACCEPT) == NoChange()
    assert on(work("Stuck", "s1"), ACCEPT) == NoChange()
    assert on(completed, DONE) == NoChange()
    assert on(failed, LOST) == NoChange()
    acknowledged = written(on(work("Cancelled", "s1"), STOPPED))
    assert on(work("Cancelled", "s1", **acknowledged), STOPPED) == NoChange()


def test_D2_another_result_is_not_a_replay() -> None:
    """What ended stays as it ended."""
    completed = work("Completed", "s1", reason="Completed", result={"text": "other"})
    assert code(on(completed, DONE)) == ErrorCode.SUPERSEDED
    assert code(on(completed, LOST)) == ErrorCode.SUPERSEDED
    assert code(on(work("Failed", "s1", reason="DeadlineExceeded", message="no"), LOST)) == ErrorCode.SUPERSEDED


@pytest.mark.parametrize("phase", ["Completed", "Failed", "Cancelled"])
@pytest.mark.parametrize("action", [ACCEPT, *REPLIES], ids=lambda a: a.action)
def test_D10_after_the_end_superseded(phase: str, action: Any) -> None:
    """The sentence names the end, its reason and what to do."""
    verdict = on(work(phase, "s1", reason="DeadlineExceeded"), action)
    assert code(verdict) == ErrorCode.SUPERSEDED
    assert isinstance(verdict, Refusal)
    assert verdict.message == f"already {phase} (DeadlineExceeded): stop working on it"


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.PENDING])
@pytest.mark.parametrize("action", [ACCEPT, *REPLIES], ids=lambda a: a.action)
def test_D10_old_attempt_superseded(phase: str, action: Any) -> None:
    """Whatever the phase."""
    assert code(on(work(phase, "s1", attempt=2), action)) == ErrorCode.SUPERSEDED


@pytest.mark.parametrize("phase", ["InProgress", "Stuck"])
def test_D10_only_the_holder(phase: str) -> None:
    """Another session's work is taken, or not the asker's."""
    assert code(on(work(phase, "s2"), ACCEPT)) == ErrorCode.TAKEN
    for action in REPLIES:
        assert code(on(work(phase, "s2"), action)) == ErrorCode.NOT_HOLDER


@pytest.mark.parametrize("action", ALL, ids=lambda a: a.action)
def test_D10_of_another_agent_or_session(action: Any) -> None:
    """Another agent's work is as if it weren't there; an addressed offer is for its session only."""
    assert code(on(work("Dispatched", spec={"agentRef": {"name": "b"}}), action)) == ErrorCode.NOT_FOUND
    assert code(on(work("Dispatched", spec={"sessionId": "s2"}), action)) == ErrorCode.NOT_HOLDER


def test_offer_that_is_being_cancelled_is_not_taken() -> None:
    """An accept would only be undone."""
    assert code(on(work("Dispatched", spec={"desiredState": "Cancelled"}), ACCEPT)) == ErrorCode.SUPERSEDED


BEATS: dict[str, tuple[dict[str, Any], Any, bool]] = {
    "first of the attempt": ({}, BEAT, True),
    "a quarter of the threshold passed": ({"lastHeartbeatTime": ago(150)}, BEAT, True),
    "not yet": ({"lastHeartbeatTime": ago(149)}, BEAT, False),
    "new progress after 5 s": ({"lastHeartbeatTime": ago(5)}, HALF, True),
    "new progress too soon": ({"lastHeartbeatTime": ago(4)}, HALF, False),
    "the same progress": ({"lastHeartbeatTime": ago(60), "progress": {"percent": 50}}, HALF, False),
    "through another gateway": ({"lastHeartbeatTime": ago(1), "gateway": "gw2"}, BEAT, True),
}


@pytest.mark.parametrize("name", BEATS)
def test_beats_are_written_when_they_tell_something(name: str) -> None:
    """First, due, or changed; all others are acknowledged only."""
    status, action, due = BEATS[name]
    assert isinstance(on(work("InProgress", "s1", **status), action), Change) == due


def test_unwritten_progress_goes_with_the_next_due_beat() -> None:
    """What came too soon is remembered, and written by a plain beat later."""
    early = on(work("InProgress", "s1", lastHeartbeatTime=ago(1)), HALF)
    assert early == NoChange(Progress(percent=50))
    later = written(on(work("InProgress", "s1", lastHeartbeatTime=ago(6)), BEAT, Progress(percent=50)))
    assert later["progress"] == {"percent": 50, "message": None}


def test_S12_beat_of_stuck_work_resumes_it() -> None:
    """Stuck work whose agent shows life is in progress again."""
    status = written(on(work("Stuck", "s1", lastHeartbeatTime=ago(900)), BEAT))
    assert (status["phase"], status["reason"], status["lastHeartbeatTime"]) == ("InProgress", "Resumed", to_wire(NOW))


TOO_LARGE = {
    "text in bytes": Result(text="\u00e9" * 32_769),
    "data": Result(data={"x": "x" * 65_529}),
    "text and data": Result(text="x" * 40_000, data={"x": ["\u00e9" * 20_000]}),
}


@pytest.mark.parametrize("result", TOO_LARGE.values(), ids=TOO_LARGE)
def test_D6_too_large_result_is_refused(result: Result) -> None:
    """Counted in bytes of UTF-8, not in characters, text and data together; the refusal says what to do."""
    verdict = on(work("InProgress", "s1"), Complete(name="d", attempt=1, result=result))
    assert code(verdict) == ErrorCode.TOO_LARGE
    assert isinstance(verdict, Refusal)
    assert "reply with a uri" in verdict.message


def test_D8_result_with_data_is_written_and_replayed() -> None:
    """The largest that fits; the same reply again is a no-op, as its nulls were left out the first time too (D2)."""
    action = Complete(name="d", attempt=1, result=Result(data={"x": "x" * 65_528, "none": None}))
    result = written(on(work("InProgress", "s1"), action))["result"]
    assert result == {"data": {"x": "x" * 65_528}}
    completed = work("Completed", "s1", reason="Completed", result=result)
    assert on(completed, action) == NoChange()


def test_D9_acknowledgement_is_for_ended_work_of_the_holder() -> None:
    """A proof that something stopped needs something that was ended."""
    status = written(on(work("Cancelled", "s1"), STOPPED))
    assert [(c["type"], c["status"]) for c in status["conditions"]] == [("CancelAcknowledged", "True")]
    assert set(status) == {"conditions"}
    assert code(on(work("InProgress", "s1"), STOPPED)) == ErrorCode.INVALID
    assert code(on(work("Cancelled", "s2"), STOPPED)) == ErrorCode.NOT_HOLDER
    assert on(work("Dispatched", attempt=2), STOPPED) == NoChange()
    assert on(work("Completed", "s1", reason="Completed"), STOPPED) == NoChange()
    assert on(work("Failed", "s1", reason="AgentFailed"), STOPPED) == NoChange()


@pytest.mark.parametrize("action", [ACCEPT, BEAT, HALF], ids=lambda a: a.action)
def test_D9_offer_that_is_being_cancelled_is_not_taken(action: Any) -> None:
    """Whichever sign of life would take it; a result is still welcome."""
    leaving = work("Dispatched", spec={"desiredState": "Cancelled"})
    assert code(on(leaving, action)) == ErrorCode.SUPERSEDED
    assert written(on(leaving, DONE))["phase"] == "Completed"


@pytest.mark.parametrize("phase", [None, *Phase])
@pytest.mark.parametrize("holder", [None, "s1", "s2"])
@pytest.mark.parametrize("action", ALL, ids=lambda a: a.action)
def test_D1_no_verdict_draws_an_arrow_that_isnt_the_gateways(
    phase: str | None, holder: str | None, action: Any
) -> None:
    """Every phase, holder and action: what is written is an arrow of the gateway, or no arrow."""
    delegation = work(phase, holder, dispatchedTime=ago(10), reason="X")
    verdict = on(delegation, action)
    if isinstance(verdict, Change) and "phase" in verdict.status:
        source, target = Phase(phase or "Pending"), Phase(verdict.status["phase"])
        assert source == target or allowed(source, target, Writer.GATEWAY)


RETRIED = {"retry": {"maxAttempts": 2}}
"""One more attempt may follow the first."""


@pytest.mark.parametrize("phase", ["Dispatched", "InProgress", "Stuck"])
@pytest.mark.parametrize("action", [LOST, BACK], ids=lambda a: a.action)
def test_D10_what_may_be_tried_again_is_handed_back_not_ended(phase: str, action: Any) -> None:
    """The phase stays, an offer counts as accepted first; the reason and the words are the agent's."""
    status = written(on(work(phase, None if phase == "Dispatched" else "s1", spec=RETRIED), action))
    expected = ("AgentFailed", "no") if action is LOST else ("Released", "busy")
    assert (status["reason"], status["message"]) == expected
    assert status["phase"] == ("InProgress" if phase == "Dispatched" else phase)
    assert not {"completionTime", "conditions"} & status.keys()


FAILS: dict[str, tuple[dict[str, Any], str]] = {
    "attempts remain": ({"spec": RETRIED}, "InProgress"),
    "no retry asked for": ({}, "Failed"),
    "none remains": ({"spec": RETRIED, "failures": 1}, "Failed"),
    "released ones don't count": ({"spec": RETRIED, "failures": 0}, "InProgress"),
    "failures are retried": ({"spec": {"retry": {"maxAttempts": 2, "on": ["AgentFailed"]}}}, "InProgress"),
    "failures are not retried": ({"spec": {"retry": {"maxAttempts": 2, "on": ["AgentLost"]}}}, "Failed"),
}


@pytest.mark.parametrize("name", FAILS)
def test_D10_a_fail_ends_it_unless_its_retry_says_otherwise(name: str) -> None:
    """Terminal is for ever, so the gateway must not write it while another attempt may follow."""
    status, phase = FAILS[name]
    assert written(on(work("InProgress", "s1", **status), LOST))["phase"] == phase


def test_D12_a_late_fail_of_an_offer_taken_back_is_handed_back_from_the_queue() -> None:
    """The gateway may not take it out of the queue, and need not."""
    status = written(on(work("Queued", dispatchedTime=ago(700), spec=RETRIED), LOST))
    assert status == {"phase": "Queued", "reason": "AgentFailed", "message": "no", "sessionId": "s1"}
    assert code(on(work("Queued", spec=RETRIED), LOST)) == ErrorCode.SUPERSEDED


def test_D2_a_late_fail_again_is_acknowledged_and_changes_nothing() -> None:
    """A client whose acknowledgement got lost says it once more, and is not told that it was superseded."""
    given_up = work("Queued", "s1", dispatchedTime=ago(700), spec=RETRIED, reason="AgentFailed", message="no")
    assert on(given_up, LOST) == NoChange()


@pytest.mark.parametrize("reason", ["AgentFailed", "AgentForgot", "Released"])
@pytest.mark.parametrize("phase", ["InProgress", "Stuck"])
@pytest.mark.parametrize("action", [ACCEPT, *REPLIES], ids=lambda a: a.action)
def test_D10_late_frames_of_an_attempt_that_was_handed_back_are_superseded(
    reason: str, phase: str, action: Any
) -> None:
    """It is held by nobody any more, not even by the session that gave it up."""
    given_up = work(phase, "s1", reason=reason, message="other words", spec=RETRIED)
    assert code(on(given_up, action)) == ErrorCode.SUPERSEDED
    assert not is_held(given_up, ME)
    assert on(given_up, STOPPED) == NoChange()


def test_D2_giving_up_twice_is_acknowledged() -> None:
    """The same words on the same attempt write nothing."""
    assert on(work("InProgress", "s1", reason="AgentFailed", message="no", spec=RETRIED), LOST) == NoChange()
    assert on(work("InProgress", "s1", reason="Released", message="busy"), BACK) == NoChange()


def test_release_of_what_cannot_be_given_back_is_refused() -> None:
    """Waiting, ended, another's, or being cancelled; and without words the session is named."""
    assert code(on(work("Queued", dispatchedTime=ago(700)), BACK)) == ErrorCode.SUPERSEDED
    assert code(on(work("Completed", "s1"), BACK)) == ErrorCode.SUPERSEDED
    assert code(on(work("InProgress", "s2"), BACK)) == ErrorCode.NOT_HOLDER
    assert code(on(work("Dispatched", spec={"desiredState": "Cancelled"}), BACK)) == ErrorCode.SUPERSEDED
    wordless = on(work("InProgress", "s1"), Release(name="d", attempt=1))
    assert written(wordless)["message"] == "released by session s1"


def test_C9_forgotten_work_is_handed_back_once_and_by_its_holder_only() -> None:
    """Same phase, reason AgentForgot; nothing for another's, ended, or given-up work."""
    assert written(forgotten(work("Stuck", "s1"), ME)) == {
        "phase": "Stuck",
        "reason": "AgentForgot",
        "message": "session s1 of agent a resumed without it",
    }
    assert forgotten(work("InProgress", "s2"), ME) == NoChange()
    assert forgotten(work("Cancelled", "s1"), ME) == NoChange()
    assert forgotten(work("InProgress", "s1", reason="Released"), ME) == NoChange()


RESUMES: dict[str, tuple[dict[str, Any] | None, str]] = {
    "held": (work("InProgress", "s1"), "continue"),
    "stuck": (work("Stuck", "s1"), "continue"),
    "handed back": (work("InProgress", "s1", reason="Released"), "superseded"),
    "ended": (work("Cancelled", "s1"), "cancelled"),
    "completed": (work("Completed", "s1"), "cancelled"),
    "next attempt": (work("InProgress", "s1", attempt=2), "superseded"),
    "another holder": (work("InProgress", "s2"), "superseded"),
    "still on offer": (work("Dispatched"), "superseded"),
    "gone": (None, "unknown"),
    "another agent's": (work("InProgress", "s1", spec={"agentRef": {"name": "b"}}), "unknown"),
}


@pytest.mark.parametrize("name", RESUMES)
def test_C9_resume_verdicts(name: str) -> None:
    """What becomes of one held attempt."""
    delegation, verdict = RESUMES[name]
    assert resume_verdict(delegation, ME, HeldAttempt(name="d", attempt=1)) == verdict


def test_adoption_moves_held_work_only() -> None:
    """The gateway of a held delegation follows its session."""
    assert adopted(work("InProgress", "s1", gateway="gw2"), ME) == Change({"gateway": "gw"})
    assert adopted(work("InProgress", "s1"), ME) == NoChange()
    assert adopted(work("InProgress", "s2", gateway="gw2"), ME) == NoChange()
    assert adopted(work("Completed", "s1", gateway="gw2"), ME) == NoChange()


def test_D9_ends_that_the_agent_must_hear_of() -> None:
    """Cancelled and failed by others, of work that had a holder."""
    assert ended_by_others(work("Cancelled", "s1"))
    assert ended_by_others(work("Failed", "s1", reason="DeadlineExceeded"))
    assert not ended_by_others(work("Failed", "s1", reason="AgentFailed"))
    assert not ended_by_others(work("Completed", "s1"))
    assert not ended_by_others(work("Cancelled"))
    assert is_unacknowledged(work("Cancelled", "s1"))


def test_D9_what_a_holder_is_told_when_its_work_leaves() -> None:
    """Deleted, queued again, or still its own through another gateway."""
    known = work("InProgress", "s1")
    deleted = left_frame(known, None)
    assert deleted
    assert (deleted.phase, deleted.reason) == ("Cancelled", "Deleted")
    queued = left_frame(known, work("Queued", attempt=2, reason="Released"))
    assert queued
    assert (queued.phase, queued.reason, queued.attempt) == ("Queued", "Released", 1)
    assert left_frame(known, work("InProgress", "s1", gateway="gw2")) is None
