"""What `belay why` says: queue, slots, sessions, times and advice, from facts as tables (pure)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from belay_api.times import to_wire
from belay_client.durations import age
from belay_client.proving import End, end_of, last_line, steps
from belay_client.waiting import Facts, next_offer, place
from belay_client.why import Report
from belay_kube.client import Json

TO_DO = "wait for a slot; or raise its spec.priority (kubectl edit dlg mine), or spec.maxActiveDelegations of agent a"
NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    """A time on the wire, so many seconds before now."""
    return to_wire(NOW - timedelta(seconds=seconds))


def delegation(name: str, phase: str | None = None, spec: Json | None = None, **status: Any) -> Json:
    """One delegation to agent `a`, made ten minutes ago."""
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "creationTimestamp": "2026-01-02T11:50:00Z",
        },
        "spec": {"agentRef": {"name": "a"}, "task": {"prompt": "p"}, **(spec or {})},
        "status": {**({"phase": phase} if phase else {}), **status},
    }


def queued(name: str, waits: float, priority: int = 0, **status: Any) -> Json:
    """One that waits for a slot since so many seconds."""
    known = {"reason": "AgentBusy", "message": "agent a has its 1 slots in use", "queuedTime": at(waits)}
    return delegation(name, "Queued", {"priority": priority}, **(known | status))


def agent(slots: int = 1, **status: Any) -> Json:
    """Agent `a`."""
    return {"metadata": {"name": "a"}, "spec": {"runtime": "Channel", "maxActiveDelegations": slots}, "status": status}


def row(session: str, phase: str = "Live", **status: Any) -> Json:
    """One session of it."""
    return {"spec": {"agentRef": {"name": "a"}, "sessionId": session}, "status": {"phase": phase, **status}}


def said(facts: Facts) -> list[str]:
    """The lines, with single spaces."""
    return [" ".join(line.split()) for line in Report.of(facts, NOW).lines()]


def test_D4_the_place_is_known_beyond_the_tenth() -> None:
    """Priority first, then waiting time, then name; far behind the ten that the status shows."""
    queue = [queued(f"d{number:02}", waits=100 - number) for number in range(40)]
    queue += [queued("urgent", waits=1, priority=5), delegation("running", "InProgress")]
    places = {o["metadata"]["name"]: place(Facts(o, agent(), queue), NOW) for o in queue}
    assert places["running"] is None
    assert {name: found.position for name, found in places.items() if found and name in ("urgent", "d00", "d39")} == {
        "urgent": 1,
        "d00": 2,
        "d39": 41,
    }
    assert all(found.of == 41 for found in places.values() if found)


def test_D4_what_is_about_to_leave_the_queue_takes_no_place() -> None:
    """To be cancelled, or handed back: as the operator counts."""
    mine = queued("mine", waits=1)
    leaving = delegation("leaving", "Queued", {"desiredState": "Cancelled"}, queuedTime=at(50))
    returned = queued("returned", waits=50, reason="AgentFailed", dispatchedTime=at(60))
    found = place(Facts(mine, agent(), [mine, leaving, returned]), NOW)
    assert found is not None
    assert (found.position, found.of) == (1, 1)


def test_D4_why_a_busy_agent_lets_it_wait() -> None:
    """Head, reason, place, what holds the slots, sessions, deadline, what to do."""
    mine = queued("mine", waits=252, deadline=at(-3600))
    holder = delegation("holder", "InProgress", acceptedTime=at(180), progress={"percent": 40})
    first = queued("first", waits=300)
    facts = Facts(mine, agent(1), [first, holder, mine], [row("s1"), row("old", "Disconnected")])
    assert said(facts) == [
        "mine is Queued (AgentBusy) since 4m12s",
        "why agent a has its 1 slots in use",
        "queue number 2 of 2, by priority, then by waiting time",
        "slots 1 of 1 in use: holder (InProgress 40% 3m)",
        "sessions 1 attached: s1",
        "deadline 2026-01-02T13:00:00Z, in 1h",
        f"to do {TO_DO}",
    ]
    shown = Report.of(facts, NOW).as_json()
    assert (shown["queue"], shown["slots"]) == ({"position": 2, "of": 2}, {"used": 1, "of": 1})
    assert (shown["heldBy"], shown["sessions"], shown["since"]) == (["holder"], ["s1"], "2026-01-02T11:55:48Z")


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        pytest.param(Facts(delegation("d")), "see that Belay's operator runs", id="not yet seen"),
        pytest.param(
            Facts(delegation("d", "Pending", reason="AgentNotFound", message="agent a does not exist: create it")),
            "create what it names",
            id="missing agent",
        ),
        pytest.param(
            Facts(queued("d", 1, reason="AgentOffline"), agent(offlineSince=at(90))),
            "sessions none attached, for 1m30s",
            id="offline",
        ),
        pytest.param(
            Facts(queued("d", 1, reason="AgentOffline"), agent()), "belay agent run a --exec", id="offline, to do"
        ),
        pytest.param(
            Facts(queued("d", 1, reason="ProviderUnknown"), agent()),
            "set spec.model.provider of agent a to one that there is",
            id="unknown provider",
        ),
        pytest.param(
            Facts(queued("d", 1, reason="AgentUnresponsive"), agent(), rows=[row("s", unresponsive=True)]),
            "s (has work it doesn't answer for)",
            id="unresponsive",
        ),
        pytest.param(
            Facts(queued("d", 1, reason="AgentUnresponsive"), agent(), [delegation("w", "Stuck")], [row("s")]),
            "stuck 1: w",
            id="stuck work in the way",
        ),
        pytest.param(
            Facts(queued("d", 1, reason="AgentSuspended"), agent()), "spec.suspend of agent a", id="suspended"
        ),
        pytest.param(
            Facts(queued("d", 5, reason="NoHeartbeat", attempt=2), agent()),
            "attempt 2, retry.maxAttempts is 1",
            id="2nd",
        ),
        pytest.param(
            Facts(queued("d", 5, reason="NotAccepted", attempt=1), agent()),
            "not before 2026-01-02T12:00:05Z, in 5s",
            id="D7 backs off",
        ),
        pytest.param(
            Facts(delegation("d", "Stuck", reason="NoHeartbeat", message="no heartbeat for 601s"), agent()),
            "belay retry d makes the next attempt",
            id="S12 stuck",
        ),
        pytest.param(
            Facts(delegation("d", "Queued", {"desiredState": "Cancelled"}, reason="AgentBusy"), agent()),
            "cancel asked for; the operator has not got to it yet",
            id="D9 cancel asked for",
        ),
        pytest.param(
            Facts(delegation("d", "InProgress", progress={"message": "reading\x1b[31m"}), agent()),
            "progress reading [31m",
            id="control characters",
        ),
        pytest.param(
            Facts(delegation("d", "Failed", reason="AgentFailed", message="no idea", sessionId="s")),
            "ended by its agent, session s",
            id="failed by its agent",
        ),
        pytest.param(
            Facts(delegation("d", "Failed", reason="DeadlineExceeded")),
            "ended by the operator, at its deadline",
            id="late",
        ),
        pytest.param(
            Facts(delegation("d", "Failed", reason="ModelFailed")),
            "ended by the operator, when its model could not be reached",
            id="L9 no model",
        ),
        pytest.param(
            Facts(delegation("d", "Failed", reason="SessionMismatch")),
            "ended by the operator: its session is not one of its agent",
            id="another agent's session",
        ),
        pytest.param(
            Facts(delegation("d", "Failed", reason="SessionDeleted")),
            "ended by the operator, when its AgentSession was deleted",
            id="session deleted",
        ),
        pytest.param(
            Facts(delegation("d", "Cancelled", reason="ParentCancelled")),
            "ended by the cancel of its parent",
            id="above",
        ),
        pytest.param(
            Facts(queued("d", 1), None, hidden=("agents",)), "not seen you may not look at agents", id="no right"
        ),
    ],
)
def test_what_is_said(facts: Facts, says: str) -> None:
    """For each state what stands in the way, and what to do."""
    assert says in "\n".join(said(facts))


def test_D7_backoff_is_the_operators() -> None:
    """A new attempt waits for what was asked, doubled; what waits for a slot doesn't back off."""
    again = queued("d", 0, reason="NoHeartbeat", attempt=3)
    again["spec"]["retry"] = {"maxAttempts": 5, "backoffSeconds": 10}
    until = next_offer(again)
    assert until is not None
    assert NOW + timedelta(seconds=20) <= until <= NOW + timedelta(seconds=23)
    assert next_offer(queued("d", 0)) is None


def conditions(*kinds: str) -> list[Json]:
    """Conditions that are True since a minute."""
    return [
        {"type": k, "status": "True", "message": f"m{n}", "lastTransitionTime": at(60)} for n, k in enumerate(kinds)
    ]


REQUESTED = ("Finished", "CancelRequested")
ALL = (*REQUESTED, "CancelDelivered", "CancelAcknowledged")


@pytest.mark.parametrize(
    ("obj", "end", "line"),
    [
        pytest.param(delegation("d", "InProgress", sessionId="s"), None, None, id="not ended"),
        pytest.param(
            delegation("d", "Cancelled", reason="Cancelled", conditions=conditions(*REQUESTED)),
            End.STOPPED,
            "nothing was working on it",
            id="never sent",
        ),
        pytest.param(
            delegation("d", "Cancelled", sessionId="s", conditions=conditions(*REQUESTED)),
            None,
            "session s has not yet said that it stopped",
            id="requested",
        ),
        pytest.param(
            delegation("d", "Cancelled", sessionId="s", conditions=conditions(*REQUESTED, "CancelDelivered")),
            None,
            "session s has not yet said that it stopped",
            id="delivered",
        ),
        pytest.param(
            delegation("d", "Cancelled", sessionId="s", conditions=conditions(*ALL)),
            End.STOPPED,
            "session s has stopped working on it",
            id="acknowledged",
        ),
        pytest.param(
            delegation("d", "Completed", reason="Completed", sessionId="s"),
            End.ENDED_OTHERWISE,
            "it is Completed",
            id="completed",
        ),
        pytest.param(
            delegation("d", "Failed", reason="AgentFailed", sessionId="s"),
            End.ENDED_OTHERWISE,
            "it is Failed",
            id="failed",
        ),
        pytest.param(
            delegation("d", "Failed", reason="DeadlineExceeded", sessionId="s"),
            None,
            "Failed",
            id="overdue, still held",
        ),
    ],
)
def test_D9_how_a_cancel_ended(obj: Json, end: End | None, line: str | None) -> None:
    """Over when it was acknowledged, or when nobody has to answer; each end in a sentence."""
    assert end_of(obj) is end
    if line is not None:
        assert line in last_line(obj)


def test_D9_the_steps_come_in_their_order() -> None:
    """Requested, delivered, acknowledged, whatever order the conditions have; False ones are none."""
    obj = delegation("d", "Cancelled", sessionId="s", conditions=list(reversed(conditions(*ALL))))
    assert [step.word for step in steps(obj)] == ["requested", "delivered", "acknowledged"]
    obj["status"]["conditions"][0]["status"] = "False"
    assert [step.word for step in steps(obj)] == ["requested", "delivered"]


def test_D9_why_tells_the_proof_so_far() -> None:
    """Who owes the last step, and whether it is there to be told."""
    told = conditions(*REQUESTED)
    obj = delegation("d", "Cancelled", reason="Cancelled", sessionId="s", gateway="g", conditions=told)
    assert "cancel not acknowledged: session s is not attached" in said(Facts(obj))
    assert "cancel not acknowledged: session s is attached" in said(Facts(obj, rows=[row("s")]))
    assert "cancel requested: m1, 1m ago" in said(Facts(obj))
    assert Report.of(Facts(obj), NOW).as_json()["acknowledgementAwaited"] is True


def test_D9_why_tells_of_a_session_that_belay_drives_itself() -> None:
    """Nothing attaches: its round is cut short. Before that its prompt is brought to it."""
    told = conditions(*REQUESTED)
    facts = Facts(delegation("d", "Cancelled", reason="Cancelled", sessionId="s", conditions=told))
    assert "cancel not acknowledged: AgentSession s has not been cut short yet" in said(facts)
    assert any(line.startswith("to do nothing: the round of AgentSession s") for line in said(facts))
    offered = said(Facts(delegation("d", "Dispatched", reason="Dispatched", sessionId="s")))
    assert any("into the mailbox of AgentSession s" in line for line in offered)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0s"), (0, "0s"), (59.9, "59s"), (252, "4m12s"), (3600, "1h"), (90061, "1d1h")]
)
def test_ages(seconds: float, text: str) -> None:
    """Two parts at most."""
    assert age(timedelta(seconds=seconds)) == text
