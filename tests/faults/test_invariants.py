"""The judge of the fault tests can find fault: each invariant with a history that keeps it and one that breaks it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from belay_api.times import to_wire, to_wire_seconds
from belay_kube.client import Json
from faults.audit import MOST_FOR_NOTHING, Asked, asked, restless
from faults.invariants import NOTHING, Excused, happened, judged
from installation import OPERATOR

BORN = datetime(2030, 1, 1, tzinfo=UTC)
DUE = 60
MANY = 3 * MOST_FOR_NOTHING


def at(seconds: float) -> datetime:
    """So long after the delegation was made."""
    return BORN + timedelta(seconds=seconds)


def version(phase: str, **status: Any) -> Json:
    """One version of delegation `d`, due after a minute."""
    meta = {"name": "d", "generation": 1, "creationTimestamp": to_wire_seconds(BORN)}
    return {"metadata": meta, "spec": {"deadline": to_wire(at(DUE))}, "status": {"phase": phase, **status}}


def held(session: str = "s", attempt: int = 1, **status: Any) -> Json:
    """In hand."""
    return version("InProgress", sessionId=session, attempt=attempt, **status)


def ended(seconds: float, phase: str = "Completed", reason: str = "Completed") -> Json:
    """Ended so long after it was made."""
    return version(phase, reason=reason, sessionId="s", attempt=1, completionTime=to_wire(at(seconds)))


@pytest.mark.parametrize(
    ("run", "now", "excused", "broken"),
    [
        pytest.param([held(), ended(5)], 10, NOTHING, None, id="done in time"),
        pytest.param([held("s"), held("t")], 10, NOTHING, "I1", id="two holders of one attempt"),
        pytest.param([held("s"), held("t", 2)], 10, Excused(lost={"d"}), None, id="a holder for each attempt"),
        pytest.param([ended(5), held()], 10, NOTHING, "I2", id="it lives again"),
        pytest.param([ended(5), ended(6)], 10, NOTHING, "I2", id="it ended twice"),
        pytest.param([held()], 2 * DUE + 1, NOTHING, None, id="at work at twice its deadline"),
        pytest.param([held()], 2 * DUE + 2, NOTHING, "I4", id="at work beyond twice its deadline"),
        pytest.param([version("Queued")], 2 * DUE + 2, NOTHING, "I4", id="waiting beyond twice its deadline"),
        pytest.param([held()], 2 * DUE + 2, Excused(late={"d"}), None, id="nothing could be written in time"),
        pytest.param([ended(2 * DUE)], 9 * DUE, NOTHING, None, id="ended in time, seen later"),
        pytest.param([ended(2 * DUE + 2)], 9 * DUE, NOTHING, "I4", id="ended too late"),
        pytest.param([held(deadline=to_wire(at(DUE * 3)))], 4 * DUE, NOTHING, None, id="the deadline in force counts"),
        pytest.param(
            [ended(5, "Cancelled", "AgentOffline")], 10, NOTHING, "I7", id="ended for an agent that was there"
        ),
        pytest.param([ended(5, "Cancelled", "AgentOffline")], 10, Excused(lost={"d"}), None, id="its agent was lost"),
        pytest.param([held("s"), held("s", 2)], 10, NOTHING, "I7", id="a new attempt that nobody wanted"),
    ],
)
def test_what_became_of_a_delegation_is_judged(
    run: list[Json], now: float, excused: Excused, broken: str | None
) -> None:
    """Each sentence begins with the invariant that is broken."""
    found = [sentence.partition(":")[0] for sentence in judged([run], at(now), excused)]
    assert found == ([broken] if broken else [])


@pytest.mark.parametrize(
    ("writes", "seconds", "broken"),
    [
        pytest.param([Asked("delegations", "d", True)] * MOST_FOR_NOTHING, 0, False, id="a few writes"),
        pytest.param([Asked("delegations", "d", True)] * MANY, 3600, True, id="a delegation told the same for an hour"),
        pytest.param([Asked("agents", "a", True)] * MANY, 1, True, id="an agent told anew without a pause"),
        pytest.param([Asked("agents", "a", True)] * MANY, MANY, False, id="an agent told once a second"),
        pytest.param([Asked("agentsubscriptions", "r", True)] * MANY, 1, True, id="a row renewed without a pause"),
        pytest.param([Asked("agentsubscriptions", "r", True)] * MANY, MANY, False, id="a row renewed by time"),
        pytest.param([Asked("delegations", "d", False)] * MANY, 3600, True, id="hammered although it is refused"),
        pytest.param([Asked("delegations", "d", False)] * MOST_FOR_NOTHING, 0, False, id="refused a few times"),
    ],
)
def test_I6_writes_without_a_cause_are_found(writes: list[Asked], seconds: float, broken: bool) -> None:
    """A delegation is written when something happens to it, all else by time."""
    assert bool(restless(writes, {}, seconds)) is broken


def test_I6_what_happens_to_a_delegation_may_be_written() -> None:
    """Each beat, attempt and phase is worth some writes; another reason for the same wait is none."""
    beats = [held(lastHeartbeatTime=to_wire(at(n))) for n in range(MANY)]
    waits = [version("Queued", reason=f"R{n % 2}") for n in range(MANY)]
    writes = [Asked("delegations", "d", True)] * MANY
    assert (happened([beats]), happened([waits])) == ({"d": MANY}, {"d": 1})
    assert restless(writes, happened([beats]), 0) == []
    assert restless(writes, happened([waits]), 0) == [f"I6: delegations d was written {MANY} times, 14 would do"]


def test_I6_the_audit_log_tells_what_belay_wrote(tmp_path: Path) -> None:
    """Only its own accounts, only writes, only our objects, only that namespace, also what was rotated away."""
    write: Json = {
        "stage": "ResponseComplete",
        "verb": "patch",
        "user": {"username": OPERATOR},
        "objectRef": {"apiGroup": "belay.dev", "resource": "delegations", "namespace": "mine", "name": "d"},
        "responseStatus": {"code": 200},
    }
    others: list[Json] = [
        {"verb": "get"},
        {"stage": "Panic"},
        {"user": {"username": "somebody"}},
        {"objectRef": {**write["objectRef"], "apiGroup": "apps"}},
        {"objectRef": {**write["objectRef"], "namespace": "mine-too"}},
    ]
    refused = {**write, "responseStatus": {"code": 422}}
    (tmp_path / "audit.log").write_text("\n".join(json.dumps({**write, **other}) for other in [*others, {}]))
    (tmp_path / "audit-2030-01-01.log").write_text(json.dumps(refused))
    found = asked(tmp_path / "audit.log", "mine")
    assert found == [Asked("delegations", "d", False), Asked("delegations", "d", True)]
