"""Deletes finished delegations whose time is over (D11).

Finished ones are not watched. Each sweep lists them, page by page, and only what falls due before the next one is
noted; what is to live for a shorter time than that is noted when it ends.
"""

from collections.abc import Sequence
from datetime import datetime

import structlog

from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_operator.apply import Applier
from belay_operator.decisions import ttl
from belay_operator.decisions.ttl import Finished
from belay_operator.metrics import Metrics
from belay_operator.observe.records import Json, Work, ref_of
from belay_operator.queues import after
from belay_operator.seen import Key, KeyKind, Seen

log = structlog.get_logger(__name__)

MOST = 10_000
"""Most that are noted at once; what is beyond comes with the next sweep."""
_SOON_SECONDS = 300.0


class Expiry:
    """Notes what falls due, and deletes it then."""

    def __init__(
        self, seen: Seen, applier: Applier, clock: Clock, metrics: Metrics, seconds: int = ttl.DEFAULT_SECONDS
    ) -> None:
        self._seen = seen
        self._applier = applier
        self._clock = clock
        self._metrics = metrics
        self._ttl = seconds
        self._noted: set[Ref] = set()
        self.expired = 0
        seen.on_ended = self.ended

    def ended(self, work: Work) -> None:
        """A delegation ended just now, or was deleted: one that is to live shortly is looked at when its time comes."""
        seconds = self._ttl if work.ttl is None else work.ttl
        if seconds <= _SOON_SECONDS:
            self._note(work.ref, after(self._clock.now(), seconds))

    def listed(self, objects: Sequence[Json], horizon: float) -> int:
        """Finished delegations as a sweep found them; the next one comes in `horizon` seconds. Returns how many could
        not be read (S7)."""
        errors = 0
        limit = after(self._clock.now(), horizon)
        for obj in objects:
            try:
                due = self._due(Finished.read(obj))
            except (KeyError, ValueError, TypeError) as error:
                errors += 1
                log.warning("sweep could not read an object", ref=str(ref_of(obj)), error=repr(error))
                continue
            if due and due <= limit:
                self._note(ref_of(obj), due)
        return errors

    async def tend(self, ref: Ref) -> None:
        """Delete a delegation if its time is over, by a live read of it and of its children. Raises KubeError."""
        obj = await self._applier.live_delegation(ref)
        finished = Finished.read(obj) if obj else None
        due = self._due(finished)
        self._noted.discard(ref)
        if finished is None or due is None:
            return
        if due > self._clock.now():
            if due <= after(self._clock.now(), _SOON_SECONDS):
                self._note(ref, due)
            return
        if await self._applier.has_children(ref):
            log.debug("finished delegation is kept for its descendants", delegation=str(ref))
            return
        if await self._applier.remove_delegation(finished):
            self.expired += 1
            self._metrics.expired.inc()

    def _due(self, finished: Finished | None) -> datetime | None:
        if finished is None:
            return None
        return ttl.due_at(finished, self._ttl, self._seen.index.times_of(finished.agent).grace)

    def _note(self, ref: Ref, due: datetime) -> None:
        if ref in self._noted or len(self._noted) < MOST:
            self._noted.add(ref)
            self._seen.timers.set(Key(KeyKind.ENDED, ref), due)
