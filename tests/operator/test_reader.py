"""belay_kube/reader.py: what a sink is told; a scripted server makes the errors that a real one rarely does."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from belay_kube.client import AGENTS, Collection, Json, Kube
from belay_kube.clock import Clock, FakeClock
from belay_kube.errors import Gone, KubeError, Unreachable
from belay_kube.reader import Reader
from waiting import eventually

Lines = list[bytes]
Answer = Json | Lines


class Told:
    """A sink that remembers, e.g. `["changed a@1", "synced"]`."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def changed(self, obj: Json) -> None:
        self.all.append(f"changed {_short(obj)}")

    def deleted(self, obj: Json) -> None:
        self.all.append(f"deleted {obj['metadata']['name']}")

    def synced(self) -> None:
        self.all.append("synced")

    def lost(self) -> None:
        self.all.append("lost")


def _short(obj: Json) -> str:
    return f"{obj['metadata']['name']}@{obj['metadata']['resourceVersion']}"


def thing(name: str, version: int) -> Json:
    """An object of a scripted server."""
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def listing(version: int, *items: Json) -> Json:
    """A whole collection."""
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


def event(kind: str, obj: Json) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": obj}).encode()


def error(code: int) -> bytes:
    """An ERROR event."""
    return event("ERROR", {"kind": "Status", "code": code, "message": "scripted"})


class Scripted(Kube):
    """A server that answers from a script, and then hangs: lists and watches in turn, each an answer or an error."""

    def __init__(self, *script: Answer | KubeError) -> None:
        self._script = list(script)
        self.asked: list[str] = []
        self.over = asyncio.Event()

    async def list(self, path: Collection, namespace: str | None = None, **query: str) -> Json:
        """The next answer, a list."""
        self.asked.append("list")
        answer = await self._next()
        assert isinstance(answer, dict)
        return answer

    @asynccontextmanager
    async def watch(
        self, path: Collection, namespace: str | None, query: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The next answer, lines of a watch."""
        self.asked.append(f"watch from {query['resourceVersion']}")
        answer = await self._next()
        assert isinstance(answer, list)
        yield _each(answer)

    async def _next(self) -> Answer:
        if not self._script:
            self.over.set()
            await asyncio.Event().wait()
        answer = self._script.pop(0)
        if isinstance(answer, KubeError):
            raise answer
        return answer


async def _each(lines: Lines) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


@asynccontextmanager
async def reading(kube: Kube, clock: Clock, **how: Any) -> AsyncIterator[Told]:
    """A reader that runs, and what its sink was told."""
    told = Told()
    task = asyncio.ensure_future(Reader(kube, AGENTS, told, clock, **how).run())
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait({task})


async def told_by(*script: Answer | KubeError, **how: Any) -> tuple[list[str], list[str]]:
    """What the sink was told, and what the server was asked, until the script is over."""
    kube, clock = Scripted(*script), FakeClock()
    async with reading(kube, clock, **how) as told:
        while not kube.over.is_set():
            await clock.advance(1)
    return told.all, kube.asked


FIRST = listing(5, thing("a", 1), thing("b", 2))


async def test_everything_is_told_then_synced_then_changes_in_order() -> None:
    """The list, `synced`, and the events of the watch as they come."""
    lines = [event("ADDED", thing("c", 6)), event("MODIFIED", thing("a", 7)), event("DELETED", thing("b", 8))]
    told, asked = await told_by(FIRST, lines)
    assert told == ["changed a@1", "changed b@2", "synced", "changed c@6", "changed a@7", "deleted b"]
    assert asked[:2] == ["list", "watch from 5"]


async def test_a_watch_that_ends_is_resumed_where_it_was() -> None:
    """From the last event or bookmark, without a new list and without losing contact."""
    told, asked = await told_by(FIRST, [event("MODIFIED", thing("a", 7)), event("BOOKMARK", thing("", 9))], [])
    assert asked == ["list", "watch from 5", "watch from 9", "watch from 9"]
    assert "lost" not in told


@pytest.mark.parametrize("gone", [[error(410)], Gone("too old", 410)], ids=["ERROR event", "answer"])
async def test_a_lost_place_lists_again_and_tells_what_is_missing_as_deleted(gone: Lines | KubeError) -> None:
    """410: what was deleted meanwhile is told as deleted, what is the same is not told again."""
    told, asked = await told_by(FIRST, gone, listing(20, thing("b", 15), thing("c", 16)))
    assert told == ["changed a@1", "changed b@2", "synced", "changed b@15", "changed c@16", "deleted a"]
    assert asked == ["list", "watch from 5", "list", "watch from 20"]


async def test_a_broken_connection_is_lost_contact_until_the_watch_is_back() -> None:
    """`lost`, a pause, then the watch again from the same place, `synced` once it stands."""
    told, asked = await told_by(FIRST, Unreachable("down"), [event("DELETED", thing("a", 7))])
    assert told == ["changed a@1", "changed b@2", "synced", "lost", "synced", "deleted a"]
    assert asked[:3] == ["list", "watch from 5", "watch from 5"]


async def test_an_error_event_is_lost_contact_until_a_new_list() -> None:
    """500 in a watch: the place itself may be what is wrong, so it is not tried again (fault 11)."""
    told, asked = await told_by(FIRST, [error(500)], listing(9, thing("b", 2)))
    assert told == ["changed a@1", "changed b@2", "synced", "lost", "deleted a", "synced"]
    assert asked[:3] == ["list", "watch from 5", "list"]


async def test_a_list_that_breaks_off_forgets_nothing_it_told() -> None:
    """What the first page told is told as deleted when the next list lacks it."""
    first = listing(5, thing("a", 1))
    first["metadata"]["continue"] = "more"
    told, _ = await told_by(first, Unreachable("down"), listing(9, thing("b", 2)))
    assert told == ["changed a@1", "changed b@2", "deleted a", "synced"]


async def test_thousands_of_failures_are_outlived() -> None:
    """However often the server is not there, the reader goes on, and is there when it is back."""
    told, asked = await told_by(*[Unreachable("down")] * 1100, FIRST)
    assert told == ["changed a@1", "changed b@2", "synced"]
    assert asked.count("list") == 1101


async def test_what_was_overtaken_on_its_way_is_not_told() -> None:
    """An older version of what is known changes nothing, and deletes nothing (fault 9)."""
    late = [event("MODIFIED", thing("a", 9)), event("MODIFIED", thing("a", 7)), event("DELETED", thing("a", 8))]
    told, _ = await told_by(FIRST, late)
    assert told == ["changed a@1", "changed b@2", "synced", "changed a@9"]


async def test_a_resync_makes_good_what_the_watch_never_told() -> None:
    """Lost changes, deletions and what a late event brought back; contact was never lost (fault 9)."""
    events = [event("DELETED", thing("b", 8)), event("MODIFIED", thing("b", 6))]
    told, asked = await told_by(FIRST, events, listing(20, thing("c", 16)), resync=0)
    assert told[:4] == ["changed a@1", "changed b@2", "synced", "deleted b"]
    assert (told[4:6], sorted(told[6:])) == (["changed b@6", "changed c@16"], ["deleted a", "deleted b"])
    assert asked[:3] == ["list", "watch from 5", "list"]


async def test_a_list_that_fails_is_tried_again() -> None:
    """Until it works; nothing is told before."""
    told, _ = await told_by(Unreachable("down"), Unreachable("down"), FIRST)
    assert told == ["changed a@1", "changed b@2", "synced"]


async def test_pages_are_one_list() -> None:
    """What stands on a later page is not missing from the first."""
    first = listing(5, thing("a", 1))
    first["metadata"]["continue"] = "more"
    told, _ = await told_by(first, listing(5, thing("b", 2)), [error(410)], listing(9, thing("a", 1), thing("b", 2)))
    assert told == ["changed a@1", "changed b@2", "synced"]


async def test_age_is_since_the_server_was_last_heard() -> None:
    """A silent watch shows, so that a probe can end the process."""
    clock = FakeClock()
    kube = Scripted(FIRST, [event("BOOKMARK", thing("", 6))])
    told = Told()
    reader = Reader(kube, AGENTS, told, clock)
    task = asyncio.ensure_future(reader.run())
    await asyncio.wait_for(kube.over.wait(), 10)
    assert reader.age() == 0
    await clock.advance(151)
    assert reader.age() == 151
    task.cancel()
    await asyncio.wait({task})


async def test_changes_on_a_real_server_are_told_and_selected(admin_kube: Kube, namespace: str) -> None:
    """Made, changed, deleted; another namespace's are not told."""
    async with reading(admin_kube, FakeClock(), namespace=namespace) as told:
        await eventually(lambda: told.all == ["synced"])
        made = await admin_kube.create(AGENTS, namespace, {**_AGENT, "metadata": {"name": "a"}})
        changed = await admin_kube.patch(AGENTS, namespace, "a", {"spec": {"description": "new"}})
        await admin_kube.delete(AGENTS, namespace, "a")
        await eventually(lambda: told.all[-1] == "deleted a")
    assert told.all == ["synced", f"changed {_short(made)}", f"changed {_short(changed)}", "deleted a"]


_AGENT = {"apiVersion": "belay.dev/v1alpha1", "kind": "Agent", "spec": {}}
