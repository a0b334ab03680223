"""What a test of the gateway plays with: a running gateway, people's tokens, agents, and the operator's part."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
from aiohttp import web

from belay_api.meta import API_VERSION, DEFAULT_AUDIENCE
from belay_api.names import subscription_name
from belay_api.times import to_wire
from belay_dev.controlplane import ControlPlane
from belay_gateway.app import GATEWAY, Gateway, create_app
from belay_gateway.cable import Connection
from belay_gateway.main import make_runner
from belay_gateway.settings import Settings
from belay_kube.client import AGENTS, DELEGATIONS, SUBSCRIPTIONS, Collection, Json, Kube
from belay_kube.clock import Clock, FakeClock, SystemClock
from belay_kube.errors import Conflict, NotFound
from belay_kube.process import url_of
from gateway.peer import Dialer, dialer
from waiting import eventually

SERVICE_ACCOUNTS = Collection("api/v1", "serviceaccounts")


@dataclass
class Running:
    """A gateway in this process."""

    gateway: Gateway
    runner: web.AppRunner
    url: str
    dialer: Dialer
    clock: Clock

    @property
    def identity(self) -> str:
        """Its Lease's name."""
        return self.gateway.settings.identity

    async def stop(self) -> None:
        """As SIGTERM does."""
        await self.runner.cleanup()

    async def pass_time(self, seconds: float) -> None:
        """Move its clock on in steps, in each of which peers have time to answer pings."""
        assert isinstance(self.clock, FakeClock)
        for _ in range(int(seconds)):
            before = self._pinged()
            await self.clock.advance(1.0)
            await self._answered(before)
        await self.clock.advance(seconds - int(seconds))

    def _pinged(self) -> dict[Connection, float]:
        return {connection: connection.ws_pinged for connection in self.gateway.endpoint}

    async def _answered(self, before: dict[Connection, float]) -> None:
        """Wait until each peer that answers pings has answered those of this second."""
        ports = self.dialer.answering_ports()
        asked = [c for c, at in before.items() if c.ws_pinged != at and c.port in ports]
        with suppress(AssertionError):  # a ping is left out when something more important goes out just then
            await eventually(lambda: all(c.heard_at() >= c.ws_pinged or not c.is_open for c in asked), timeout=2)


@asynccontextmanager
async def running(kube: Kube, clock: Clock, *, listen: int = 0, **settings: Any) -> AsyncIterator[Running]:
    """A gateway on the loopback, at a free port unless told which, ended gracefully if it still runs."""
    app = create_app(kube, clock, Settings(port=0, **{"drain_seconds": 0, **settings}))
    runner = make_runner(app, 5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", listen).start()
        url = url_of(runner)
        async with dialer(url) as dialing:
            yield Running(app[GATEWAY], runner, url, dialing, clock)
    finally:
        await runner.cleanup()


@dataclass
class Stage:
    """One namespace with people, agents and work."""

    namespace: str
    plane: ControlPlane
    admin: Kube
    operator: Kube

    async def person(self, name: str, audience: str = DEFAULT_AUDIENCE) -> str:
        """A token of a ServiceAccount of that name."""
        await self.admin.create(SERVICE_ACCOUNTS, self.namespace, {"metadata": {"name": name}})
        return await asyncio.to_thread(self.plane.service_account_token, self.namespace, name, [audience])

    async def agent(self, name: str, *owners: str, **spec: Any) -> str:
        """Make an agent; returns its `namespace/name`."""
        subjects = [{"kind": "ServiceAccount", "name": owner} for owner in owners]
        body = {
            "apiVersion": API_VERSION,
            "kind": "Agent",
            "metadata": {"name": name},
            "spec": {**({"owners": subjects} if subjects else {}), **spec},
        }
        await self.admin.create(AGENTS, self.namespace, body)
        return f"{self.namespace}/{name}"

    async def delegation(self, name: str, agent: str, **spec: Any) -> Json:
        """Make a delegation without a status."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "Delegation",
            "metadata": {"name": name},
            "spec": {"agentRef": {"name": agent}, "task": {"prompt": "do it"}, **spec},
        }
        return await self.admin.create(DELEGATIONS, self.namespace, body)

    async def offered(self, name: str, agent: str, **spec: Any) -> Json:
        """Make a delegation and dispatch it."""
        await self.delegation(name, agent, **spec)
        return await self.dispatch(name)

    async def dispatch(self, name: str, attempt: int = 1) -> Json:
        """The operator's part: put it on offer."""
        at = SystemClock().now()
        return await self.operate(
            name,
            phase="Dispatched",
            reason="Dispatched",
            attempt=attempt,
            dispatchedTime=to_wire(at),
            deadline=to_wire(at + timedelta(hours=6)),
        )

    async def operate(self, name: str, **status: Any) -> Json:
        """The operator's part: write a status."""
        while True:
            try:
                return await self.operator.patch_status(DELEGATIONS, await self.work(name), status)
            except Conflict:
                continue

    async def cancel(self, name: str, reason: str = "AgentOffline") -> Json:
        """The operator's part: end it."""
        ended = {"completionTime": to_wire(SystemClock().now())}
        return await self.operate(name, phase="Cancelled", reason=reason, message="cancelled by a test", **ended)

    async def work(self, name: str) -> Json:
        """A delegation as it is now."""
        return await self.admin.get(DELEGATIONS, self.namespace, name)

    async def status(self, name: str) -> Json:
        """Its status."""
        status: Json = (await self.work(name)).get("status") or {}
        return status

    async def row(self, agent: str, session_id: str) -> Json | None:
        """The row of a session as it is now."""
        try:
            return await self.admin.get(SUBSCRIPTIONS, self.namespace, subscription_name(agent, session_id))
        except NotFound:
            return None

    async def row_is(self, agent: str, session_id: str, phase: str, reason: str | None = None) -> Json:
        """Wait until the row is in that phase, for that reason; returns its status."""

        async def check() -> Json | None:
            status: Json = ((await self.row(agent, session_id)) or {}).get("status") or {}
            return status if (status.get("phase"), status.get("reason")) == (phase, reason) else None

        return await eventually(check)

    async def becomes(self, name: str, matches: Callable[[Json], bool]) -> Json:
        """Wait until the status of a delegation is so."""

        async def check() -> Json | None:
            status = await self.status(name)
            return status if matches(status) else None

        return await eventually(check)

    def condition(self, status: Json, kind: str) -> str | None:
        """The status of one condition."""
        return next((c["status"] for c in status.get("conditions") or [] if c["type"] == kind), None)


async def fetch(url: str) -> tuple[int, str]:
    """GET: the status and the text."""
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status, await response.text()
