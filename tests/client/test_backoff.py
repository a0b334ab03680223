"""Backoff: bounds and growth, with no clock at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belay_client import Backoff


@pytest.mark.parametrize(
    ("failures", "ceiling"),
    [(0, 0.5), (1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (1000, 30.0), (10**9, 30.0)],
)
def test_ceiling_doubles_up_to_the_cap(failures: int, ceiling: float) -> None:
    """0.5, 1, 2 … 30 seconds, also after any number of failures."""
    assert Backoff().ceiling(failures) == ceiling


@pytest.mark.parametrize(("grace", "cap"), [(0, 1.0), (2, 1.0), (9, 3.0), (60, 20.0), (600, 30.0)])
def test_cap_within_a_grace(grace: float, cap: float) -> None:
    """A third of it, at least a second, and never more than without one."""
    assert Backoff().within(grace) == Backoff(cap=cap)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_delay_is_full_jitter(failures: int, chance: float) -> None:
    """Anything from nothing to the ceiling."""
    assert 0 <= Backoff().delay(failures, chance) <= Backoff().ceiling(failures)
