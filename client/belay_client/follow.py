"""Follows one delegation to its end: its state as lines, its result at last."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from rich.console import Console

from belay_api.transitions import TERMINAL, Phase
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.reader import Reader

EXIT_CODES = {Phase.COMPLETED: 0, Phase.FAILED: 1, Phase.CANCELLED: 3}
EXIT_DELETED = 4


class Display(Protocol):
    """Where the state is shown."""

    def show(self, line: str) -> None:
        """The state is this now."""
        ...


class Newest:
    """A sink that keeps the newest state, for one who waits."""

    def __init__(self, created: Json) -> None:
        self._obj = created
        self._seen = False
        self._gone = False
        self._news = asyncio.Event()
        self._news.set()

    def changed(self, obj: Json) -> None:
        """There is a newer state."""
        self._obj = obj
        self._seen = True
        self._news.set()

    def deleted(self, obj: Json) -> None:
        """It is gone; what it was in the end still counts."""
        if "spec" in obj:
            self._obj = obj
        self._gone = True
        self._news.set()

    def synced(self) -> None:
        """Everything there is was told: what was not among it was deleted before anyone looked."""
        self._gone = self._gone or not self._seen
        self._news.set()

    def lost(self) -> None:
        """No contact; nothing to keep."""

    async def next(self) -> tuple[Json, bool]:
        """The next state, and whether the object is gone."""
        await self._news.wait()
        self._news.clear()
        return self._obj, self._gone


async def follow(kube: Kube, created: Json, clock: Clock, display: Display) -> Json | None:
    """The delegation once it is terminal, or None when it is deleted before. Raises KubeError if it can't be read."""
    async with watched(kube, created, clock) as newest:
        return await _until_terminal(newest, created["metadata"]["uid"], display)


@asynccontextmanager
async def watched(kube: Kube, created: Json, clock: Clock) -> AsyncIterator[Newest]:
    """The states of one delegation from `created` on. Raises KubeError if it can't be read."""
    namespace, name = created["metadata"]["namespace"], created["metadata"]["name"]
    selectors = {"fieldSelector": f"metadata.name={name}"}
    await kube.list(DELEGATIONS, namespace, **selectors)  # a reader would retry for ever what is not allowed
    newest = Newest(created)
    reader = Reader(kube, DELEGATIONS, newest, clock, namespace=namespace, selectors=selectors)
    running = asyncio.create_task(reader.run())
    try:
        yield newest
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _until_terminal(newest: Newest, uid: str, display: Display) -> Json | None:
    shown = None
    while True:
        obj, gone = await newest.next()
        if obj["metadata"].get("uid") != uid:
            return None  # another of that name
        line = state_line(obj)
        if line != shown:
            display.show(line)
            shown = line
        if phase(obj) in TERMINAL:
            return obj
        if gone:
            return None


def phase(obj: Json) -> str:
    """Its phase; one without any is Pending."""
    return str(obj.get("status", {}).get("phase") or Phase.PENDING)


def state_line(obj: Json) -> str:
    """E.g. `InProgress 40% reading the code` or `Queued (AgentBusy), number 3 in the queue`."""
    status = obj.get("status", {})
    progress = status.get("progress") or {}
    parts = [phase(obj)]
    if status.get("reason") not in (None, phase(obj)):
        parts.append(f"({status['reason']})")
    if progress.get("percent") is not None:
        parts.append(f"{progress['percent']}%")
    if progress.get("message") and phase(obj) not in TERMINAL:
        parts.append(progress["message"])
    elif status.get("message"):
        parts.append(status["message"])
    if status.get("queuePosition"):
        parts.append(f"number {status['queuePosition']} in the queue")
    return printable(" ".join(parts))


def printable(text: str) -> str:
    """One line without control characters: what others wrote must not steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


class Lines:
    """One line for each state, where there is no terminal."""

    def __init__(self, name: str) -> None:
        self._name = name

    def show(self, line: str) -> None:
        """Print it."""
        print(f"{self._name}: {line}", file=sys.stderr, flush=True)


@contextmanager
def display(name: str) -> Iterator[Display]:
    """A live line on a terminal, else plain lines; both on standard error."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield Lines(name)
        return
    with console.status(name) as status:
        yield _Live(name, status.update)


class _Live:
    """The one line that changes."""

    def __init__(self, name: str, update: "_Update") -> None:
        self._name = name
        self._update = update

    def show(self, line: str) -> None:
        """Replace it."""
        self._update(f"{self._name}: {line}")


class _Update(Protocol):
    def __call__(self, status: str) -> None: ...
