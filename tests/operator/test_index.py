"""observe/index.py: a newer view replaces an older one, and what ended does not come back by late word of it."""

import gc
import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from belay_api.names import Ref
from belay_api.timing import Times
from belay_api.transitions import Phase
from belay_operator.observe.index import Graves, Index
from belay_operator.observe.records import Work

from .builders import delegation

REF = delegation("d").work.ref


def work(version: int, phase: Phase = Phase.DISPATCHED) -> Work:
    """The delegation `d` as it was at a version."""
    return replace(delegation("d").dispatched(at=0).work, version=str(version), phase=phase)


def test_an_older_view_replaces_nothing() -> None:
    """The answer of a write may be overtaken by the watch."""
    index = Index(Times())
    index.put_work(work(7))
    index.put_work(work(5))
    assert index.work[REF].version == "7"


def test_late_word_of_ended_work_does_not_bring_it_back() -> None:
    """The watch told of its end; then comes the answer of our own earlier write, which must not hold a slot again."""
    index = Index(Times())
    index.put_work(work(5))
    index.drop_work(REF, "8")
    index.put_work(work(6))
    assert index.work == {}
    assert index.count(delegation("d").work.agent, {Phase.DISPATCHED}) == 0


def test_another_object_of_the_same_name_is_taken_in() -> None:
    """Deleted and made again: its version is past the end of the first."""
    index = Index(Times())
    index.put_work(work(5))
    index.drop_work(REF, "8")
    index.put_work(work(9))
    assert index.work[REF].version == "9"


def test_late_word_of_a_deletion_does_not_remove_the_next_of_that_name() -> None:
    """Made again before the deletion of the first was heard of."""
    index = Index(Times())
    index.put_work(work(9))
    assert index.drop_work(REF, "8") is None
    assert REF in index.work


def test_terminal_work_is_let_go_for_good() -> None:
    """An unfinished view of it that comes late is not taken in."""
    index = Index(Times())
    index.put_work(work(7, Phase.COMPLETED))
    index.put_work(work(6))
    assert index.work == {}


def test_graves_are_bounded() -> None:
    """The oldest are forgotten."""
    graves = Graves()
    for number in range(Graves._MOST + 10):
        graves.bury(Ref("ns", f"d{number}"), "1")
    assert len(graves._versions) == Graves._MOST
    assert not graves.holds(Ref("ns", "d0"), "1")


# --- what an object costs ---

MANY = 2000
BUDGET = 1024
PARENT = 60
"""Bytes more where each has a parent of its own: two names are kept then."""


def _body(number: int, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    moment = f"2026-01-02T03:{number // 60 % 60:02}:{number % 60:02}.{number:06}Z"
    times = ("queuedTime", "dispatchedTime", "acceptedTime", "lastHeartbeatTime", "deadline")
    running = {"phase": "InProgress", "reason": "Dispatched", "message": "offered to the sessions", "attempt": 1}
    held = {"sessionId": f"session-{number % 100}", "gateway": "belay-gateway-5d4f8c7b9-abcde"}
    meta = {"namespace": "team", "name": f"delegation-{number:06}", "uid": f"0f0f0f0f-0000-4000-8000-{number:012}"}
    body = {
        "metadata": {**meta, "resourceVersion": f"{1_000_000 + number}", "creationTimestamp": moment},
        "spec": {"agentRef": {"name": f"agent-{number % 100}"}, "task": {"prompt": "p" * 2048}, **spec},
        "status": {**running, **held, **dict.fromkeys(times, moment), **status},
    }
    # As a watch brings it: every text is a copy of its own.
    found: dict[str, Any] = json.loads(json.dumps(body).replace("NUMBER", str(number)))
    return found


_RETRIED = {"type": "Retried", "status": "True", "reason": "NoHeartbeat", "message": "m" * 512}
_SINCE = {"lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1}
RETRY = {"retry": {"maxAttempts": 3, "on": ["NoHeartbeat", "AgentLost"]}}


@pytest.mark.parametrize(
    ("spec", "status", "most"),
    [
        pytest.param({}, {}, BUDGET, id="in progress"),
        pytest.param(RETRY, {}, BUDGET, id="with a retry policy"),
        pytest.param(RETRY, {"conditions": [{**_RETRIED, **_SINCE}]}, BUDGET, id="retried"),
        pytest.param({"parentRef": {"name": "parent-NUMBER"}}, {}, BUDGET + PARENT, id="each with a parent"),
    ],
)
def test_an_object_costs_no_more_than_a_kibibyte(spec: dict[str, Any], status: dict[str, Any], most: int) -> None:
    """DESIGN.md section 8: never a prompt, and what thousands have in common is kept once."""
    index = Index(Times())
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(MANY):
            index.put_work(Work.read(_body(number, spec, status)))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / MANY <= most
