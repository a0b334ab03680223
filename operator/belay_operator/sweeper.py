"""The backstop: sweeps when it is due, as the DelegationSweeper says, and tells there what was found (S1 to S11)."""

import asyncio
from datetime import datetime, timedelta

import structlog

from belay_api.meta import API_VERSION, SWEEPER_NAME
from belay_api.names import Ref
from belay_api.reasons import Reason
from belay_api.times import to_wire
from belay_kube.client import SWEEPERS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import AlreadyExists, KubeError, NotFound
from belay_kube.events import About
from belay_operator.engine import Engine
from belay_operator.events import Recorder
from belay_operator.metrics import Metrics
from belay_operator.sweep import Result, Sweep

log = structlog.get_logger(__name__)


class Sweeper:
    """Runs a sweep when one is due, and writes its result to the DelegationSweeper."""

    def __init__(
        self,
        kube: Kube,
        engine: Engine,
        clock: Clock,
        namespace: str,
        default_interval: int,
        recorder: Recorder,
        metrics: Metrics,
    ) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._kube = kube
        self._engine = engine
        self._clock = clock
        self._namespace = namespace
        self._default_interval = default_interval
        self._base = engine.seen.index.times
        self._settings: Json | None = None
        self._uid: str | None = None
        """Of the DelegationSweeper that was last seen."""
        self._began: datetime | None = None
        """When the last sweep began; the interval from it is the one in force when it is over."""
        self._told: int | None = None
        """The generation of the settings that the status last told of."""
        self._sweeps = 0
        self._deleted = asyncio.Event()
        self._ticked_at = clock.monotonic()
        self._sweep = Sweep(kube, engine, namespace, self._gets_on)

    def configured(self, obj: Json | None) -> None:
        """The DelegationSweeper, as it is now (None: gone): its settings override the environment's (S5)."""
        if obj and _uid(obj) != self._uid:
            self._engine.braking.sweeper_came(anew=self._uid is not None)
            self._uid = _uid(obj)
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
        """Seconds since kopf's timer was last heard, which asks every second whether a sweep is due, or a sweep got
        on."""
        return self._clock.monotonic() - self._ticked_at

    def _gets_on(self) -> None:
        """A sign of life: a long sweep isn't taken for a stalled one."""
        self._ticked_at = self._clock.monotonic()

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
        self._gets_on()
        if not self._engine.seen.is_complete:
            return
        if self._suspended() or not self._is_due():
            await self._acknowledge()
            return
        started = self._began = self._clock.now()
        try:
            result = await self.sweep()
        except Exception:
            # kopf would hold the timer back for a minute after an error of ours.
            log.exception("sweep failed, the next one runs")
            return
        self._count(result)
        if not result.quiet():
            log.info("sweep", **vars(result))
            self._say(result)
        await self._report(started, result)

    def interval(self) -> int:
        """Seconds between two sweeps."""
        spec = (self._settings or {}).get("spec") or {}
        return int(spec.get("intervalSeconds") or self._default_interval)

    def _count(self, result: Result) -> None:
        self._metrics.sweeps.inc()
        for kind, number in result.found().items():
            self._metrics.swept.labels(kind).inc(number)

    def _say(self, result: Result) -> None:
        """An Event on the DelegationSweeper: only for a sweep that found something (S9)."""
        uid = _uid(self._settings)
        if uid is None:
            return
        about = About("DelegationSweeper", Ref(self._namespace, SWEEPER_NAME), uid)
        note = ", ".join(f"{kind} {number}" for kind, number in result.found().items())
        self._recorder.say(about, Reason.SWEPT, note, warning=result.errors > 0)

    def _is_due(self) -> bool:
        return self._began is None or self._clock.now() >= self._began + timedelta(seconds=self.interval())

    def _suspended(self) -> bool:
        return bool(((self._settings or {}).get("spec") or {}).get("suspend"))

    async def sweep(self) -> Result:
        """One sweep, now."""
        result = await self._sweep.run()
        self._sweeps += 1
        return result

    async def _report(self, started: datetime, result: Result) -> None:
        took = self._clock.now() - started
        status: Json = {
            **self._in_force(),
            "lastSweep": {
                "startedTime": to_wire(started),
                "durationMilliseconds": int(took.total_seconds() * 1000),
                "inFlight": result.in_flight,
                **result.found(),
            },
            "totals": {"sweeps": self._sweeps, **self._engine.totals()},
        }
        await self._write(status)

    async def _acknowledge(self) -> None:
        """Say at once that changed settings are in force: who waits for that, as GitOps does, would wait for the next
        sweep, and for ever while there is none."""
        generation = self._generation()
        seen = ((self._settings or {}).get("status") or {}).get("observedGeneration")
        if generation is not None and generation not in (seen, self._told):
            await self._write(self._in_force())

    def _in_force(self) -> Json:
        """The effective settings, and of which generation they are."""
        return {
            "observedGeneration": self._generation(),
            "intervalSeconds": self.interval(),
            "stuckThresholdSeconds": self._engine.seen.index.times.stuck_threshold,
        }

    def _generation(self) -> int | None:
        generation: int | None = ((self._settings or {}).get("metadata") or {}).get("generation")
        return generation

    async def _write(self, status: Json) -> None:
        ref = Ref(self._namespace, SWEEPER_NAME)
        try:
            await self._kube.patch(SWEEPERS, ref.namespace, ref.name, {"status": status}, subresource="status")
            self._told = status["observedGeneration"]
            await self._engine.trouble.tell(self._settings)
        except NotFound:
            log.info("no DelegationSweeper to report to", ref=str(ref))
        except KubeError as error:
            log.warning("sweep could not report", error=error.message)


def _uid(obj: Json | None) -> str | None:
    uid: str | None = ((obj or {}).get("metadata") or {}).get("uid")
    return uid
