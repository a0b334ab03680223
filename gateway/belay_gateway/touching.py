"""Renewals of rows: each at its agent's heartbeat while the API server can bear it, round-robin and slower beyond."""

import heapq
import math
from collections.abc import Callable

import structlog

from belay_api.meta import ANNOTATION_TOUCH_SECONDS
from belay_gateway.agents import Agents
from belay_gateway.metrics import Metrics
from belay_gateway.presence import Presence
from belay_gateway.rows import renewal
from belay_gateway.settings import Settings
from belay_gateway.sockets import Session, Sockets
from belay_gateway.tasks import Tasks
from belay_kube.client import JSON_PATCH, SUBSCRIPTIONS, Kube
from belay_kube.clock import Clock
from belay_kube.errors import Invalid, KubeError, NotFound, Temporary

log = structlog.get_logger(__name__)

_TICK_SECONDS = 1.0
_IN_FLIGHT = 32
_PAUSE_SECONDS = 2.0


class Touching:
    """Renews the rows of sessions whose peers were heard."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        settings: Settings,
        sockets: Sockets,
        agents: Agents,
        presence: Presence,
        tasks: Tasks,
        metrics: Metrics,
        is_unfit: Callable[[Session], bool],
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._rate = settings.max_touches_per_second
        self._default = settings.heartbeat_seconds
        self._sockets = sockets
        self._agents = agents
        self._presence = presence
        self._tasks = tasks
        self._metrics = metrics
        self._is_unfit = is_unfit
        self._in_flight = 0
        self._paused_until = clock.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(_TICK_SECONDS)
            self._tick()

    def annotations(self) -> dict[str, str]:
        """What the operator must know to judge these rows: the period in force (DESIGN.md section 4)."""
        heartbeats = [self._agents.times(session.agent).heartbeat for session in self._sockets]
        period = max(min(heartbeats, default=self._default), thinned_period(heartbeats, self._rate))
        return {ANNOTATION_TOUCH_SECONDS: str(math.ceil(period))}

    def _tick(self) -> None:
        now = self._clock.monotonic()
        if now < self._paused_until:
            return
        heartbeats = {session: self._agents.times(session.agent).heartbeat for session in self._sockets}
        least = thinned_period(list(heartbeats.values()), self._rate)
        due = (s for s, heartbeat in heartbeats.items() if self._is_due(s, now - max(heartbeat, least)))
        free = min(math.ceil(self._rate * _TICK_SECONDS), _IN_FLIGHT - self._in_flight)
        for session in heapq.nsmallest(free, due, key=lambda s: (not self._has_turned(s), s.touched_at)):
            session.touching = True
            self._in_flight += 1
            with session.in_logs():
                self._tasks.spawn(self._touch(session, now), "renewing a row")

    def _is_due(self, session: Session, before: float) -> bool:
        """At its turn; before all others when it came, or ceased, to answer for all it has: the operator offers work
        by that."""
        heard_since = session.peer.heard_at() > session.touched_at
        return (session.touched_at <= before or self._has_turned(session)) and heard_since and not session.touching

    def _has_turned(self, session: Session) -> bool:
        return self._unfit_now(session) != session.told_unresponsive

    def _unfit_now(self, session: Session) -> bool:
        """As its row says until it is known what the session owes from before."""
        return self._is_unfit(session) if session.is_ready else session.told_unresponsive

    async def _touch(self, session: Session, now: float) -> None:
        try:
            result = await self._renew(session, now)
        finally:
            session.touching = False
            self._in_flight -= 1
        self._metrics.touches.labels(result).inc()

    async def _renew(self, session: Session, now: float) -> str:
        unfit = self._unfit_now(session)
        patch = renewal(session.token, self._clock.now(), unfit if unfit != session.told_unresponsive else None)
        namespace = session.agent.namespace
        try:
            await self._kube.patch(
                SUBSCRIPTIONS, namespace, session.row, patch, subresource="status", content_type=JSON_PATCH
            )
        except (NotFound, Invalid):
            session.touched_at, session.told_unresponsive = now, unfit
            self._presence.look_at(session)
            return "refused"
        except KubeError as error:
            asked = error.delay if isinstance(error, Temporary) else None
            self._paused_until = max(self._paused_until, self._clock.monotonic() + (asked or _PAUSE_SECONDS))
            log.warning("a row could not be renewed, trying again", row=session.row, error=error.message[:300])
            return "failed"
        session.touched_at, session.told_unresponsive = now, unfit
        return "ok"


def thinned_period(heartbeats: list[int], rate: int) -> float:
    """Seconds between two renewals of one row below which `rate` renewals a second would not do; 0 if they do."""
    demand = sum(1 / heartbeat for heartbeat in heartbeats)
    return len(heartbeats) / rate if demand > rate else 0.0
