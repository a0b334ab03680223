"""Events on the resources, for what a person would want to know; posted after the write, dropped when too many wait."""

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from belay_api.meta import API_VERSION
from belay_api.names import Ref
from belay_api.times import to_wire
from belay_kube.client import EVENTS, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
from belay_operator.metrics import Metrics

log = structlog.get_logger(__name__)

_WAITING = 1000
"""Most events that wait; events are a courtesy and must not hold up the work."""


@dataclass(frozen=True)
class About:
    """The object an event is about."""

    kind: str
    ref: Ref
    uid: str


class Recorder:
    """Posts events one after another, in the background."""

    def __init__(self, kube: Kube, clock: Clock, identity: str, metrics: Metrics) -> None:
        self._kube = kube
        self._clock = clock
        self._identity = identity
        self._metrics = metrics
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WAITING)

    def say(self, about: About, reason: str, note: str, *, warning: bool = False) -> None:
        """Queue one event; `note` is cut at 1 KiB, as the API server demands."""
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{about.ref.name[:200]}-", "namespace": about.ref.namespace},
            "eventTime": to_wire(self._clock.now()),
            "reportingController": "belay.dev/operator",
            "reportingInstance": self._identity[:128],
            "action": reason,
            "reason": reason,
            "note": note[:1000],
            "type": "Warning" if warning else "Normal",
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": about.kind,
                "namespace": about.ref.namespace,
                "name": about.ref.name,
                "uid": about.uid,
            },
        }
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
                log.warning("event not posted", reason=body["reason"], error=error.message)
            finally:
                self._queue.task_done()
