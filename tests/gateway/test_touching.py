"""How often a row may be renewed, and how often its delegation's beats and offers cost nothing. Pure."""

import pytest

from belay_gateway.bucket import Bucket
from belay_gateway.touching import thinned_period
from belay_kube.clock import FakeClock


@pytest.mark.parametrize(
    ("sessions", "heartbeat", "period"),
    [(0, 15, 0), (1, 15, 0), (300, 15, 0), (301, 15, 15.05), (10_000, 15, 500), (20, 1, 0), (21, 1, 1.05)],
)
def test_P3_renewals_stay_under_the_rate(sessions: int, heartbeat: int, period: float) -> None:
    """300 sockets are renewed every 15 s and 10,000 every 500 s, at 20 renewals a second."""
    assert thinned_period([heartbeat] * sessions, 20) == pytest.approx(period)


def test_P3_mixed_heartbeats_count_by_their_demand() -> None:
    """Slow heartbeats demand little."""
    assert thinned_period([1] * 10 + [3600] * 1000, 20) == 0
    assert thinned_period([1] * 20 + [3600] * 1000, 20) == 51


async def test_bucket_gives_a_burst_and_then_a_rate() -> None:
    """Five at once, then two a second."""
    clock = FakeClock()
    bucket = Bucket(clock, 2, 5)
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]
    await clock.advance(1)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
