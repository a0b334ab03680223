"""timing.py: which time is in force (S5)."""

import pytest

from belay_api.timing import Times


@pytest.mark.parametrize(
    ("installation", "timing", "expected"),
    [
        pytest.param(Times(), None, (15, 45), id="defaults"),
        pytest.param(Times(), {"heartbeatSeconds": 5, "staleAfterSeconds": 20}, (5, 20), id="both by the agent"),
        pytest.param(Times(heartbeat=60, stale_after=180), {"staleAfterSeconds": 50}, (25, 50), id="one doesn't fit"),
        pytest.param(Times(), {"staleAfterSeconds": None}, (15, 45), id="null is not given"),
    ],
)
def test_S5_one_lost_beat_is_never_a_loss(
    installation: Times, timing: dict[str, int | None] | None, expected: tuple[int, int]
) -> None:
    """Agent over installation, and the heartbeat never more than half of what makes a session stale."""
    times = installation.overridden(timing)
    assert (times.heartbeat, times.stale_after) == expected
