"""The brake, told: condition and Event on the DelegationSweeper, metric, log; and its end when its time is over."""

from datetime import datetime
from typing import Any

import structlog

from belay_api.conditions import ConditionType, condition_time
from belay_api.names import Ref
from belay_api.reasons import Reason, fleet_back, fleet_lost, fleet_never_back
from belay_kube.clock import Clock
from belay_operator.apply import Applier
from belay_operator.decisions.brake import Release
from belay_operator.keys import FLEET
from belay_operator.metrics import Metrics
from belay_operator.queues import after
from belay_operator.seen import Seen

log = structlog.get_logger(__name__)


class Braking:
    """Keeps the DelegationSweeper `sweeper` saying whether the brake is on (DESIGN.md section 4)."""

    def __init__(self, seen: Seen, applier: Applier, clock: Clock, metrics: Metrics, sweeper: Ref) -> None:
        self._seen = seen
        self._applier = applier
        self._clock = clock
        self._metrics = metrics
        self._sweeper = sweeper
        self._told: bool | None = None

    async def resume(self) -> None:
        """Go on braking if an operator before this one did, so that a restart ends no grace. Raises KubeError."""
        since = _braked_since(await self._applier.live_sweeper(self._sweeper))
        if since is None:
            return
        self._told = True
        index = self._seen.index
        rows = [row for ref in index.row_refs() if (row := index.row(ref))]
        self._seen.presence.fleet.resume(rows, since)
        log.warning("the brake is still on", since=since.isoformat(), missing=self._seen.presence.fleet.counts()[1])
        self._seen.brake_turned()

    def sweeper_came(self, *, anew: bool) -> None:
        """A DelegationSweeper was first seen; `anew`: there was another before, so nothing stands in this one yet."""
        if self._seen.presence.fleet.braked:
            self._told = None if anew else self._told
            self._seen.queue.add(FLEET)

    async def tend(self) -> None:
        """Release the brake if it is time, and tell what changed. Raises KubeError."""
        fleet = self._seen.presence.fleet
        if fleet.judge():
            self._seen.brake_turned()
        if fleet.braked:
            self._seen.timers.set(FLEET, after(self._clock.now(), fleet.seconds_left()))
        self._metrics.braked.set(fleet.braked)
        if self._told is not fleet.braked and (fleet.braked or self._told):
            await self._tell(braked=fleet.braked)

    async def _tell(self, *, braked: bool) -> None:
        reason, message = self._why()
        log.warning("the brake", on=braked, reason=reason, message=message)
        kind = ConditionType.BRAKED
        if await self._applier.sweeper_condition(self._sweeper, kind, reason, message, holds=braked):
            self._told = braked

    def _why(self) -> tuple[Reason, str]:
        fleet = self._seen.presence.fleet
        live, missing = fleet.counts()
        if fleet.braked:
            return Reason.FLEET_LOST, fleet_lost(missing, live, int(fleet.seconds_left()))
        if fleet.last_release is Release.TIME:
            return Reason.BRAKE_TIMED_OUT, fleet_never_back()
        return Reason.FLEET_BACK, fleet_back(live)


def _braked_since(sweeper: dict[str, Any] | None) -> datetime | None:
    conditions = ((sweeper or {}).get("status") or {}).get("conditions") or []
    return condition_time(conditions, ConditionType.BRAKED)
