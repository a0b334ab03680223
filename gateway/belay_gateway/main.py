"""`belay-gateway`: serves agents' sockets until told to stop."""

import logging
import sys

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from belay_gateway.app import GATEWAY, create_app
from belay_gateway.settings import Settings
from belay_kube.client import Kube, connect
from belay_kube.clock import SystemClock
from belay_kube.preflight import Need, leases, preflight, reading, writing_status
from belay_kube.process import StartupError, announce, listen, run

log = structlog.get_logger(__name__)

_BACKLOG = 2048
NEEDS = (
    *reading("agents", "agentsubscriptions", "delegations"),
    *writing_status("agentsubscriptions", "delegations"),
    Need("create", "agentsubscriptions"),
    Need("create", "tokenreviews", "authentication.k8s.io"),
    Need("create", "subjectaccessreviews", "authorization.k8s.io"),
    Need("create", "events", "events.k8s.io"),
    *leases("create", "patch"),
)


def main() -> None:
    """Entry point."""
    sys.exit(run("belay-gateway", Settings, gate))


async def gate(settings: Settings) -> None:
    """Run one gateway process until cancelled, then end in order. Raises StartupError, KubeError."""
    kube = await connect(settings.kubeconfig)
    try:
        await preflight(kube, settings.namespace, NEEDS)
        await _serve(kube, settings)
    finally:
        await kube.close()


async def _serve(kube: Kube, settings: Settings) -> None:
    app = create_app(kube, SystemClock(), settings)
    runner = make_runner(app, settings.shutdown_seconds)
    await runner.setup()
    try:
        url = await listen(runner, settings.host, settings.port, _BACKLOG)
        log.info("serving", url=url, identity=settings.identity)
        if settings.announce:
            announce(url=url)
        await app[GATEWAY].health.broken.wait()
        raise StartupError(f"{app[GATEWAY].health.breakage}: start it again")
    finally:
        log.info("shutting down")
        await runner.cleanup()


def make_runner(app: web.Application, shutdown_timeout: float) -> web.AppRunner:
    """A runner that logs nothing of what requests carry: URLs and headers may hold what must not be logged."""
    return web.AppRunner(app, access_log=None, logger=_http_log, shutdown_timeout=shutdown_timeout)


class _WithoutQuotes(logging.Filter):
    """aiohttp's errors of unreadable requests quote them, and so the beginning of a token that is too long."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the error, keep the line."""
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            record.exc_info = None
        return True


_http_log = logging.getLogger("belay_gateway.http")
_http_log.addFilter(_WithoutQuotes())


if __name__ == "__main__":
    main()
