"""`belay-operator`: waits for its turn to lead, then runs the operator until told to stop or no longer leading."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from belay_kube.client import Kube, connect
from belay_kube.clock import SystemClock
from belay_kube.preflight import Need, leases, preflight, reading, writing_status
from belay_kube.process import StartupError, announce, listen, run, shown
from belay_kube.scope import scope
from belay_operator.app import Operator
from belay_operator.health import Health
from belay_operator.leader import LostLeadershipError, lead
from belay_operator.metrics import Metrics
from belay_operator.settings import Settings
from belay_operator.tenure import Tenure

log = structlog.get_logger(__name__)

_DRAINED = ("agentsessions", "pendingmessages")
_STATED = ("agents", "agentsubscriptions", "delegations", "permissionrequests", *_DRAINED)
NEEDS = (
    *reading("delegationsweepers", "sessionturns", *_STATED),
    *writing_status(*_STATED),
    *(Need("delete", kind) for kind in ("agentsubscriptions", "delegations", "pendingmessages", "permissionrequests")),
    *(Need("create", kind) for kind in ("delegations", "permissionrequests", "sessionturns", *_DRAINED)),
    Need("create", "delegationsweepers", own_namespace=True),
    Need("patch", "delegationsweepers", own_namespace=True),
    Need("patch", "delegationsweepers", subresource="status", own_namespace=True),
    Need("create", "events", "events.k8s.io"),
    *leases("get", "list", "watch", "create", "patch", "delete"),
)


def main() -> None:
    """Entry point."""
    sys.exit(run("belay-operator", Settings, operate))


async def operate(settings: Settings) -> None:
    """Run one operator process. Raises StartupError."""
    log.info("settings", **shown(settings))
    kube = await connect(settings.kubeconfig)
    kube.namespaces = scope(settings.namespace, settings.watch_namespaces)
    metrics = Metrics()
    health = Health(metrics)
    try:
        await preflight(kube, settings.namespace, NEEDS, "belay-operator")
        async with _served(health, settings) as url:
            await _lead(kube, settings, health, metrics, url)
    finally:
        await kube.close()


async def _lead(kube: Kube, settings: Settings, health: Health, metrics: Metrics, url: str) -> None:
    async def work(tenure: Tenure) -> None:
        kube.may_write = tenure.sure
        health.operator = Operator(kube, SystemClock(), settings, metrics)
        if settings.announce:
            announce(url=url, identity=settings.identity)
        await health.operator.run()

    try:
        # A client of its own: a burst of writes must not hold up the renewal of the leader's Lease.
        apart = await connect(settings.kubeconfig)
        try:
            await lead(apart, SystemClock(), settings.namespace, settings.identity, settings.lease_seconds, work)
        finally:
            await apart.close()
    except LostLeadershipError as error:
        raise StartupError(f"{error}: ending, so that only one leads") from error


@asynccontextmanager
async def _served(health: Health, settings: Settings) -> AsyncIterator[str]:
    """Serve the probes; yields their address. Raises StartupError."""
    runner = web.AppRunner(health.app(), access_log=None)
    await runner.setup()
    try:
        yield await listen(runner, settings.health_host, settings.health_port)
    finally:
        await runner.cleanup()
