"""A gateway that pings and answers nothing: every wait for an answer has an end, and then it is tried elsewhere."""

import asyncio
from typing import Any

import pytest

from belay_api.actions import Complete, Resume
from belay_client import Unreachable
from belay_client.cable import ANSWER_SECONDS, ATTACH_SECONDS
from belay_kube.clock import FakeClock
from client.cable_server import CableServer, Socket, silent
from client.conftest import Open
from client.facts import until
from client.test_channel import held


class Pinger:
    """Moves the clock in steps of three seconds, with a ping on every socket at each."""

    def __init__(self, server: CableServer, clock: FakeClock) -> None:
        self._server = server
        self._clock = clock

    async def pass_time(self, seconds: float) -> None:
        """Each ping has been read when the next step begins: it says so by moving the end of the silence timer."""
        for _ in range(int(seconds / 3)):
            before = self._timers()
            await self._clock.advance(3)
            for socket in self._server.every_socket:
                if not socket.closed:
                    await socket.raw(type="ping", message=1)
            await until(lambda before=before: self._timers() > before)  # type: ignore[misc]

    def _timers(self) -> float:
        return max((due for due, _, future in self._clock._sleepers if not future.done()), default=0.0)


@pytest.fixture
def clock() -> FakeClock:
    """Stands still until it is moved."""
    return FakeClock()


@pytest.fixture
def pinger(server: CableServer, clock: FakeClock) -> Pinger:
    """Keeps connections alive while time passes."""
    return Pinger(server, clock)


async def attach(channel: Any) -> None:
    """Enter and leave."""
    async with channel:
        pass


async def test_subscription_that_is_never_confirmed(
    server: CableServer, channel: Open, clock: FakeClock, pinger: Pinger
) -> None:
    """After 30 seconds of nothing but pings it counts as a broken connection."""
    server.confirms = False
    attaching = asyncio.create_task(attach(channel(clock=clock, keep_trying=False)))
    await until(lambda: bool(server.every_socket) and bool(server.every_socket[0].identifier))
    await pinger.pass_time(ATTACH_SECONDS - 3)
    assert not attaching.done()
    await clock.advance(3)
    await server.every_socket[0].raw(type="ping", message=1)
    with pytest.raises(Unreachable, match="30 seconds"):
        await attaching


async def test_resume_that_is_never_answered(
    server: CableServer, channel: Open, clock: FakeClock, pinger: Pinger
) -> None:
    """The same; the next connection resumes again."""
    server.answers[Resume] = silent
    entering = asyncio.create_task(attach(channel(clock=clock)))
    socket = await server.socket()
    await pinger.pass_time(ATTACH_SECONDS - 3)
    assert not socket.closed
    del server.answers[Resume]
    await clock.advance(3)
    await socket.raw(type="ping", message=1)
    await socket.wait_closed()
    await server.socket(2)
    await entering


async def test_action_that_is_never_answered(
    server: CableServer, channel: Open, clock: FakeClock, pinger: Pinger
) -> None:
    """After 60 seconds it reconnects, and the action goes out again."""
    server.answers[Complete] = silent
    async with channel(clock=clock, beat=False) as attached:
        work = await held(server, attached)
        completing = asyncio.create_task(work.complete("precious"))
        socket: Socket = await server.socket()
        await socket.wait_for(Complete)
        await pinger.pass_time(ANSWER_SECONDS - 3)
        assert not socket.closed
        del server.answers[Complete]
        await clock.advance(3)
        await socket.raw(type="ping", message=1)
        await completing
        assert len((await server.socket(2)).of(Complete)) == 1


async def test_answered_actions_do_not_reconnect(
    server: CableServer, channel: Open, clock: FakeClock, pinger: Pinger
) -> None:
    """However long the connection lasts."""
    async with channel(clock=clock, beat=False) as attached:
        work = await held(server, attached)
        for percent in range(3):
            await pinger.pass_time(ANSWER_SECONDS)
            await work.progress(percent)
        assert len(server.tries) == 1
