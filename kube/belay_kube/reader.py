"""Reads one collection for ever: a list in chunks, then a watch, then the watch again from where it stopped.

Promises its `Sink`: after `synced`, what it was told is the collection as of some moment, and every later change of it
comes in order. An answer 410, an ERROR event or a lost place leads to a new list, whose missing objects are told as
deleted; so does time, as whatever is between may lose events, double them or change their order (fault 9). A silent
watch shows in `age`, so that a probe can end the process (kopf#1276, DESIGN.md section 8).
"""

import asyncio
import json
import math
import random
from collections.abc import Mapping
from typing import Protocol

import structlog

from belay_kube.client import Collection, Json, Kube, pages
from belay_kube.clock import Clock
from belay_kube.errors import Gone, KubeError, Temporary, Throttled, from_status

log = structlog.get_logger(__name__)

WATCH_SECONDS = (240, 300)
"""A watch is asked to end after a random time in this range, so that many don't end together."""
STALLED_SECONDS = 150.0
"""Bookmarks come about once a minute: a watch that was silent for longer than this is taken for dead."""
RESYNC_SECONDS = 600.0
"""A place in the watch is kept for at most so long: then everything is listed again, what was missed is made good."""
_RETRY_SECONDS = (0.2, 5.0)
_RESYNC_JITTER = (0.8, 1.0)

Key = tuple[str, str]


class Sink(Protocol):
    """Who wants to know. Calls come from one task, one after another; they must not block."""

    def changed(self, obj: Json) -> None:
        """The object is there, as shown: new, changed, or the same once more."""

    def deleted(self, obj: Json) -> None:
        """The object is gone, or left the selection; `obj` is the last that was seen of it."""

    def synced(self) -> None:
        """Everything there was has been told; called again when contact is back after `lost`."""

    def lost(self) -> None:
        """No contact: what is known may be out of date until the next `synced`."""


class Reader:
    """Keeps a `Sink` told about one collection, in one namespace or all, with optional selectors."""

    def __init__(
        self,
        kube: Kube,
        collection: Collection,
        sink: Sink,
        clock: Clock,
        *,
        namespace: str | None = None,
        selectors: Mapping[str, str] | None = None,
        resync: float = RESYNC_SECONDS,
    ) -> None:
        self._kube = kube
        self._collection = collection
        self._sink = sink
        self._clock = clock
        self._namespace = namespace
        self._selectors = dict(selectors or {})
        self._known: dict[Key, str] = {}
        self._version: str | None = None
        self._in_contact = False
        self._heard = clock.monotonic()
        self._resync = resync
        self._list_at = clock.monotonic()
        self._log = log.bind(collection=collection.plural, **self._selectors)
        self._failures = 0
        self._heard_since_pause = True
        self.has_synced = asyncio.Event()

    def age(self) -> float:
        """Seconds since the server was last heard: an event, a bookmark or a list."""
        return self._clock.monotonic() - self._heard

    def expects(self, made: Json) -> bool:
        """Count an object that was made just now as told, so that a list without it tells it as deleted.

        Made and gone again while the watch was away it would never be told at all. False if the reader is past its
        making and doesn't know it: it is gone already.
        """
        if self._version is not None and int(self._version) >= int(made["metadata"]["resourceVersion"]):
            return _key(made) in self._known
        self._known.setdefault(_key(made), made["metadata"]["resourceVersion"])
        return True

    async def run(self) -> None:
        """Read until cancelled; failures are waited out with growing, jittered pauses."""
        while True:
            try:
                if self._version is None or self._clock.monotonic() >= self._list_at:
                    await self._list()
                await self._watch()
                # A server that ends every watch at once must not be asked without pause.
                if not self._heard_since_pause:
                    await self._pause(None)
            except Gone as error:
                self._log.info("place in the watch lost, listing again", error=error.message)
                self._version = None
                await self._pause(None)
            except KubeError as error:
                self._lost()
                self._log.warning("watch interrupted", error=error.message, failures=self._failures + 1)
                await self._pause(error.delay if isinstance(error, Temporary) else None)

    async def _pause(self, asked: float | None) -> None:
        """Wait as long as the server asked, else longer each time until something is heard again."""
        self._failures = 1 if self._heard_since_pause else self._failures + 1
        self._heard_since_pause = False
        grown = min(_RETRY_SECONDS[1], _RETRY_SECONDS[0] * 2 ** min(self._failures, 8))
        await self._clock.sleep(asked or grown * random.uniform(0.5, 1))  # noqa: S311

    async def _list(self) -> None:
        """Tell everything there is, and as deleted what was known and is not there any more."""
        seen: dict[Key, str] = {}
        async for page in pages(self._kube, self._collection, self._namespace, **self._selectors):
            self._heard = self._clock.monotonic()
            for obj in page["items"]:
                key, version = _key(obj), obj["metadata"]["resourceVersion"]
                seen[key] = version
                if self._known.get(key) != version:
                    # Noted at once: the list may break off, and what was told must be told as deleted when it is gone.
                    self._known[key] = version
                    self._sink.changed(obj)
        listed_at = page["metadata"]["resourceVersion"]
        for namespace, name in self._known.keys() - seen.keys():
            self._sink.deleted({"metadata": {"namespace": namespace, "name": name, "resourceVersion": listed_at}})
        self._known = seen
        self._version = listed_at
        self._list_at = self._clock.monotonic() + self._resync * random.uniform(*_RESYNC_JITTER)  # noqa: S311
        self._contact()

    async def _watch(self) -> None:
        """Watch until the server ends it, or until it is time to list."""
        left = max(1, math.ceil(self._list_at - self._clock.monotonic()))
        query = {
            **self._selectors,
            "resourceVersion": self._version or "",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(min(left, random.randint(*WATCH_SECONDS))),  # noqa: S311
        }
        async with self._kube.watch(self._collection, self._namespace, query) as lines:
            self._contact()
            async for line in lines:
                self._event(json.loads(line))

    def _event(self, event: Json) -> None:
        self._heard = self._clock.monotonic()
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            error = from_status(int(obj.get("code") or 500), obj, f"watch of {self._collection.plural}")
            if not isinstance(error, Throttled):
                # The place itself may be what is wrong: begin with a list.
                self._version = None
            raise error
        self._heard_since_pause = True
        version = self._version = obj["metadata"]["resourceVersion"]
        if kind == "BOOKMARK" or int(version) < int(self._known.get(_key(obj), version)):
            # Nothing new, or overtaken on its way by what came after it.
            return
        if kind == "DELETED":
            self._known.pop(_key(obj), None)
            self._sink.deleted(obj)
        else:
            self._known[_key(obj)] = version
            self._sink.changed(obj)

    def _contact(self) -> None:
        self._heard = self._clock.monotonic()
        if not self._in_contact:
            self._in_contact = True
            self._sink.synced()
            self.has_synced.set()

    def _lost(self) -> None:
        if self._in_contact:
            self._in_contact = False
            self._sink.lost()


def _key(obj: Json) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]
