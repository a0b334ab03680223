"""Lists all finished delegations at the start and every hour: the only reader of what is neither watched nor swept."""

import structlog

from belay_api.transitions import LIVE
from belay_kube.client import DELEGATIONS, Kube, pages
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, Temporary
from belay_operator.expiry import Expiry
from belay_operator.seen import Seen

log = structlog.get_logger(__name__)

LISTING_SECONDS = 3600.0
"""From one listing to the next."""
GAP_SECONDS = 300.0
"""The same after the watch of the unfinished was away. No sooner: a watch that breaks every minute must not cost a
listing each time."""
_LOOK_SECONDS = 15.0
"""After which a listing that failed is tried again, and after which it is seen that one is due."""
FINISHED = ",".join(f"status.phase!={phase}" for phase in sorted(LIVE))
"""Objects without a status match as well, and are told apart by who reads them."""


class FinishedLister:
    """Feeds `Expiry`. On a schedule of its own: a sweep must take no longer the more is finished, and be suspended
    without anything being kept for ever."""

    def __init__(self, kube: Kube, seen: Seen, expiry: Expiry, clock: Clock) -> None:
        self._kube = kube
        self._seen = seen
        self._expiry = expiry
        self._clock = clock
        self._listed_at: float | None = None

    async def run(self) -> None:
        """List when it is time, until cancelled."""
        await self._seen.until_complete()
        while True:
            asked = await self._try() if self._is_due() else None
            await self._clock.sleep(asked or _LOOK_SECONDS)

    async def list(self) -> None:
        """One listing. Raises KubeError."""
        began = self._clock.monotonic()
        # Due until it is complete: a listing that breaks off has found what was left out only in part.
        self._listed_at = None
        self._expiry.begin()
        async for page in pages(self._kube, DELEGATIONS, fieldSelector=FINISHED):
            self._expiry.listed(page["items"])
        self._expiry.parents.end()
        self._listed_at = began

    async def _try(self) -> float | None:
        """List; the seconds after which the API server asked to be asked again."""
        try:
            await self.list()
        except KubeError as error:
            log.warning("finished delegations could not be listed, will try again", error=error.message)
            return error.delay if isinstance(error, Temporary) else None
        return None

    def _is_due(self) -> bool:
        if self._listed_at is None or self._expiry.wants_listing():
            return True
        wait = LISTING_SECONDS if self._expiry.parents.are_known() else GAP_SECONDS
        return self._clock.monotonic() >= self._listed_at + wait
