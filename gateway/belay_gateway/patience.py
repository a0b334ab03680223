"""Waiting out an API server that can't be reached for a while, where giving up would leave somebody untold."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from belay_kube.clock import Clock
from belay_kube.errors import Temporary

T = TypeVar("T")
_TRIES = 10
_PAUSES = (0.2, 5.0)


async def patiently(clock: Clock, ask: Callable[[], Awaitable[T]], is_wanted: Callable[[], bool]) -> T:
    """The answer of `ask`, asked again with growing pauses, half a minute in all. Raises KubeError after that, or when
    the error doesn't pass by itself, or when the answer isn't wanted any more."""
    failures = 0
    while True:
        try:
            return await ask()
        except Temporary as error:
            failures += 1
            if failures >= _TRIES or not is_wanted():
                raise
            await clock.sleep(error.delay or min(_PAUSES[1], _PAUSES[0] * 2**failures))
