"""What the API server asked to wait with is not asked again before its time."""

import pytest

from belay_kube.clock import FakeClock
from belay_kube.errors import Throttled
from belay_kube.waits import Request, Waits

STATUS = ("PATCH", "/apis/belay.dev/v1alpha1/namespaces/default/agents/a0/status")
OTHER = ("PATCH", "/apis/belay.dev/v1alpha1/namespaces/default/agents/a1/status")
CREATE = ("POST", "/apis/belay.dev/v1alpha1/namespaces/default/delegations")


def _refused(waits: Waits, request: Request) -> float | None:
    """Seconds that are left to wait, or None when it may be asked."""
    try:
        waits.begin(request)
    except Throttled as error:
        return error.delay
    return None


@pytest.mark.parametrize(
    ("asked", "passed", "left"),
    [
        pytest.param(STATUS, 0, 7.0, id="at once"),
        pytest.param(STATUS, 3, 4.0, id="by another timer, too early"),
        pytest.param(STATUS, 7, None, id="the time is over"),
        pytest.param(OTHER, 0, None, id="something else"),
        pytest.param(("GET", STATUS[1]), 0, None, id="another verb"),
    ],
)
async def test_G9_fault_7_the_wait_holds_for_the_request(asked: Request, passed: float, left: float | None) -> None:
    """Also when something else than the retry wants it again."""
    clock = FakeClock()
    waits = Waits(clock)
    waits.noted(STATUS, 7)
    await clock.advance(passed)
    assert _refused(waits, asked) == left


def test_G9_fault_7_a_create_keeps_no_other_waiting() -> None:
    """Many things are made at one target."""
    waits = Waits(FakeClock())
    waits.noted(CREATE, 7)
    assert _refused(waits, CREATE) is None


def test_G9_fault_7_who_is_refused_learns_with_what() -> None:
    """The error says what was asked and how long it is held back."""
    waits = Waits(FakeClock())
    waits.noted(STATUS, 7)
    with pytest.raises(Throttled, match=r"PATCH .*/agents/a0/status: not asked again for 7.0 s"):
        waits.begin(STATUS)
