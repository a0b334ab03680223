"""Deletes finished delegations whose time is over (D11).

Finished ones are not watched. What is to live for no longer than `HORIZON_SECONDS` is noted when it ends; for the
others `finished.py` lists them all now and then, page by page, and what falls due within the horizon is noted.
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
from belay_operator.observe.parents import Parents
from belay_operator.observe.records import Json, Work, parent_of, ref_of
from belay_operator.queues import after
from belay_operator.seen import Key, KeyKind, Seen

log = structlog.get_logger(__name__)

MOST = 20_000
"""Most that are noted at once; the soonest are kept, the others are found by a listing once most of these are gone."""
HORIZON_SECONDS = 4500.0
"""What falls due within this time is noted: longer than from one listing to the end of the next."""

_PARENT_SECONDS = 60.0
"""From the deletion of a delegation to another look at its parent."""


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
        self._noted: dict[Ref, datetime] = {}
        self._left_out = False
        self.parents = Parents()
        self.expired = 0
        self.errors = 0
        """Finished delegations that could not be read."""
        seen.on_ended = self.ended
        seen.on_parent = self.parents.saw

    def ended(self, work: Work) -> None:
        """A delegation ended just now: one that is to live shortly is looked at when its time comes."""
        seconds = self._ttl if work.ttl is None else work.ttl
        if seconds <= HORIZON_SECONDS:
            self._note(work.ref, after(self._clock.now(), seconds))

    def begin(self) -> None:
        """A listing of all finished delegations begins."""
        self._left_out = False
        self.parents.begin(work.parent for work in self._seen.index.work.values() if work.parent)

    def listed(self, objects: Sequence[Json]) -> None:
        """A page of it; what can't be read is counted and stops nothing else (S7)."""
        limit = after(self._clock.now(), HORIZON_SECONDS)
        for obj in objects:
            try:
                if parent := parent_of(obj):
                    self.parents.saw(parent)
                due = self._due(Finished.read(obj))
            except (KeyError, ValueError, TypeError) as error:
                self.errors += 1
                self._metrics.errors.labels(str(KeyKind.ENDED)).inc()
                log.warning("a finished delegation can't be read", ref=str(ref_of(obj)), error=repr(error))
                continue
            if due and due <= limit:
                self._note(ref_of(obj), due)

    def wants_listing(self) -> bool:
        """Whether more fell due than could be noted, and there is room again."""
        return self._left_out and len(self._noted) <= MOST // 4

    async def tend(self, ref: Ref) -> None:
        """Delete a delegation if its time is over, by a live read of it and, if it may have any, of its children.

        Raises KubeError.
        """
        obj = await self._applier.live_delegation(ref)
        finished = Finished.read(obj) if obj else None
        due = self._due(finished)
        self._noted.pop(ref, None)
        if finished is None or due is None:
            return
        if due > self._clock.now():
            if due <= after(self._clock.now(), HORIZON_SECONDS):
                self._note(ref, due)
            return
        if await self._has_children(ref):
            log.debug("finished delegation is kept for its descendants", delegation=str(ref))
            return
        if await self._applier.remove_delegation(finished):
            self.expired += 1
            self._metrics.expired.inc()
            if obj and (parent := parent_of(obj)) and parent not in self._noted:
                # It may have been kept for this one only; soon is enough, since there may be a thousand of these.
                self._note(parent, after(self._clock.now(), _PARENT_SECONDS))

    async def _has_children(self, ref: Ref) -> bool:
        """A list of the children costs the API server a look at every delegation of the namespace, so it is asked for
        only where there may be any: while the watch is out of contact, everywhere."""
        if self._seen.presence.in_contact() and not self.parents.may_be(ref):
            return False
        return await self._applier.has_children(ref)

    def _due(self, finished: Finished | None) -> datetime | None:
        if finished is None:
            return None
        return ttl.due_at(finished, self._ttl, self._seen.index.times_of(finished.agent).grace)

    def _note(self, ref: Ref, due: datetime) -> None:
        if ref not in self._noted and len(self._noted) >= MOST:
            self._leave_out(due)
        if ref in self._noted or len(self._noted) < MOST:
            self._noted[ref] = due
            self._seen.timers.set(Key(KeyKind.ENDED, ref), due)

    def _leave_out(self, newest: datetime) -> None:
        """There is no room for one due at `newest`: the later half makes it, unless that one is later still."""
        self._left_out = True
        middle = sorted(self._noted.values())[MOST // 2]
        if newest > middle:
            return
        for ref in [ref for ref, due in self._noted.items() if due > middle]:
            del self._noted[ref]
            self._seen.timers.drop(Key(KeyKind.ENDED, ref))
