"""What `belay retry` makes of each delegation, as tables (pure); on the API server in test_people_commands.py."""

from datetime import UTC, datetime
from typing import Any

import pytest

from belay_client.family import Ancestors
from belay_client.retrying import next_retry, parse_name, plan_of, refusal, standing
from belay_kube.client import Json

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def delegation(name: str, phase: str | None = None, cascade: str | None = None, **spec: Any) -> Json:
    """One delegation to agent `a`."""
    known: Json = {"agentRef": {"name": "a"}, "task": {"prompt": "p"}, **spec}
    annotations = {"annotations": {"belay.dev/cancel-cascade": cascade}} if cascade else {}
    return {"metadata": {"name": name, **annotations}, "spec": known, "status": {"phase": phase} if phase else {}}


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (None, "d is Pending: it goes on by itself"),
        ("Pending", "d is Pending"),
        ("Queued", "d is Queued"),
        ("Dispatched", "d is Dispatched"),
        ("InProgress", "d is InProgress"),
        ("Completed", "nothing to retry"),
        ("Failed", None),
        ("Cancelled", None),
        ("Stuck", None),
    ],
)
def test_S12_which_phases_can_be_retried(phase: str | None, says: str | None) -> None:
    """Stuck, Failed and Cancelled; the others are refused with a sentence."""
    why = refusal(delegation("d", phase))
    assert (why is None) if says is None else (why is not None and says in why)


@pytest.mark.parametrize(
    ("asked", "done", "wanted"),
    [(None, None, 1), (0, None, 1), (1, 1, 2), (3, 3, 4), (2, 5, 6), (2, 1, None), (1, None, None)],
)
def test_S12_retry_attempt_is_raised_once(asked: int | None, done: int | None, wanted: int | None) -> None:
    """One above what was acted on; what is asked for already is not asked for twice."""
    obj = delegation("d", "Stuck", retryAttempt=asked)
    obj["status"]["observedRetryAttempt"] = done
    assert next_retry(obj) == wanted


def test_S12_the_same_is_asked_for_again() -> None:
    """All but who asked, what was wanted of the finished one, and its place in a line of retries."""
    obj = delegation(
        "d", "Failed", sessionId="s", priority=3, deadlineSeconds=60, retry={"maxAttempts": 2}, requester="somebody",
        desiredState="Cancelled", retryAttempt=2, retryOf="c",
    )  # fmt: skip
    assert plan_of(obj, Ancestors(), NOW).spec == {
        "agentRef": {"name": "a"},
        "task": {"prompt": "p"},
        "sessionId": "s",
        "priority": 3,
        "deadlineSeconds": 60,
        "retry": {"maxAttempts": 2},
        "retryOf": "d",
    }


@pytest.mark.parametrize(
    ("deadline", "kept"),
    [("2026-01-02T11:59:59Z", False), ("2026-01-02T12:00:00Z", False), ("2026-01-02T13:00:00Z", True)],
)
def test_S12_a_deadline_that_is_past_is_left_out_and_said(deadline: str, kept: bool) -> None:
    """An absolute one; it would be refused."""
    plan = plan_of(delegation("d", "Failed", deadline=deadline), Ancestors(), NOW)
    assert (plan.spec.get("deadline") == deadline) is kept
    assert (deadline in "".join(plan.notes)) is not kept


@pytest.mark.parametrize(
    ("above", "says"),
    [
        pytest.param(Ancestors((delegation("p", "InProgress"),)), None, id="parent goes on"),
        pytest.param(Ancestors((delegation("p", "Completed"),)), None, id="parent is done"),
        pytest.param(
            Ancestors((delegation("p", "Cancelled"),)), "p, of which it was a part, is Cancelled", id="cancelled"
        ),
        pytest.param(Ancestors((delegation("p", "Failed"),)), "p, of which it was a part, is Failed", id="failed"),
        pytest.param(Ancestors((delegation("p", "Cancelled", "false"),)), None, id="spares its parts"),
        pytest.param(
            Ancestors((delegation("p", "Completed"), delegation("g", "Cancelled"))),
            "g, of which",
            id="above a done one",
        ),
        pytest.param(Ancestors(missing="p"), "p, of which it was a part, does not exist", id="deleted"),
        pytest.param(Ancestors((delegation("p", "InProgress"),), missing="g"), None, id="gap above a running one"),
        pytest.param(Ancestors(session="s"), None, id="session"),
        pytest.param(Ancestors(cycle="d"), "d is its own ancestor", id="D6 circle"),
    ],
)
def test_D9_a_parent_that_would_end_the_retry_is_left_out(above: Ancestors, says: str | None) -> None:
    """Else it would be cancelled as soon as it is seen."""
    plan = plan_of(delegation("d", "Cancelled", parentRef={"name": "p"}), above, NOW)
    assert ("parentRef" in plan.spec) is (says is None)
    assert (says or "") in "".join(plan.notes)


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("d", ("d", 0)),
        ("d-retry-2", ("d", 2)),
        ("d-retry-1-retry-9", ("d-retry-1", 9)),
        ("d-retry-", ("d-retry", 0)),
        ("d-retry-0", ("d-retry-0", 0)),
        ("retry-1", ("retry-1", 0)),
        ("x" * 239 + "-y", ("x" * 239, 0)),
    ],
)
def test_retries_are_numbered_from_the_first_name(name: str, parsed: tuple[str, int]) -> None:
    """The retry of a retry counts on, and no name grows too long."""
    assert parse_name(name) == parsed


@pytest.mark.parametrize(
    ("other", "says"),
    [
        pytest.param(delegation("d-retry-1", "InProgress", retryOf="d"), "retries it already", id="under way"),
        pytest.param(delegation("d-retry-1", retryOf="d"), "retries it already and is Pending", id="new"),
        pytest.param(
            delegation("d-retry-2", "Queued", retryOf="d-retry-1"), "retries it already", id="of the same line"
        ),
        pytest.param(delegation("d-retry-1", "Completed", retryOf="d"), "nothing to retry", id="done"),
        pytest.param(delegation("d-retry-1", "Failed", retryOf="d"), None, id="over"),
        pytest.param(delegation("d-retry-1", "InProgress"), None, id="somebody else's"),
        pytest.param(delegation("d-retry-1", "InProgress", retryOf="e"), None, id="of another"),
        pytest.param(None, None, id="gone again"),
    ],
)
def test_S12_two_retries_of_one_do_not_run_at_once(other: Json | None, says: str | None) -> None:
    """What has the name already is named, if it is a retry that goes on or was done."""
    why = standing(other, "d")
    assert (why is None) if says is None else (why is not None and says in why)
