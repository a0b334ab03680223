"""Events on the resources, for what a person would want to know; posted after the write, dropped when too many wait."""

import asyncio
from typing import Any

import structlog

from belay_api.meta import COMPONENT_OPERATOR
from belay_kube.client import EVENTS, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
from belay_kube.events import About, Reporter, event_body
from belay_operator.metrics import Metrics

log = structlog.get_logger(__name__)

_WAITING = 1000
"""Most events that wait; events are a courtesy and must not hold up the work."""


class Recorder:
    """Posts events one after another, in the background."""

    def __init__(self, kube: Kube, clock: Clock, identity: str, metrics: Metrics) -> None:
        self._kube = kube
        self._clock = clock
        self._reporter = Reporter(COMPONENT_OPERATOR, identity)
        self._metrics = metrics
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WAITING)

    def say(self, about: About, reason: str, note: str, *, warning: bool = False) -> None:
        """Queue one event."""
        body = event_body(about, self._reporter, reason, reason, note, self._clock.now(), warning=warning)
        try:
            self._queue.put_nowait(body)
        except asyncio.QueueFull:
            self._metrics.events_dropped.inc()

    async def run(self) -> None:
        """Post until cancelled; an event that is refused is logged and counted."""
        while True:
            body = await self._queue.get()
            try:
                await self._kube.create(EVENTS, body["metadata"]["namespace"], body)
            except KubeError as error:
                self._metrics.events_dropped.inc()
                about = body["regarding"]
                named = {about["kind"].lower(): f"{about['namespace']}/{about['name']}"}
                log.warning("event not posted", reason=body["reason"], error=error.message, **named)
            finally:
                self._queue.task_done()
