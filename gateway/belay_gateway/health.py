"""`/healthz`, `/readyz`, `/metrics`: whether this process lives, may get new sockets, and what it counted."""

import asyncio
from collections.abc import Callable, Mapping

import structlog
from aiohttp import web

from belay_gateway.metrics import Metrics
from belay_kube.reader import STALLED_SECONDS
from belay_kube.readers import AnyReader

log = structlog.get_logger(__name__)


class Health:
    """Answers probes from what the running parts say of themselves."""

    def __init__(
        self,
        readers: Mapping[str, AnyReader],
        lease_is_fresh: Callable[[], bool],
        is_draining: Callable[[], bool],
        metrics: Metrics,
        remark: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._readers = readers
        self._lease_is_fresh = lease_is_fresh
        self._is_draining = is_draining
        self._metrics = metrics
        self._remark = remark
        self.broken = asyncio.Event()
        self._breakage = ""

    def ended(self, name: str, error: BaseException | None) -> None:
        """Background work that never ends by itself did: this process isn't what it seems and must be started anew."""
        log.critical("background work ended", task=name, exc_info=error)
        self._breakage = f"{name} ended: {error!r}"
        self.broken.set()

    @property
    def breakage(self) -> str:
        """What ended, in a sentence; empty while nothing did."""
        return self._breakage

    async def healthz(self, _: web.Request) -> web.Response:
        """The event loop turns, and all that must run does."""
        return web.Response(status=503 if self._breakage else 200, text=f"{self._breakage or 'ok'}\n")

    async def readyz(self, _: web.Request) -> web.Response:
        """Ready, or one line for each thing that is not; and a line of what is wrong but no reason to stay away."""
        wrong, remark = self.complaints(), self._remark()
        lines = [*(wrong or ["ok"]), *([remark] if remark else [])]
        return web.Response(status=503 if wrong else 200, text="".join(f"{line}\n" for line in lines))

    async def metrics(self, _: web.Request) -> web.Response:
        """Prometheus' text format."""
        for name, reader in self._readers.items():
            self._metrics.reader_age.labels(name).set(reader.age())
        return web.Response(body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    def complaints(self) -> list[str]:
        """Why no new sockets should come here."""
        found = ["shutting down"] if self._is_draining() else []
        found += [f"reader {n}: not yet synced" for n, r in self._readers.items() if not r.has_synced.is_set()]
        ages = {name: reader.age() for name, reader in self._readers.items()}
        found += [f"reader {n}: silent for {age:.0f}s" for n, age in ages.items() if age > STALLED_SECONDS]
        return found if self._lease_is_fresh() else [*found, "the gateway's Lease was not renewed lately"]
