"""Reads a collection everywhere a process works: one `Reader`, or one for each namespace that tell the same `Sink`.

Promises the sink the same either way: `synced` once everything everywhere has been told, `lost` as soon as one of them
has no contact.
"""

import asyncio
from collections.abc import Mapping, Sequence

from belay_kube.client import Collection, Json, Kube
from belay_kube.clock import Clock
from belay_kube.reader import RESYNC_SECONDS, Reader, Sink


class _Contact:
    """Who is in contact, of those that tell one sink."""

    def __init__(self, sink: Sink, places: Sequence[str]) -> None:
        self.sink = sink
        self._missing = set(places)
        self.complete = asyncio.Event()

    def found(self, place: str) -> None:
        """Contact in one place; in all of them, it is told."""
        was_missing = bool(self._missing)
        self._missing.discard(place)
        if was_missing and not self._missing:
            self.sink.synced()
            self.complete.set()

    def lost(self, place: str) -> None:
        """No contact in one place: that is told for all, once."""
        if not self._missing:
            self.sink.lost()
        self._missing.add(place)


class _Part:
    """What one reader tells, passed on."""

    def __init__(self, contact: _Contact, place: str) -> None:
        self._contact = contact
        self._place = place
        self.changed = contact.sink.changed
        self.deleted = contact.sink.deleted

    def synced(self) -> None:
        """Contact here."""
        self._contact.found(self._place)

    def lost(self) -> None:
        """No contact here."""
        self._contact.lost(self._place)


class Readers:
    """Several readers as one, by namespace."""

    def __init__(
        self,
        kube: Kube,
        collection: Collection,
        sink: Sink,
        clock: Clock,
        *,
        namespaces: Sequence[str],
        selectors: Mapping[str, str] | None = None,
        resync: float = RESYNC_SECONDS,
    ) -> None:
        contact = _Contact(sink, namespaces)
        self._each = {
            place: Reader(
                kube, collection, _Part(contact, place), clock, namespace=place, selectors=selectors, resync=resync
            )
            for place in namespaces
        }
        self.has_synced = contact.complete

    def age(self) -> float:
        """Seconds since the one that was silent for longest was heard."""
        return max(reader.age() for reader in self._each.values())

    def expects(self, made: Json) -> bool:
        """As `Reader.expects`."""
        return self._each[made["metadata"]["namespace"]].expects(made)

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            for place, reader in self._each.items():
                group.create_task(reader.run(), name=f"reading in {place}")


AnyReader = Reader | Readers


def everywhere(
    kube: Kube,
    collection: Collection,
    sink: Sink,
    clock: Clock,
    selectors: Mapping[str, str] | None = None,
    resync: float = RESYNC_SECONDS,
) -> AnyReader:
    """A reader of a collection in all namespaces that `kube` works in."""
    if not kube.namespaces:
        return Reader(kube, collection, sink, clock, selectors=selectors, resync=resync)
    return Readers(kube, collection, sink, clock, namespaces=kube.namespaces, selectors=selectors, resync=resync)
