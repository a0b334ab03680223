"""An agent with many sessions and no work is looked at less often; work never waits for that. Pure."""

import pytest

from belay_api.names import Ref
from belay_api.timing import Times
from belay_kube.clock import FakeClock
from belay_operator.crowds import ROWS, SECONDS_A_ROW, Crowds
from belay_operator.observe.index import Index
from belay_operator.observe.presence_records import Row
from belay_operator.observe.records import Work

from .builders import delegation

AGENT = Ref("default", "a")
MANY = 2 * ROWS
PAUSE = MANY * SECONDS_A_ROW


def crowded(rows: int) -> Index:
    """An agent with so many rows, as they are seen first."""
    index = Index(Times())
    for number in range(rows):
        meta = {"name": f"a-{number}", "namespace": AGENT.namespace, "uid": f"u{number}", "resourceVersion": "1"}
        spec = {"agentRef": {"name": AGENT.name}, "sessionId": f"s{number}"}
        index.put_row(Row.read({"metadata": meta, "spec": spec, "status": {"phase": "Live", "token": "t"}}))
    return index


def with_work(index: Index) -> Index:
    """One delegation waits for the agent."""
    body = delegation("d").body()
    meta = {
        "namespace": AGENT.namespace,
        "uid": "u",
        "resourceVersion": "1",
        "creationTimestamp": "2030-01-01T00:00:00Z",
    }
    index.put_work(Work.read({**body, "metadata": {**body["metadata"], **meta}}))
    return index


@pytest.mark.parametrize(
    ("index", "waits"),
    [
        pytest.param(crowded(MANY), True, id="many rows"),
        pytest.param(crowded(ROWS - 1), False, id="few rows"),
        pytest.param(with_work(crowded(MANY)), False, id="many rows and work"),
    ],
)
async def test_a_crowd_without_work_rests_between_two_looks(index: Index, waits: bool) -> None:
    """The first look is at once; the next a while later, and not lost."""
    clock = FakeClock()
    crowds = Crowds(clock)
    assert crowds.rest(AGENT, index) is None
    assert crowds.rest(AGENT, index) == (pytest.approx(PAUSE) if waits else None)
    await clock.advance(PAUSE)
    assert crowds.rest(AGENT, index) is None
