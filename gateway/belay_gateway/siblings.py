"""Are there other gateways? Asked only where there is no bus: then broadcasts don't reach their sockets (C3)."""

from collections.abc import Iterable, Mapping

import structlog

from belay_api.meta import COMPONENT_GATEWAY, LABEL_COMPONENT
from belay_gateway.metrics import Metrics
from belay_gateway.settings import PREFIX, Settings
from belay_kube.client import LEASES, Json, Kube, pages
from belay_kube.clock import Clock
from belay_kube.errors import KubeError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0

Renewals = Mapping[str, str]
"""The last renewal of each Lease that is held, by name."""


def renewals(leases: Iterable[Json], me: str) -> Renewals:
    """Those of other gateways that were not released. Pure."""
    held = [
        lease for lease in leases if lease["metadata"]["name"] != me and (lease["spec"] or {}).get("holderIdentity")
    ]
    return {lease["metadata"]["name"]: lease["spec"].get("renewTime") or "" for lease in held}


def moved(before: Renewals, now: Renewals) -> frozenset[str]:
    """Whose Lease was renewed between two looks: other machines' clocks are never read (DESIGN.md section 4). Pure."""
    return frozenset(name for name, at in now.items() if name in before and before[name] != at)


class Siblings:
    """Looks at the gateways' Leases once a minute."""

    def __init__(self, kube: Kube, clock: Clock, settings: Settings, metrics: Metrics) -> None:
        self._kube = kube
        self._clock = clock
        self._namespace = settings.namespace
        self._me = settings.identity
        self._metrics = metrics
        self._before: Renewals = {}
        self._others: frozenset[str] = frozenset()

    def complaint(self) -> str | None:
        """What is missing, in a sentence; None while this is the only gateway."""
        if not self._others:
            return None
        count = len(self._others) + 1
        number = "two" if count == 2 else str(count)
        sentence = (
            f"{number} gateways run and bus.url is not set: broadcasts reach only sockets of the gateway they are"
        )
        return f"{sentence} sent to; set bus.url ({PREFIX}BUS_URL) to a NATS server on each of them (docs/bus.md)"

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self._look()
            except KubeError as error:
                log.warning("other gateways can't be looked for, trying again", error=error.message[:300])
            await self._clock.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        selector = {"labelSelector": f"{LABEL_COMPONENT}={COMPONENT_GATEWAY}"}
        found = [
            lease async for page in pages(self._kube, LEASES, self._namespace, **selector) for lease in page["items"]
        ]
        now = renewals(found, self._me)
        were_there, self._others = bool(self._others), moved(self._before, now)
        self._before = now
        self._metrics.unreached_gateways.set(len(self._others))
        if self._others and not were_there:
            log.warning(self.complaint(), others=sorted(self._others))
