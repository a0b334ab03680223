"""The rules of a holder's actions, without an API server: from a sentence to what is written (D2, D3, D10, D12)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from belay_api.delegation import Progress, Result
from belay_api.frames import Accept, Cancelled, Complete, ErrorCode, Fail, Heartbeat, HeldAttempt, ProgressMade
from belay_api.times import to_wire
from belay_api.transitions import Phase, Writer, allowed
from belay_gateway.held import adopted, is_unacknowledged, resume_verdict
from belay_gateway.holdings import left_frame
from belay_gateway.objects import ended_by_others
from belay_gateway.verdicts import Asker, Case, Change, NoChange, Refusal, Verdict, decide

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ME = Asker("a", "s1", "gw")
ACCEPT = Accept(name="d", attempt=1)
BEAT = Heartbeat(name="d", attempt=1)
HALF = ProgressMade(name="d", attempt=1, progress=Progress(percent=50))
DONE = Complete(name="d", attempt=1, result=Result(text="ok"))
LOST = Fail(name="d", attempt=1, message="no")
STOPPED = Cancelled(name="d", attempt=1)
ALL = (ACCEPT, BEAT, HALF, DONE, LOST, STOPPED)
REPLIES = (BEAT, HALF, DONE, LOST)


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


def test_too_large_result_is_refused() -> None:
    """Counted in bytes of UTF-8, not in characters."""
    action = Complete(name="d", attempt=1, result=Result(text="\u00e9" * 32_769))
    assert code(on(work("InProgress", "s1"), action)) == ErrorCode.TOO_LARGE


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


RESUMES: dict[str, tuple[dict[str, Any] | None, str]] = {
    "held": (work("InProgress", "s1"), "continue"),
    "stuck": (work("Stuck", "s1"), "continue"),
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
