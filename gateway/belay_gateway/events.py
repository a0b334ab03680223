"""Events on Delegations: what was refused is visible with `kubectl describe`; repeats and floods are not written."""

from collections import OrderedDict

import structlog

from belay_api.meta import COMPONENT_GATEWAY
from belay_gateway.bucket import Bucket
from belay_gateway.objects import ref_of
from belay_gateway.tasks import Tasks
from belay_kube.client import EVENTS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
from belay_kube.events import About, Reporter, event_body

log = structlog.get_logger(__name__)

REPEAT_SECONDS = 300.0
"""The same event on the same object is written once in this time."""
_RATE, _BURST = 5.0, 25.0
_REMEMBERED = 4096


class Events:
    """Writes events.k8s.io/v1 Events in the background; losing one harms nobody."""

    def __init__(self, kube: Kube, clock: Clock, identity: str, tasks: Tasks) -> None:
        self._kube = kube
        self._clock = clock
        self._reporter = Reporter(COMPONENT_GATEWAY, identity)
        self._tasks = tasks
        self._bucket = Bucket(clock, _RATE, _BURST)
        self._written: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def warn(self, delegation: Json, reason: str, action: str, note: str) -> None:
        """Say something about a delegation, unless the same was said a short while ago."""
        key, now = (delegation["metadata"]["uid"], reason, note), self._clock.monotonic()
        if now - self._written.get(key, float("-inf")) < REPEAT_SECONDS or not self._bucket.take():
            return
        self._written[key] = now
        self._written.move_to_end(key)
        while len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)
        self._tasks.spawn(self._write(delegation, reason, action, note), "writing an event")

    async def _write(self, delegation: Json, reason: str, action: str, note: str) -> None:
        about = About("Delegation", ref_of(delegation), delegation["metadata"]["uid"])
        body = event_body(about, self._reporter, reason, action, note, self._clock.now(), warning=True)
        try:
            await self._kube.create(EVENTS, about.ref.namespace, body)
        except KubeError as error:
            of = str(ref_of(delegation))
            log.warning("an event could not be written", delegation=of, reason=reason, error=error.message[:300])
