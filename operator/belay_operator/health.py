"""/healthz fails when a watch is stalled, so that a silent watch becomes a restart; /readyz; /metrics."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from belay_operator.app import Operator
from belay_operator.metrics import Metrics


class Health:
    """What the probes see. A process that waits for its turn to lead is healthy and ready."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.operator: Operator | None = None

    def app(self) -> web.Application:
        """The HTTP application."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._show_metrics)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        stalled = self.operator.stalled() if self.operator else []
        if stalled:
            return web.Response(status=503, text=f"silent for too long: watch of {', '.join(stalled)}\n")
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self.operator and not self.operator.ready.is_set():
            return web.Response(status=503, text="catching up\n")
        return web.Response(text="ok\n")

    async def _show_metrics(self, _: web.Request) -> web.Response:
        metrics = self._metrics
        metrics.leader.set(1 if self.operator else 0)
        if self.operator:
            metrics.blind.set(1 if self.operator.presence.blind() else 0)
            for name, age in self.operator.ages():
                metrics.watch_age.labels(name).set(age)
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
