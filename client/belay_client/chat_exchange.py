"""One message and what comes of it: sent, followed by watches of session, turns and mail, interrupted by Ctrl-C."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from belay_api.agentsession import SessionPhase
from belay_client import chat_mail
from belay_client.chat_screen import Screen
from belay_client.chat_story import End, Line, Story, Tone, Verdict
from belay_client.cluster import explain
from belay_kube.client import MESSAGES, SESSIONS, TURNS, Collection, Json, Kube, pages
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, NotFound
from belay_kube.reader import Reader

_LEAVES = "Ctrl-C once more leaves it as it is"


@dataclass(frozen=True)
class Heard:
    """One event of a watch."""

    collection: Collection
    obj: Json
    gone: bool


class _Ear:
    """A sink that queues what it is told."""

    def __init__(self, collection: Collection, heard: asyncio.Queue[Heard]) -> None:
        self._collection = collection
        self._heard = heard

    def changed(self, obj: Json) -> None:
        """There is a newer state."""
        self._heard.put_nowait(Heard(self._collection, obj, gone=False))

    def deleted(self, obj: Json) -> None:
        """It is gone."""
        self._heard.put_nowait(Heard(self._collection, obj, gone=True))

    def synced(self) -> None:
        """Everything there is was told; nothing waits for that."""

    def lost(self) -> None:
        """No contact; the reader comes back by itself."""


async def exchange(
    kube: Kube,
    session: Json,
    text: str,
    screen: Screen,
    clock: Clock,
    *,
    timeout: float | None = None,
    on_turn: Callable[[Json], None] = lambda _: None,
) -> Verdict:
    """Send `text` and follow it to its end, at most `timeout` seconds. Raises KubeError when it may not."""
    async with _hearing(kube, session, clock) as heard:
        keys, before = _Keys(), _take_turns(heard)
        with keys.listening():
            story = Story(session, await chat_mail.send(kube, session, text), before)
            return await _Follower(kube, session, story, screen, on_turn).run(heard, keys, timeout, clock)


@asynccontextmanager
async def _hearing(kube: Kube, session: Json, clock: Clock) -> AsyncIterator[asyncio.Queue[Heard]]:
    """Everything that happens in the session. Raises KubeError if it can't be read."""
    namespace, name = session["metadata"]["namespace"], session["metadata"]["name"]
    heard: asyncio.Queue[Heard] = asyncio.Queue()
    within = {"fieldSelector": f"spec.sessionRef.name={name}"}
    selected = {SESSIONS: {"fieldSelector": f"metadata.name={name}"}, TURNS: within, MESSAGES: within}
    for collection, selectors in selected.items():  # a reader would retry for ever what is not allowed
        await kube.list(collection, namespace, limit="1", **selectors)
    readers = [
        Reader(kube, collection, _Ear(collection, heard), clock, namespace=namespace, selectors=selectors)
        for collection, selectors in selected.items()
    ]
    running = [asyncio.create_task(reader.run()) for reader in readers]
    try:
        for reader in readers:  # what is gone before a reader has begun, it never tells
            await reader.has_synced.wait()
        yield heard
    finally:
        await _end(*running)


def _take_turns(heard: asyncio.Queue[Heard]) -> int:
    """Take out the turns that were there before anything was said; returns the number of the last, 0 without any."""
    events = [heard.get_nowait() for _ in range(heard.qsize())]
    for event in events:
        if event.collection is not TURNS:
            heard.put_nowait(event)
    return max((e.obj["spec"]["sequence"] for e in events if e.collection is TURNS and not e.gone), default=0)


class _Keys:
    """How often Ctrl-C was pressed: `once`, which also holds after more, and `twice`."""

    def __init__(self) -> None:
        self.once = asyncio.Event()
        self.twice = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C, which ends nothing by itself meanwhile."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._pressed)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def _pressed(self) -> None:
        (self.twice if self.once.is_set() else self.once).set()


async def _end(*tasks: "asyncio.Task[object]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


class _Follower:
    """Tells what it hears, until its message has come to an end."""

    def __init__(
        self, kube: Kube, session: Json, story: Story, screen: Screen, on_turn: Callable[[Json], None]
    ) -> None:
        self._kube = kube
        self._session = session
        self._screen = screen
        self._on_turn = on_turn
        self._story = story

    async def run(self, heard: asyncio.Queue[Heard], keys: _Keys, timeout: float | None, clock: Clock) -> Verdict:
        """Until it has ended, or is waited for no more. Raises KubeError."""
        telling = asyncio.create_task(self._tell(heard))
        leaving = asyncio.create_task(keys.twice.wait())
        late = [asyncio.create_task(clock.sleep(timeout))] if timeout is not None else []
        interrupting = asyncio.create_task(self._interrupt(keys.once))
        try:
            await asyncio.wait({telling, leaving, *late}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                return _whose(telling.result(), asked_here=keys.once.is_set())
            return Verdict(End.LEFT if leaving.done() else End.LATE)
        finally:
            await _end(telling, leaving, interrupting, *late)

    async def _tell(self, heard: asyncio.Queue[Heard]) -> Verdict:
        while True:
            verdict = await self._hear(await heard.get()) or self._story.verdict()
            if verdict:
                return verdict
            self._screen.show(self._story.now)

    async def _hear(self, event: Heard) -> Verdict | None:
        if event.collection is SESSIONS:
            return self._hear_session(event)
        if event.collection is TURNS:
            self._hear_turn(event.obj)
        elif not event.gone:
            self._say(self._story.message(event.obj))
        elif event.obj["metadata"]["name"] == self._story.sent["metadata"]["name"]:
            return await self._message_went()
        return None

    def _hear_session(self, event: Heard) -> Verdict | None:
        if event.gone or event.obj["metadata"]["uid"] != self._session["metadata"]["uid"]:
            return Verdict(End.DELETED)
        self._say(self._story.session(event.obj))
        return None

    def _hear_turn(self, turn: Json) -> None:
        if "spec" in turn and self._story.is_new(turn):
            self._say(self._story.turn(turn))
            self._on_turn(turn)

    async def _message_went(self) -> Verdict | None:
        """It was read, which its turn tells, or somebody deleted it."""
        meta = self._session["metadata"]
        selector = f"spec.sessionRef.name={meta['name']}"
        async for page in pages(self._kube, TURNS, meta["namespace"], fieldSelector=selector):
            for turn in page["items"]:
                self._hear_turn(turn)
        if self._story.is_read:
            return None
        try:
            await self._kube.get(SESSIONS, meta["namespace"], meta["name"])
        except NotFound:
            return Verdict(End.DELETED)
        return Verdict(End.UNREAD)

    async def _interrupt(self, pressed: asyncio.Event) -> None:
        """Once it is asked for: cut short what runs, or take back what nobody has read."""
        await pressed.wait()
        meta = self._session["metadata"]
        try:
            session = await self._kube.get(SESSIONS, meta["namespace"], meta["name"])
            phase = (session.get("status") or {}).get("phase")
            if phase == SessionPhase.AWAITING or (phase == SessionPhase.EXECUTING and self._story.is_read):
                await chat_mail.interrupt(self._kube, self._session)
                self._say([Line(Tone.WAITS, f"interrupting; {_LEAVES}")])
            elif not self._story.is_read:
                await chat_mail.take_back(self._kube, self._story.sent)
        except KubeError as error:
            self._say([Line(Tone.TROUBLE, f"can't be interrupted: {explain(error)}; {_LEAVES}")])

    def _say(self, lines: list[Line]) -> None:
        for line in lines:
            self._screen.tell(line)


def _whose(verdict: Verdict, *, asked_here: bool) -> Verdict:
    """The same end is another when it was asked for here."""
    if verdict.end is End.INTERRUPTED and not asked_here:
        return Verdict(End.RETURNED, verdict.text)
    if verdict.end is End.UNREAD and asked_here:
        return Verdict(End.INTERRUPTED, "taken back before it was read")
    return verdict
