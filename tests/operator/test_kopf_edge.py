"""kopf_edge.py on the real API server: how it ends."""

import asyncio
import threading
from contextlib import suppress

from belay_api.meta import API_VERSION, SWEEPER_NAME
from belay_kube.client import SWEEPERS, Kube
from belay_kube.clock import SystemClock
from belay_kube.errors import AlreadyExists
from belay_operator.handlers.kopf_edge import KopfEdge, Receiver
from waiting import eventually

from .played import BELAY

SWEEPER = {"apiVersion": API_VERSION, "kind": "DelegationSweeper", "metadata": {"name": SWEEPER_NAME}, "spec": {}}


class Sweeping:
    """A sweep that goes on until it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.thread_at_end: bool | None = None
        """Whether kopf still ran when it was cancelled."""

    async def tick(self) -> None:
        """Never ends by itself."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.thread_at_end = kopf_runs()


def kopf_runs() -> bool:
    """Whether its thread is there."""
    return any(thread.name == "kopf" for thread in threading.enumerate())


async def test_G9_at_its_end_no_sweep_is_under_way(admin_kube: Kube, operator_kube: Kube) -> None:
    """It is over before `run` is; then the Lease may be given up. kopf itself ends, too."""
    with suppress(AlreadyExists):  # an operator was here before
        await admin_kube.create(SWEEPERS, BELAY, SWEEPER)
    sweeping = Sweeping()
    receiver = Receiver(sweeper=lambda _: None, tick=sweeping.tick)
    running = asyncio.ensure_future(KopfEdge(operator_kube, SystemClock(), BELAY, receiver).run())
    await asyncio.wait_for(sweeping.begun.wait(), 60)
    running.cancel()
    await asyncio.wait({running})
    assert sweeping.thread_at_end
    await eventually(lambda: not kopf_runs())
