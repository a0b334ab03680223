"""decisions/ttl.py: when a finished delegation has been kept for long enough (D11)."""

import pytest

from belay_api.reasons import Reason
from belay_api.transitions import LIVE, Phase
from belay_operator.decisions import ttl
from belay_operator.decisions.ttl import Finished

from .builders import DelegationBuilder, at, delegation

DAY, GRACE = 86_400, 30


def due(given: DelegationBuilder) -> float:
    """Seconds from `T0` after which it may go."""
    finished = Finished.read(given.obj)
    assert finished
    return (ttl.due_at(finished, DAY, GRACE) - at(0)).total_seconds()


def ended(phase: Phase = Phase.CANCELLED, reason: Reason = Reason.CANCELLED) -> DelegationBuilder:
    """Work of session s that ended at 100 s."""
    return delegation().in_progress(by="s").ended(phase, 100, reason)


DUE = {
    "completed": (ended(Phase.COMPLETED, Reason.COMPLETED), 100 + DAY),
    "failed by its agent": (ended(Phase.FAILED, Reason.AGENT_FAILED), 100 + DAY),
    "never held": (delegation().queued(at=0).ended(Phase.CANCELLED, 100), 100 + DAY),
    "its own time": (ended(Phase.COMPLETED).kept_for(60), 160),
    "at once": (ended(Phase.COMPLETED).kept_for(0), 100),
    "cancelled, not acknowledged": (ended(), 100 + GRACE + DAY),
    "failed at its deadline, not acknowledged": (
        ended(Phase.FAILED, Reason.DEADLINE_EXCEEDED).kept_for(0),
        100 + GRACE,
    ),
    "acknowledged": (ended().acknowledged(at=110), 110 + DAY),
    "acknowledged in the same second": (ended().acknowledged(at=99), 100 + DAY),
    "acknowledged after the grace": (ended().acknowledged(at=500), 100 + GRACE + DAY),
}


@pytest.mark.parametrize(("given", "expected"), DUE.values(), ids=DUE)
def test_D11_kept_for_its_time_after_end_and_acknowledgement(given: DelegationBuilder, expected: float) -> None:
    """From the later of the two, for which it waits a grace at most."""
    assert due(given) == expected


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_D11_unfinished_is_never_due(phase: Phase) -> None:
    """However short its time to live."""
    given = delegation().kept_for(0).ended(phase, at=0)
    assert Finished.read(given.obj) is None
