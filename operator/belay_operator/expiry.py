"""Deletes finished delegations whose time is over (D11).

Finished ones are not watched. What is to live for no longer than `HORIZON_SECONDS` is noted when it ends; for the
others `finished.py` lists them all now and then, page by page, and what falls due within the horizon is noted.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_operator.apply import Applier
from belay_operator.decisions import ttl
from belay_operator.decisions.ttl import Finished
from belay_operator.keys import Key, KeyKind
from belay_operator.metrics import Metrics
from belay_operator.observe.parents import Parents
from belay_operator.observe.records import Json, Work, parent_of, ref_of
from belay_operator.queues import after
from belay_operator.seen import Seen

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
        self._cut_off: datetime | None = None
        """What is due later than this was left out, since the last listing began; None: nothing was."""
        self.on_left_out: Callable[[Key], None] = lambda _: None
        """Told of each that was noted, and is left to a later listing."""
        self.parents = Parents()
        self.expired = 0
        self.errors = 0
        """Finished delegations that could not be read."""
        seen.on_ended = self.ended
        seen.on_parent = self.parents.saw
        seen.on_gap = self.parents.forget

    def ended(self, work: Work) -> None:
        """A delegation ended just now: one that is to live shortly is looked at when its time comes."""
        seconds = self._ttl if work.ttl is None else work.ttl
        if seconds <= HORIZON_SECONDS:
            self._note(work.ref, after(self._clock.now(), seconds))

    def begin(self) -> None:
        """A listing of all finished delegations begins."""
        self._cut_off = None
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
                log.warning("a finished delegation can't be read", delegation=str(ref_of(obj)), error=repr(error))
                continue
            if due and due <= limit:
                self._note(ref_of(obj), due)

    def wants_listing(self) -> bool:
        """Whether more fell due than could be noted, and there is room again."""
        return self._cut_off is not None and len(self._noted) <= MOST // 4

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
        if ref in self._noted or self._has_room(due):
            self._noted[ref] = due
            self._seen.timers.set(Key(KeyKind.ENDED, ref), due)

    def _has_room(self, due: datetime) -> bool:
        """Whether one due then may be noted: one comparison, mostly, since a burst of ends asks this of each."""
        if len(self._noted) >= MOST and not self._is_cut_off(due):
            self._make_room()
        return not self._is_cut_off(due)

    def _is_cut_off(self, due: datetime) -> bool:
        return self._cut_off is not None and due > self._cut_off

    def _make_room(self) -> None:
        """Leave out the later half."""
        by_due = sorted(self._noted, key=self._noted.__getitem__)
        self._cut_off = self._noted[by_due[MOST // 2 - 1]]
        for ref in by_due[MOST // 2 :]:
            del self._noted[ref]
            self._seen.timers.drop(Key(KeyKind.ENDED, ref))
            self.on_left_out(Key(KeyKind.ENDED, ref))
