"""`belay-gateway`: serves agents' sockets until told to stop."""

import logging
import sys
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from belay_gateway.app import GATEWAY, create_app
from belay_gateway.leasing import RELEASE_SECONDS
from belay_gateway.refusals import Refusals, Why
from belay_gateway.settings import Settings
from belay_kube.client import Kube, connect
from belay_kube.clock import SystemClock
from belay_kube.preflight import Need, leases, preflight, reading, writing_status
from belay_kube.process import StartupError, announce, listen, run, shown
from belay_kube.scope import scope

log = structlog.get_logger(__name__)

_BACKLOG = 2048
_FIELD_BYTES = 4096
_REQUESTS_SECONDS = 2.0
"""For answers under way once all else has ended; they had as long as the sockets had before."""
NEEDS = (
    *reading("agents", "agentsessions", "agentsubscriptions", "delegations", "permissionrequests"),
    *writing_status("agentsubscriptions", "delegations", "permissionrequests"),
    Need("create", "agentsubscriptions"),
    Need("create", "agentsessions"),
    Need("patch", "agentsessions"),
    Need("create", "pendingmessages"),
    Need("get", "pendingmessages"),
    Need("get", "sessionturns"),
    Need("create", "permissionrequests"),
    Need("create", "delegations"),
    Need("patch", "delegations"),
    Need("patch", "permissionrequests"),
    Need("create", "tokenreviews", "authentication.k8s.io", namespaced=False),
    Need("create", "subjectaccessreviews", "authorization.k8s.io", namespaced=False),
    Need("create", "events", "events.k8s.io"),
    *leases("list", "create", "patch"),
)


def main() -> None:
    """Entry point."""
    sys.exit(run("belay-gateway", Settings, gate))


async def gate(settings: Settings) -> None:
    """Run one gateway process until cancelled, then end in order. Raises StartupError, KubeError."""
    log.info("settings", **shown(settings))
    kube = await connect(settings.kubeconfig)
    kube.namespaces = scope(settings.namespace, settings.watch_namespaces)
    try:
        await preflight(kube, settings.namespace, NEEDS, "belay-gateway")
        await _serve(kube, settings)
    finally:
        await kube.close()


async def _serve(kube: Kube, settings: Settings) -> None:
    app = create_app(kube, SystemClock(), settings)
    runner = make_runner(app, _REQUESTS_SECONDS)
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
        try:
            # Still listening: who comes now gets a 503 that says so, and the probe that this one isn't ready.
            await app[GATEWAY].send_away()
        finally:
            await runner.cleanup()


def longest_end(settings: Settings) -> float:
    """Most seconds that a graceful end takes: the sum stays below the 30 that Kubernetes waits before it kills, or the
    Lease would not be released (P7). aiohttp waits for answers under way twice: before it cancels them, and after.
    """
    return settings.drain_seconds + settings.shutdown_seconds + 2 * _REQUESTS_SECONDS + RELEASE_SECONDS


def make_runner(app: web.Application, shutdown_timeout: float) -> web.AppRunner:
    """A runner that logs nothing of what requests carry: URLs and headers may hold what must not be logged."""
    gateway = app[GATEWAY]
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_HttpLog(gateway.metrics.refusals),
        shutdown_timeout=shutdown_timeout,
        # What is too long is still read, to be told; see Settings.max_token_bytes.
        max_field_size=2 * gateway.settings.max_token_bytes + _FIELD_BYTES,
    )
    gateway.lobby.connections = lambda: runner.server.connections if runner.server else ()
    return runner


class _HttpLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp logs, but for its errors of unreadable requests: they quote them, and so the beginning of a token
    that is too long, and anyone may cause any number of them. They are counted."""

    def __init__(self, refusals: Refusals) -> None:
        super().__init__(logging.getLogger("belay_gateway.http"))
        self._refusals = refusals

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        """Log, or count."""
        if isinstance(more.get("exc_info"), HttpProcessingError):
            self._refusals.count(Why.BAD_HTTP)
        else:
            super().log(level, msg, *args, **more)


if __name__ == "__main__":
    main()
