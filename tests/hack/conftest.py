"""Shared by the tests of the development tools."""

import threading
from collections.abc import Callable

import pytest

from belay_dev.clock import Deadline

Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def eventually() -> Eventually:
    """Returns once a condition holds; fails if it does not within 20 s."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = Deadline(20.0)
        while not condition():
            assert not deadline.passed, "it did not become true in time"
            threading.Event().wait(0.02)

    return wait
