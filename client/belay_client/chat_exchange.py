"""One message and what comes of it: sent, followed by watches of session and mail, interrupted by Ctrl-C.

Turns are read by their numbers, as the session counts them and when the message has left the mailbox.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from belay_api.agentsession import SessionPhase
from belay_client import chat_mail
from belay_client.chat_screen import Screen
from belay_client.chat_story import End, Line, Story, Tone, Verdict
from belay_client.chat_turns import Turns
from belay_client.chat_unread import is_surely_unread
from belay_client.cluster import explain
from belay_kube.client import MESSAGES, SESSIONS, Collection, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
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
    on_sent: Callable[[], None] = lambda: None,
    on_turn: Callable[[Json], None] = lambda _: None,
) -> Verdict:
    """Send `text` into `session`, as it was just read, and follow it to its end. Raises KubeError when it may not."""
    async with _hearing(kube, session, clock) as heard:
        keys, turns = _Keys(), Turns(kube, session, clock)
        await turns.skip()
        with keys.listening():
            story = Story(session, await chat_mail.send(kube, session, text))
            on_sent()
            return await _Follower(kube, session, story, turns, screen, clock, on_turn).run(heard, keys)


@asynccontextmanager
async def _hearing(kube: Kube, session: Json, clock: Clock) -> AsyncIterator[asyncio.Queue[Heard]]:
    """Everything that happens in the session. Raises KubeError if it can't be read."""
    namespace, name = session["metadata"]["namespace"], session["metadata"]["name"]
    heard: asyncio.Queue[Heard] = asyncio.Queue()
    within = {"fieldSelector": f"spec.sessionRef.name={name}"}
    selected = {SESSIONS: {"fieldSelector": f"metadata.name={name}"}, MESSAGES: within}
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
        await end(*running)


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


async def end(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel what still runs, and wait until all are over."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


class _Follower:
    """Tells what it hears, until its message has come to an end."""

    def __init__(
        self,
        kube: Kube,
        session: Json,
        story: Story,
        turns: Turns,
        screen: Screen,
        clock: Clock,
        on_turn: Callable[[Json], None],
    ) -> None:
        self._kube = kube
        self._session = session
        self._turns = turns
        self._screen = screen
        self._clock = clock
        self._on_turn = on_turn
        self._story = story

    async def run(self, heard: asyncio.Queue[Heard], keys: _Keys) -> Verdict:
        """Until it has ended, or is waited for no more. Raises KubeError."""
        telling = asyncio.create_task(self._tell(heard))
        leaving = asyncio.create_task(keys.twice.wait())
        interrupting = asyncio.create_task(self._interrupt(keys.once))
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                return _whose(telling.result(), asked_here=keys.once.is_set())
            return Verdict(End.LEFT)
        finally:
            await end(telling, leaving, interrupting)

    async def _tell(self, heard: asyncio.Queue[Heard]) -> Verdict:
        while True:
            verdict = await self._hear(await heard.get()) or self._story.verdict()
            if verdict:
                return verdict
            self._screen.show(self._story.now)

    async def _hear(self, event: Heard) -> Verdict | None:
        if event.collection is SESSIONS:
            return await self._hear_session(event)
        is_mine = event.obj["metadata"]["name"] == self._story.sent["metadata"]["name"]
        if event.gone:
            return await self._message_went() if is_mine else None
        self._say(self._story.message(event.obj))
        if is_mine and (event.obj.get("status") or {}).get("phase"):
            await self._hear_turns()
        return None

    async def _hear_session(self, event: Heard) -> Verdict | None:
        if event.gone or event.obj["metadata"]["uid"] != self._session["metadata"]["uid"]:
            return Verdict(End.DELETED)
        if self._turns.is_behind(event.obj):
            await self._hear_turns(event.obj)
        self._say(self._story.session(event.obj))
        return None

    async def _hear_turns(self, session: Json | None = None) -> None:
        """What is new, up to the end: what others said after it is none of this message's."""
        async for turn in self._turns.new(session):
            self._say(self._story.turn(turn))
            self._on_turn(turn)
            if self._story.verdict():
                return

    async def _message_went(self) -> Verdict | None:
        """It was read, which its turn tells, or somebody deleted it."""
        meta = self._session["metadata"]
        session = await chat_mail.read(self._kube, self._clock, SESSIONS, meta["namespace"], meta["name"])
        await self._hear_turns(session)
        if self._story.is_read:
            return None
        return Verdict(End.UNREAD if session else End.DELETED)

    async def _interrupt(self, pressed: asyncio.Event) -> None:
        """Once it is asked for: cut short what runs, or take back what nobody has read."""
        await pressed.wait()
        meta = self._session["metadata"]
        try:
            now = await self._kube.get(SESSIONS, meta["namespace"], meta["name"])
            mail = await chat_mail.mailbox(self._kube, now)
            if not self._story.is_read and is_surely_unread(self._story.sent, self._session, now, mail):
                await chat_mail.take_back(self._kube, self._story.sent)
            elif (now.get("status") or {}).get("phase") in (SessionPhase.AWAITING, SessionPhase.EXECUTING):
                await chat_mail.interrupt(self._kube, self._session)
                self._say([Line(Tone.WAITS, f"interrupting; {_LEAVES}")])
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
