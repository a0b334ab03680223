"""Puts the operator together: readers and kopf feed the engine, the engine writes through the applier."""

import asyncio
from collections.abc import Iterable

import structlog

from belay_api.meta import COMPONENT_GATEWAY, LABEL_COMPONENT, SWEEPER_NAME
from belay_api.names import Ref
from belay_kube.client import (
    AGENTS,
    DELEGATIONS,
    LEASES,
    MESSAGES,
    PERMISSION_REQUESTS,
    SESSIONS,
    SUBSCRIPTIONS,
    Collection,
    Kube,
)
from belay_kube.clock import Clock
from belay_kube.reader import STALLED_SECONDS, Reader, Sink
from belay_kube.readers import AnyReader, everywhere
from belay_operator.apply import Applier
from belay_operator.drain.assembly import Around, assemble
from belay_operator.engine import Engine
from belay_operator.events import Recorder
from belay_operator.finished import FinishedLister
from belay_operator.handlers import sinks
from belay_operator.handlers.kopf_edge import KopfEdge, Receiver
from belay_operator.metrics import Metrics
from belay_operator.observe.index import Index
from belay_operator.observe.presence import Presence
from belay_operator.seen import Seen
from belay_operator.settings import Settings
from belay_operator.sweep import UNFINISHED
from belay_operator.sweeper import Sweeper

log = structlog.get_logger(__name__)


class Operator:
    """One operator that leads. Made for one run."""

    def __init__(self, kube: Kube, clock: Clock, settings: Settings, metrics: Metrics | None = None) -> None:
        self._kube = kube
        self._clock = clock
        self._settings = settings
        self.metrics = metrics or Metrics()
        times = settings.times()
        self._recorder = Recorder(kube, clock, settings.identity, self.metrics)
        self.presence = Presence(clock, times.stale_after, settings.brake_seconds)
        applier = Applier(kube, clock, self._recorder, self.metrics, settings.workers)
        self.seen = Seen(Index(times), self.presence, clock, self.metrics)
        sweeper = Ref(settings.namespace, SWEEPER_NAME)
        self.engine = Engine(
            self.seen,
            applier,
            clock,
            self.metrics,
            sweeper,
            settings.ttl_seconds,
            fast_path=settings.fast_path,
            keep_permissions=settings.permission_ttl_seconds,
        )
        around = Around(kube, clock, self.seen, applier, self._recorder, self.metrics, settings.identity)
        self.drain = assemble(around, self.engine.delegations, settings.model_calls, settings.message_ttl_seconds)
        self.engine.drainer = self.drain.drainer
        self.engine.delegations.handover = self.drain.handover
        self.sweeper = Sweeper(
            kube, self.engine, clock, settings.namespace, settings.sweeper_interval, self._recorder, self.metrics
        )
        self.finished = FinishedLister(kube, self.seen, self.engine.expiry, clock)
        self.readers = self._make_readers()
        self.ready = asyncio.Event()

    def _make_readers(self) -> dict[str, AnyReader]:
        gateways = {"labelSelector": f"{LABEL_COMPONENT}={COMPONENT_GATEWAY}"}
        fed = self.seen, self.metrics
        made: dict[str, tuple[Collection, Sink, str | None, dict[str, str]]] = {
            "delegations": (DELEGATIONS, sinks.delegations(*fed), None, {"fieldSelector": UNFINISHED}),
            "subscriptions": (SUBSCRIPTIONS, sinks.subscriptions(*fed), None, {}),
            "leases": (LEASES, sinks.leases(*fed), self._settings.namespace, gateways),
        }
        for name in made:
            self.presence.contact_lost(name)
        made["agents"] = AGENTS, sinks.agents(*fed), None, {}
        made["permissions"] = PERMISSION_REQUESTS, sinks.permissions(*fed), None, {}
        made["sessions"] = SESSIONS, sinks.sessions(*fed), None, {}
        made["messages"] = MESSAGES, sinks.messages(*fed), None, {}
        resync = self._settings.resync_seconds
        return {
            name: Reader(self._kube, collection, sink, self._clock, namespace=where, selectors=selectors, resync=resync)
            if where
            else everywhere(self._kube, collection, sink, self._clock, selectors, resync)
            for name, (collection, sink, where, selectors) in made.items()
        }

    async def run(self) -> None:
        """Run until cancelled, or until a part fails, which ends all. Once it has returned, nothing of it writes any
        more: another may lead."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._edge().run(), name="kopf")
            group.create_task(self._work(), name="work")

    async def _work(self) -> None:
        """All but kopf, whose end it doesn't wait for to give back what it holds."""
        try:
            await self._run_all()
        finally:
            await self.drain.stop()

    async def _run_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recorder.run(), name="events")
            for name, reader in self.readers.items():
                group.create_task(reader.run(), name=f"reader of {name}")
            group.create_task(self._open(), name="opening")
            group.create_task(self.sweeper.run(), name="sweeper")
            group.create_task(self.finished.run(), name="listing of finished delegations")
            group.create_task(self.engine.run(self._settings.workers), name="engine")

    def _edge(self) -> KopfEdge:
        receiver = Receiver(
            sweeper=self.sweeper.configured,
            tick=self.sweeper.tick,
        )
        return KopfEdge(self._kube, self._clock, self._settings.namespace, receiver)

    async def _open(self) -> None:
        """Decide nothing before everything was seen once: a missing agent must really be missing."""
        await self.sweeper.ensure()
        for reader in self.readers.values():
            await reader.has_synced.wait()
        await self.engine.braking.resume()
        self.seen.found_contact("start")
        self.seen.complete()
        self.ready.set()
        log.info("caught up", agents=len(self.seen.index.agents), delegations=len(self.seen.index.work))

    def stalled(self) -> list[str]:
        """Watches that have been silent for too long (DESIGN.md section 8)."""
        return [name for name, age in self.ages() if age > STALLED_SECONDS]

    def ages(self) -> Iterable[tuple[str, float]]:
        """Seconds since each watch was heard."""
        return [("kopf's timer", self.sweeper.age()), *((name, reader.age()) for name, reader in self.readers.items())]
