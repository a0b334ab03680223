"""kopf_edge.py on the real API server: how it ends."""

import asyncio
import threading
from contextlib import suppress

from belay_api.meta import API_VERSION, SWEEPER_NAME
from belay_kube.client import SWEEPERS, Json, Kube
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


async def test_a_sweeper_that_is_deleted_amid_a_sweep_goes_when_that_is_over(
    admin_kube: Kube, operator_kube: Kube
) -> None:
    """It is seen to be gone, and can be made again, soon after; not a minute later, as kopf would have it."""
    with suppress(AlreadyExists):
        await admin_kube.create(SWEEPERS, BELAY, SWEEPER)
    begun, leaving, over, gone = (asyncio.Event() for _ in range(4))

    async def tick() -> None:
        begun.set()
        await over.wait()

    def seen(obj: Json | None) -> None:
        if obj is None:
            gone.set()
        elif "deletionTimestamp" in obj["metadata"]:
            leaving.set()

    edge = KopfEdge(operator_kube, SystemClock(), BELAY, Receiver(sweeper=seen, tick=tick))
    running = asyncio.ensure_future(edge.run())
    await asyncio.wait_for(begun.wait(), 60)
    await admin_kube.delete(SWEEPERS, BELAY, SWEEPER_NAME)
    await asyncio.wait_for(leaving.wait(), 20)
    # It is still there: kopf knows of the sweep.
    await admin_kube.get(SWEEPERS, BELAY, SWEEPER_NAME)
    over.set()
    await asyncio.wait_for(gone.wait(), 20)
    running.cancel()
    await asyncio.wait({running})
