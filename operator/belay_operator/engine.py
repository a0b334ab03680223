"""The loop of the operator: keys come from what was seen and from the time queue, workers take them one by one."""

import asyncio
from typing import Final

import structlog

from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, Temporary
from belay_kube.logs import about
from belay_operator.agents import Agents
from belay_operator.apply import Applier
from belay_operator.braking import Braking
from belay_operator.decisions import ttl
from belay_operator.decisions.permissions import DEFAULT_KEEP_SECONDS
from belay_operator.delegations import Delegations
from belay_operator.drain.drainer import Drainer
from belay_operator.expiry import Expiry
from belay_operator.keys import Key, KeyKind
from belay_operator.metrics import Metrics
from belay_operator.observe.views import Gatherer
from belay_operator.permissions import Permissions
from belay_operator.queues import after
from belay_operator.seen import Seen
from belay_operator.trouble import Trouble

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 2.0
_RETRY_MOST_SECONDS = 300.0
_NAMES: Final = {
    KeyKind.WORK: "delegation",
    KeyKind.ENDED: "delegation",
    KeyKind.AGENT: "agent",
    KeyKind.PERMISSION: "request",
    KeyKind.SESSION: "session",
}
"""What logs call what a key names."""


class Engine:
    """Knows nothing of kopf; time and writes come from outside."""

    def __init__(
        self,
        seen: Seen,
        applier: Applier,
        clock: Clock,
        metrics: Metrics,
        sweeper: Ref,
        keep: int = ttl.DEFAULT_SECONDS,
        *,
        fast_path: bool = True,
        keep_permissions: int = DEFAULT_KEEP_SECONDS,
    ) -> None:
        self.seen = seen
        self._clock = clock
        self._metrics = metrics
        self._errors = 0
        self._failures: dict[Key, int] = {}
        self._before: dict[Key, int] = {}
        """Failures of the keys in hand before they were taken: what fails in one go counts as one."""
        gatherer = Gatherer(seen.index, seen.presence, clock)
        self.delegations = Delegations(seen, gatherer, applier, clock, metrics, fast_path=fast_path)
        self.expiry = Expiry(seen, applier, clock, metrics, keep)
        self.expiry.on_left_out = self._over
        self.permissions = Permissions(seen, applier, clock, keep_permissions)
        self.braking = Braking(seen, applier, clock, metrics, sweeper)
        self.trouble = Trouble(applier, sweeper)
        self.drainer: Drainer | None = None
        """Who drains the mailboxes of Model agents."""
        self.agents = Agents(seen, gatherer, applier, self.delegations, clock, self._again)

    async def run(self, workers: int) -> None:
        """Work on keys until cancelled, once everything there is has been seen."""
        await self.seen.until_complete()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.seen.timers.run(), name="time queue")
            for number in range(workers):
                group.create_task(self._worker(), name=f"worker {number}")

    def totals(self) -> dict[str, int]:
        """What the fast path and the sweep did since the start, for DelegationSweeper.status.totals (S9)."""
        return {
            "deadlineFailures": self.delegations.deadline_failures,
            "stuckMarked": self.delegations.stuck_marked,
            "expired": self.expiry.expired,
            "errors": self._errors + self.expiry.errors,
        }

    async def _worker(self) -> None:
        while True:
            key = await self.seen.queue.take()
            try:
                with _about(key):
                    await self._work_on(key)
            finally:
                self.seen.queue.done(key)

    async def _work_on(self, key: Key) -> None:
        """Work on one key; what goes wrong is logged, counted and tried again, and ends nothing else (S7)."""
        try:
            before = self._before[key] = self._failures.get(key, 0)
            match key.kind:
                case KeyKind.WORK:
                    await self.delegations.judge(key.ref)
                case KeyKind.ENDED:
                    await self.expiry.tend(key.ref)
                case KeyKind.AGENT:
                    await self.agents.tend(key.ref)
                case KeyKind.PERMISSION:
                    await self.permissions.judge(key.ref)
                case KeyKind.FLEET:
                    await self.braking.tend()
                case KeyKind.SESSION if self.drainer:
                    await self.drainer.judge(key.ref)
            if self._failures.get(key, 0) == before:
                self._over(key)
        except Exception as error:  # noqa: BLE001 - S7: one key must not end the others
            self._again(key, error)
        finally:
            self._before.pop(key, None)

    def _over(self, key: Key) -> None:
        """`key` was treated, or is left to a later listing: what failed of it is forgotten."""
        self._failures.pop(key, None)
        self.trouble.over(key)

    def _again(self, key: Key, error: Exception) -> None:
        """Try a key again: when the API server asked, else later each time; the unexpected shows its traceback."""
        failures = self._failures[key] = self._before.get(key, 0) + 1
        grown = min(_RETRY_MOST_SECONDS, _RETRY_SECONDS * 2 ** min(failures - 1, 10))
        delay = (error.delay if isinstance(error, Temporary) else None) or grown
        trace = None if isinstance(error, KubeError) else error
        self._metrics.errors.labels(str(key.kind)).inc()
        self._errors += 1
        self.trouble.failed(key, failures, error)
        log.warning("will try again", key=key.kind, ref=str(key.ref), error=str(error), exc_info=trace)
        self.seen.timers.sooner(key, after(self._clock.now(), delay))


def _about(key: Key) -> about:
    """What every line says while a key is worked on."""
    name = _NAMES.get(key.kind)
    return about(**({name: key.ref} if name else {}))
