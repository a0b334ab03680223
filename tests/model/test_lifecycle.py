"""D1, D2, D3, D10, S10 and I1 to I5 of RELIABILITY.md in every order hypothesis finds: operator, gateways, sessions,
people, the clock and crashes on one store, which is simulated first, and then the real API server.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from belay_api.transitions import Writer
from belay_kube.client import NAMESPACES, Kube
from belay_kube.clock import FakeClock, SystemClock

from .machine import Lifecycle
from .store import ServerStore, SimulatedStore
from .world import World

_START = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)
_STEP_SECONDS = 60


async def _run(
    new_world: Callable[[Callable[[Coroutine[Any, Any, Any]], Any]], World], examples: int, steps: int
) -> None:
    """Let the machine run in a thread, its steps in the loop of the tests; the same runs each time."""
    loop = asyncio.get_running_loop()

    def do(step: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result(_STEP_SECONDS)

    class Machine(Lifecycle):
        """Runs here."""

        now = staticmethod(do)

        def new_world(self) -> World:
            return new_world(do)

    bounds = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, Machine, settings=bounds)


async def test_D3_S10_lifecycle_of_delegations_in_every_order() -> None:
    """On a simulated store: many short lives, each write and each end judged."""

    def new_world(_: object) -> World:
        clock = FakeClock(_START)
        return World(SimulatedStore(clock), clock, "ns")

    await _run(new_world, examples=200, steps=40)


async def test_D3_S10_lifecycle_of_delegations_on_the_api_server(
    admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube
) -> None:
    """The same on the real API server, with the accounts of the operator and the gateways: fewer lives."""
    store = ServerStore({None: admin_kube, Writer.OPERATOR: operator_kube, Writer.GATEWAY: gateway_kube})

    def new_world(do: Callable[[Coroutine[Any, Any, Any]], Any]) -> World:
        made = do(admin_kube.create(NAMESPACES, None, {"metadata": {"generateName": "model-"}}))
        return World(store, FakeClock(SystemClock().now()), made["metadata"]["name"])

    await _run(new_world, examples=8, steps=15)
