"""The bus: how transient broadcasts reach the sockets of other gateways (DESIGN.md section 6). Everything else crosses
by the resources. One gateway needs none; for more there is NATS.
"""

from collections.abc import Callable
from typing import Protocol

from belay_gateway.metrics import Metrics
from belay_gateway.settings import PREFIX, Settings
from belay_gateway.siblings import Siblings
from belay_kube.client import Kube
from belay_kube.clock import Clock
from belay_kube.process import StartupError

Receive = Callable[[str, bytes], None]
"""Gets what another gateway published: its subject, without the prefix, and the bytes. Never waits, never raises."""


class BusDown(Exception):
    """Nothing may be taken for published; the message says what is down, whether others may have been told all the
    same, and what to do."""


class Bus(Protocol):
    """Carries bytes to all other gateways, each at most once."""

    async def publish(self, subject: str, data: bytes) -> None:
        """Return once the bus has it. Raises BusDown."""

    def subscribe(self, receive: Receive) -> None:
        """Say who gets what the others publish; once, before `run`."""

    def state(self) -> str | None:
        """What is wrong with it, in a sentence; None when nothing is."""

    async def run(self) -> None:
        """Work until cancelled."""


class LocalBus:
    """No bus: right for one gateway. It looks for others, to say that they are not reached."""

    def __init__(self, siblings: Siblings) -> None:
        self._siblings = siblings

    async def publish(self, subject: str, data: bytes, /) -> None:
        """There is nobody else to tell."""

    def subscribe(self, receive: Receive) -> None:
        """Nobody else tells anything."""

    def state(self) -> str | None:
        """Whom it doesn't reach."""
        return self._siblings.complaint()

    async def run(self) -> None:
        """Look for other gateways until cancelled."""
        await self._siblings.run()


def bus_for(settings: Settings, kube: Kube, clock: Clock, metrics: Metrics) -> Bus:
    """The bus of these settings. Raises StartupError when what it needs isn't installed."""
    if settings.bus_url is None:
        return LocalBus(Siblings(kube, clock, settings, metrics))
    try:
        # Imported only where it is used: nats-py is an optional dependency.
        from belay_gateway.natsbus import NatsBus
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "nats":
            raise
        sentence = f"{PREFIX}BUS_URL is set but nats-py isn't installed: in Belay's checkout, pip install '.[bus]'"
        raise StartupError(f"{sentence}, or unset it and run one gateway") from None
    bus = NatsBus(settings, clock)
    metrics.watch_bus(lambda: bus.state() is None)
    return bus
