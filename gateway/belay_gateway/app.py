"""The gateway as an aiohttp application: its parts, put together once, and its background work."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

import structlog
from aiohttp import web

from belay_api.actions import Delegate
from belay_api.frames import Identifier
from belay_gateway.access import Access
from belay_gateway.acting import Acting
from belay_gateway.agents import Agents
from belay_gateway.api import openapi
from belay_gateway.api.operation import PREFIX, Parts
from belay_gateway.api.rates import Rates
from belay_gateway.api.serving import Door, create_api
from belay_gateway.attempts import Attempts
from belay_gateway.auth import Authenticator
from belay_gateway.backlog import Backlog
from belay_gateway.broadcasts import Broadcasts
from belay_gateway.bus import bus_for
from belay_gateway.cable import Cable, Connection
from belay_gateway.channel import AgentChannel
from belay_gateway.conversing import Conversing
from belay_gateway.decisions import Decisions
from belay_gateway.delegating import Delegating
from belay_gateway.endpoint import Endpoint
from belay_gateway.events import Events
from belay_gateway.fanout import Fanout
from belay_gateway.health import Health
from belay_gateway.hints import Hints
from belay_gateway.holdings import Holdings
from belay_gateway.inbound import Inbound
from belay_gateway.leasing import Leasing
from belay_gateway.lobby import Lobby
from belay_gateway.metrics import Metrics
from belay_gateway.outbound import Offers
from belay_gateway.permissions import Permissions
from belay_gateway.permitting import UNSETTLED
from belay_gateway.presence import Presence
from belay_gateway.pulse import Pulse
from belay_gateway.replies import Replies
from belay_gateway.returning import Returning
from belay_gateway.settings import Settings
from belay_gateway.sockets import Sockets
from belay_gateway.subscription import Subscription
from belay_gateway.tasks import Tasks
from belay_gateway.topics import Topics
from belay_gateway.touching import Touching
from belay_gateway.writes import Writes
from belay_kube.client import AGENTS, DELEGATIONS, PERMISSION_REQUESTS, SUBSCRIPTIONS, Kube
from belay_kube.clock import Clock
from belay_kube.readers import AnyReader, everywhere

log = structlog.get_logger(__name__)


class Gateway:
    """The parts of one gateway process. Built without input or output; `start` and `stop` do that."""

    def __init__(self, kube: Kube, clock: Clock, settings: Settings) -> None:
        self.settings = settings
        self._clock = clock
        self._away: asyncio.Future[None] | None = None
        self._ends_at = 0.0
        self.metrics = metrics = Metrics()
        self.tasks = tasks = Tasks()
        self.sockets = sockets = Sockets()
        me = settings.identity
        self.agents = agents = Agents(kube, settings.times())
        access = Access(kube, clock, settings.max_cached_reviews)
        events = Events(kube, clock, me, tasks)
        self.hints = hints = Hints()
        writes = Writes(kube, clock, hints, metrics)
        acting = Acting()
        self.presence = Presence(kube, clock, me, sockets, acting, tasks, metrics)
        self.holdings = holdings = Holdings(kube, clock, sockets, writes, tasks)
        returning = Returning(kube, clock, me, holdings, writes, events)
        self.attempts = Attempts(clock, agents, access, acting, holdings, writes, events)
        self.inbound = Inbound(me, self.presence, acting, self.attempts, returning, tasks, metrics)
        self.offers = Offers(kube, clock, sockets, self.attempts.threshold, holdings.is_unfit, hints, tasks)
        self.channel = AgentChannel(
            clock, agents, access, sockets, self.presence, self.inbound, self.offers, holdings, returning, tasks
        )
        self.decisions = Decisions(kube, clock, sockets, tasks)
        self.permissions = Permissions(kube, clock, me, self.decisions, self.presence, acting, metrics)
        backlog = Backlog(clock, settings.max_queue_per_socket)
        self.fanout = fanout = Fanout(backlog)
        self.topics = Topics(kube, clock, agents, access, fanout)
        self.bus = bus_for(settings, kube, clock, metrics)
        self.broadcasts = Broadcasts(
            settings, clock, agents, access, sockets, self.topics, self.bus, backlog, fanout, metrics
        )
        self.delegating = Delegating(kube, access, self.presence, me)
        replies = Replies(kube, clock, access, agents, sockets, acting, self.attempts, tasks, me)
        self.authenticator = authenticator = Authenticator(kube, clock, settings.audience, settings.max_cached_reviews)
        metrics.watch_reviews("token", authenticator.reviews)
        metrics.watch_reviews("access", access.answers)
        self.lobby = lobby = Lobby(clock, settings, metrics.refusals)
        self.api = Parts(kube, access, self.delegating, replies, self.broadcasts, Conversing(kube))
        cable = Cable(clock, settings, metrics, tasks, self._subscribe, backlog)
        self.endpoint = Endpoint(cable, authenticator, lobby)
        self.pulse = Pulse(self.endpoint, authenticator, metrics.refusals, tasks, clock, settings)
        self.touching = Touching(
            kube, clock, settings, sockets, agents, self.presence, tasks, metrics, holdings.is_unfit
        )
        self.leasing = Leasing(kube, clock, settings, metrics)
        self.readers = self._readers(kube, clock)
        self.health = Health(
            self.readers, self.leasing.is_fresh, lambda: self.endpoint.draining, metrics, self.bus.state
        )
        self._connect()

    def _readers(self, kube: Kube, clock: Clock) -> dict[str, AnyReader]:
        mine = {"fieldSelector": f"status.holderIdentity={self.settings.identity}"}
        offered = {"fieldSelector": "status.phase=Dispatched"}
        held = {"fieldSelector": f"status.gateway={self.settings.identity}"}
        unsettled = {"fieldSelector": UNSETTLED}
        resync = self.settings.resync_seconds
        return {
            "agents": everywhere(kube, AGENTS, self.agents, clock, resync=resync),
            "rows": everywhere(kube, SUBSCRIPTIONS, self.presence, clock, mine, resync),
            "offers": everywhere(kube, DELEGATIONS, self.offers, clock, offered, resync),
            "holdings": everywhere(kube, DELEGATIONS, self.holdings, clock, held, resync),
            "permissions": everywhere(kube, PERMISSION_REQUESTS, self.decisions, clock, unsettled, resync),
        }

    def _connect(self) -> None:
        self.permissions.serve(self.inbound.others)
        self.inbound.others[Delegate] = self.delegating.delegate
        self.agents.on_deleted = self.channel.agent_deleted
        self.agents.on_owners_changed = self.channel.owners_changed
        self.hints.sources = (self.offers.get, lambda ref: self.holdings.get(ref.namespace, ref.name))
        self.holdings.on_fit = self.offers.offer_all
        self.decisions.expects = self.readers["permissions"].expects
        self.topics.on_ended(self.task_ended)
        self.leasing.annotations = self.touching.annotations
        self.leasing.renewed = self.presence.reconcile

    async def _subscribe(self, connection: Connection, text: str, identifier: Identifier) -> Subscription:
        """With both an agent and a topic, the agent wins (C1)."""
        if identifier.agent_id is not None:
            return await self.channel.subscribe(connection, text, identifier)
        return await self.topics.subscribe(connection, text, identifier)

    async def ready(self) -> None:
        """Return once all there is has been read, or never will be."""
        broken = asyncio.ensure_future(self.health.broken.wait())
        for reader in self.readers.values():
            synced = asyncio.ensure_future(reader.has_synced.wait())
            await asyncio.wait({synced, broken}, return_when=asyncio.FIRST_COMPLETED)
            synced.cancel()
        broken.cancel()

    def task_ended(self, task: "asyncio.Task[None]") -> None:
        """Called when background work ends."""
        if not task.cancelled():
            self.health.ended(task.get_name(), task.exception())

    def background(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs for ever, by name."""
        readers = {f"reader of {name}": reader.run() for name, reader in self.readers.items()}
        loops = {
            "lease": self.leasing.run(),
            "pulse": self.pulse.run(),
            "lobby": self.lobby.run(),
            "touching": self.touching.run(),
            "offers": self.offers.run(),
            "bus": self.bus.run(),
        }
        return {**readers, **loops}

    async def send_away(self) -> None:
        """Refuse new sockets, and tell the open ones, spread over seconds, to come back elsewhere (P7). Once: who asks
        again waits for the same."""
        if self._away is None:
            self._ends_at = self._clock.monotonic() + self.settings.drain_seconds + self.settings.shutdown_seconds
            drain = self.endpoint.drain(self.settings.shutdown_seconds, self.settings.drain_seconds)
            self._away = asyncio.ensure_future(drain)
        await asyncio.shield(self._away)

    async def drain(self) -> None:
        """End gracefully: sockets are told, writes under way and the marks of rows are finished. All of it ends
        `shutdown_seconds` after the last socket was told, at the latest."""
        await self.send_away()
        if not await self.tasks.finish(max(0.0, self._ends_at - self._clock.monotonic())):
            log.warning("writes still under way at the end", count=len(self.tasks))


GATEWAY: Final = web.AppKey("gateway", Gateway)


async def _background(app: web.Application) -> AsyncIterator[None]:
    gateway = app[GATEWAY]
    await gateway.leasing.renew()
    loop = asyncio.get_running_loop()
    running = [loop.create_task(work, name=name) for name, work in gateway.background().items()]
    for task in running:
        task.add_done_callback(gateway.task_ended)
    await gateway.ready()
    yield
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await gateway.topics.close()
    gateway.fanout.stop()
    await gateway.tasks.cancel()
    await gateway.leasing.release()


async def _drain(app: web.Application) -> None:
    await app[GATEWAY].drain()


def create_app(kube: Kube, clock: Clock, settings: Settings) -> web.Application:
    """The application; its start waits until all there is has been read, its end is graceful. `kube` stays open."""
    gateway = Gateway(kube, clock, settings)
    app = web.Application()
    app[GATEWAY] = gateway
    app.router.add_get("/cable", gateway.endpoint.handle)
    app.router.add_get("/healthz", gateway.health.healthz)
    app.router.add_get("/readyz", gateway.health.readyz)
    app.router.add_get("/metrics", gateway.health.metrics)
    app.router.add_get("/openapi.json", openapi.serve)
    app.on_response_prepare.append(gateway.lobby.answered)
    door = Door(gateway.authenticator, gateway.lobby, Rates(clock, settings.max_requests_per_second), settings)
    api = create_api(openapi.OPERATIONS, gateway.api, door, gateway.metrics)
    app.add_subapp(PREFIX, api)
    app.cleanup_ctx.append(_background)
    app.on_shutdown.append(_drain)
    return app
