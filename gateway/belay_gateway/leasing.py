"""The gateway's own Lease: as long as it moves, its rows may be believed (DESIGN.md section 4)."""

import asyncio
from collections.abc import Callable

import structlog

from belay_api.meta import COMPONENT_GATEWAY, LABEL_COMPONENT
from belay_gateway.metrics import Metrics
from belay_gateway.settings import Settings
from belay_kube.client import Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, Temporary, Unreachable
from belay_kube.lease import OwnLease

log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 1.0
_REQUEST_SECONDS = 5.0
RELEASE_SECONDS = _REQUEST_SECONDS
_LATELY = 4
"""Periods without a renewal after which the process isn't ready any more."""


class Leasing:
    """Renews the Lease for ever, and with each renewal calls `renewed`."""

    def __init__(self, kube: Kube, clock: Clock, settings: Settings, metrics: Metrics) -> None:
        labels = {LABEL_COMPONENT: COMPONENT_GATEWAY}
        duration = settings.stale_after_seconds
        self._lease = OwnLease(kube, clock, settings.namespace, settings.identity, labels, duration)
        self._clock = clock
        self._period = float(settings.lease_renew_seconds)
        self._metrics = metrics
        self._renewed_at = float("-inf")
        self.annotations: Callable[[], dict[str, str]] = dict
        self.renewed: Callable[[], None] = lambda: None

    async def renew(self) -> None:
        """Renew once. Raises KubeError."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._lease.renew(self.annotations())
        except TimeoutError:
            raise Unreachable("the gateway's Lease could not be renewed in time") from None
        self._renewed_at = self._clock.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(await self._turn())

    async def _turn(self) -> float:
        try:
            await self.renew()
        except KubeError as error:
            self._metrics.lease_renewals.labels("failed").inc()
            log.warning("the gateway's Lease could not be renewed, trying again", error=error.message[:300])
            return (error.delay if isinstance(error, Temporary) else None) or _AGAIN_SECONDS
        self._metrics.lease_renewals.labels("ok").inc()
        self.renewed()
        return self._period

    def is_fresh(self) -> bool:
        """Whether it was renewed lately."""
        return self._clock.monotonic() - self._renewed_at <= _LATELY * self._period

    async def release(self) -> None:
        """Say that this process ended on purpose."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._lease.release()
        except (KubeError, TimeoutError) as error:
            log.warning("the gateway's Lease could not be released, it will run out", error=str(error)[:300])
