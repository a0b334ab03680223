"""The backstop: reads everything again in chunks, puts it through the decision and the write of the fast path, and says
what it found (S1 to S11)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from belay_api.meta import API_VERSION, SWEEPER_NAME
from belay_api.names import Ref
from belay_api.reasons import Reason
from belay_api.times import to_wire
from belay_api.transitions import IN_FLIGHT, TERMINAL
from belay_kube.client import AGENTS, DELEGATIONS, SUBSCRIPTIONS, SWEEPERS, Collection, Json, Kube, pages
from belay_kube.clock import Clock
from belay_kube.errors import AlreadyExists, KubeError, NotFound
from belay_operator.engine import Engine
from belay_operator.observe.index import older
from belay_operator.observe.records import AgentRecord, Row, Work, ref_of

log = structlog.get_logger(__name__)

R = TypeVar("R")

UNFINISHED = ",".join(f"status.phase!={phase}" for phase in sorted(TERMINAL))
"""Objects without a status match as well (DESIGN.md section 8)."""


@dataclass
class Result:
    """What one sweep did."""

    in_flight: int = 0
    deadline_failures: int = 0
    stuck_marked: int = 0
    errors: int = 0

    def quiet(self) -> bool:
        """Whether there is nothing to log (S9)."""
        return not (self.deadline_failures or self.stuck_marked or self.errors)


class Sweeper:
    """Runs a sweep when one is due, and writes its result to the DelegationSweeper."""

    def __init__(self, kube: Kube, engine: Engine, clock: Clock, namespace: str, default_interval: int) -> None:
        self._kube = kube
        self._engine = engine
        self._clock = clock
        self._namespace = namespace
        self._default_interval = default_interval
        self._base = engine.seen.index.times
        self._settings: Json | None = None
        self._next: datetime | None = None
        self._sweeps = 0
        self._deleted = asyncio.Event()
        self._ticked_at = clock.monotonic()

    def configured(self, obj: Json | None) -> None:
        """The DelegationSweeper, as it is now (None: gone): its settings override the environment's (S5)."""
        self._settings = obj
        if obj is None:
            self._deleted.set()
        spec = (obj or {}).get("spec") or {}
        self._engine.seen.times_changed(
            self._base.overridden({"stuckThresholdSeconds": spec.get("stuckThresholdSeconds")})
        )

    async def run(self) -> None:
        """Make the DelegationSweeper again whenever it is deleted, until cancelled."""
        while True:
            await self._deleted.wait()
            self._deleted.clear()
            await self.ensure()

    def age(self) -> float:
        """Seconds since kopf's timer was last heard; it asks every second whether a sweep is due."""
        return self._clock.monotonic() - self._ticked_at

    async def ensure(self) -> None:
        """Make the DelegationSweeper if there is none: without one kopf's timer has nothing to run on.

        A cluster where that is not allowed goes without the backstop, and is told so.
        """
        body = {"apiVersion": API_VERSION, "kind": "DelegationSweeper", "metadata": {"name": SWEEPER_NAME}, "spec": {}}
        try:
            await self._kube.create(SWEEPERS, self._namespace, body)
        except AlreadyExists:
            return
        except KubeError as error:
            log.warning("no DelegationSweeper and none could be made: there will be no sweeps", error=error.message)

    async def tick(self) -> None:
        """Sweep if one is due; the first one at once (S6). An exception is logged and the next tick runs (S7)."""
        self._ticked_at = self._clock.monotonic()
        if not self._engine.seen.is_complete or self._suspended() or (self._next and self._clock.now() < self._next):
            return
        started = self._clock.now()
        self._next = started + timedelta(seconds=self.interval())
        try:
            result = await self.sweep()
        except Exception:
            # kopf would hold the timer back for a minute after an error of ours.
            log.exception("sweep failed, the next one runs")
            return
        if not result.quiet():
            log.info("sweep", **vars(result))
        await self._report(started, result)

    def interval(self) -> int:
        """Seconds between two sweeps."""
        spec = (self._settings or {}).get("spec") or {}
        return int(spec.get("intervalSeconds") or self._default_interval)

    def _suspended(self) -> bool:
        return bool(((self._settings or {}).get("spec") or {}).get("suspend"))

    async def sweep(self) -> Result:
        """One pass over everything; what fails is counted and stops nothing else (S7, S8)."""
        result = Result()
        for step in (self._resync, self._remove_leases, self._judge_all):
            try:
                await step(result)
            except KubeError as error:
                result.errors += 1
                log.warning("a part of the sweep failed", part=step.__name__.strip("_"), error=error.message)
        self._sweeps += 1
        return result

    async def _resync(self, result: Result) -> None:
        """Agents and rows as they are, whatever the watches said (a silent one shows here)."""
        agents, version = await self._all(AGENTS)
        self._engine.seen.resync_agents(_read_each(AgentRecord.read, agents, result), version)
        rows, version = await self._all(SUBSCRIPTIONS)
        self._engine.seen.resync_rows(_read_each(Row.read, rows, result), version)

    async def _remove_leases(self, _: Result) -> None:
        await self._engine.agents.remove_dead_gateways(self._namespace)

    async def _judge_all(self, result: Result) -> None:
        listed: set[Ref] = set()
        version = "0"
        async for page in pages(self._kube, DELEGATIONS, fieldSelector=UNFINISHED):
            listed |= {ref_of(obj) for obj in page["items"]}
            version = page["metadata"]["resourceVersion"]
            await asyncio.gather(*(self._one(obj, result) for obj in page["items"]))
        self._engine.seen.resync_work(listed, version)

    async def _one(self, obj: Json, result: Result) -> None:
        try:
            work = await self._current(Work.read(obj))
            if work is None:
                return
            result.in_flight += work.phase in IN_FLIGHT
            change = await self._engine.delegations.judge(work.ref)
        except (KubeError, KeyError, ValueError, TypeError) as error:
            result.errors += 1
            log.warning("sweep could not treat a delegation", ref=str(ref_of(obj)), error=str(error))
            return
        result.deadline_failures += change is not None and change.reason is Reason.DEADLINE_EXCEEDED
        result.stuck_marked += change is not None and change.reason is Reason.NO_HEARTBEAT

    async def _current(self, listed: Work) -> Work | None:
        """A listed delegation; one that the watch doesn't know was missed by it, or has ended since the list."""
        known = self._engine.seen.index.work.get(listed.ref)
        if known is None or older(known.version, listed.version):
            self._engine.seen.saw_work(listed)
        return self._engine.seen.index.work.get(listed.ref)

    async def _all(self, collection: Collection) -> tuple[list[Json], str]:
        """Every object, and the resourceVersion at which that was so."""
        items: list[Json] = []
        version = "0"
        async for page in pages(self._kube, collection):
            items += page["items"]
            version = page["metadata"]["resourceVersion"]
        return items, version

    async def _report(self, started: datetime, result: Result) -> None:
        took = self._clock.now() - started
        status: Json = {
            "observedGeneration": ((self._settings or {}).get("metadata") or {}).get("generation"),
            "intervalSeconds": self.interval(),
            "stuckThresholdSeconds": self._engine.seen.index.times.stuck_threshold,
            "lastSweep": {
                "startedTime": to_wire(started),
                "durationMilliseconds": int(took.total_seconds() * 1000),
                "inFlight": result.in_flight,
                "deadlineFailures": result.deadline_failures,
                "stuckMarked": result.stuck_marked,
                "errors": result.errors,
            },
            "totals": {"sweeps": self._sweeps, **self._engine.totals()},
        }
        ref = Ref(self._namespace, SWEEPER_NAME)
        try:
            await self._kube.patch(SWEEPERS, ref.namespace, ref.name, {"status": status}, subresource="status")
        except NotFound:
            log.info("no DelegationSweeper to report to", ref=str(ref))
        except KubeError as error:
            log.warning("sweep could not report", error=error.message)


def _read_each(read: Callable[[Json], R], objects: list[Json], result: Result) -> list[R]:
    """Read what can be read; what can't is counted and stops nothing else (S7)."""
    found: list[R] = []
    for obj in objects:
        try:
            found.append(read(obj))
        except (KeyError, ValueError, TypeError) as error:
            result.errors += 1
            log.warning("sweep could not read an object", ref=str(ref_of(obj)), error=repr(error))
    return found
