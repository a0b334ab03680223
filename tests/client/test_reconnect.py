"""The channel across connections: what is tried again, what is given up, and when."""

import asyncio
from pathlib import Path

import pytest

from belay_api.actions import Accept, Cancelled, Complete, Goodbye, Heartbeat, Resume
from belay_api.messages import ErrorCode, ResumeVerdict
from belay_client import Backoff, Unauthorized, Unreachable, WorkOver
from belay_kube.clock import FakeClock
from client.cable_server import CableServer, refusing, silent
from client.conftest import Open
from client.test_channel import held


class RecordingClock(FakeClock):
    """Never waits, but for the silence timer, and remembers for how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    async def sleep(self, seconds: float) -> None:
        if seconds == 12:
            await super().sleep(seconds)
        self.asked.append(seconds)


async def test_reconnects_with_all_that_is_held(server: CableServer, channel: Open) -> None:
    """The same session, and `resume` lists each attempt."""
    async with channel() as attached:
        first, second = await held(server, attached, "one"), await held(server, attached, "two")
        await (await server.socket()).drop()
        resume = await (await server.socket(2)).wait_for(Resume)
        assert [(h.name, h.attempt) for h in resume.held] == [("one", 1), ("two", 1)]
        await first.complete("1")
        await second.complete("2")
        assert not first.cancelled.is_set()


async def test_result_whose_answer_was_lost_is_sent_again(server: CableServer, channel: Open) -> None:
    """The socket broke before the answer: the same action goes out after the verdict `continue`."""
    server.answers[Complete] = silent
    async with channel() as attached:
        work = await held(server, attached)
        completing = asyncio.create_task(work.complete("precious"))
        socket = await server.socket()
        sent = await socket.wait_for(Complete)
        del server.answers[Complete]
        await socket.drop()
        await completing
        again = await server.socket(2)
        assert again.of(Complete) == [sent]
        assert [type(action) for action in again.actions] == [Resume, Complete]


@pytest.mark.parametrize("verdict", [v for v in ResumeVerdict if v is not ResumeVerdict.CONTINUE])
async def test_result_is_sent_again_whatever_the_verdict(
    server: CableServer, channel: Open, verdict: ResumeVerdict
) -> None:
    """A late reply may still count (D12), and one that was applied already is a replay: the server decides."""
    server.answers[Complete] = silent
    async with channel() as attached:
        work = await held(server, attached)
        completing = asyncio.create_task(work.complete("precious"))
        socket = await server.socket()
        await socket.wait_for(Complete)
        del server.answers[Complete]
        server.verdicts["d"] = verdict
        await socket.drop()
        await completing


async def test_result_given_while_disconnected_waits(server: CableServer, channel: Open) -> None:
    """Nothing is sent before `resume` was answered."""
    async with channel() as attached:
        work = await held(server, attached)
        server.refuse = [503, 503]
        await (await server.socket()).drop()
        await work.complete("later")
        assert [type(a) for a in (await server.socket(2)).actions] == [Resume, Complete]


@pytest.mark.parametrize(
    ("verdict", "proofs"), [(ResumeVerdict.CANCELLED, 1), (ResumeVerdict.SUPERSEDED, 0), (ResumeVerdict.UNKNOWN, 0)]
)
async def test_verdict_that_is_not_continue_stops_the_work(
    server: CableServer, channel: Open, verdict: ResumeVerdict, proofs: int
) -> None:
    """It is told to stop; only for `cancelled` does the server wait for proof."""
    server.verdicts["d"] = verdict
    async with channel() as attached:
        work = await held(server, attached)
        server.answers[Heartbeat] = silent
        beating = asyncio.create_task(work.heartbeat())
        socket = await server.socket()
        await socket.wait_for(Heartbeat)
        await socket.drop()
        await work.cancelled.wait()
        with pytest.raises(WorkOver):
            await beating
        await work.acknowledge_cancel()
        again = await server.socket(2)
        assert len(again.of(Cancelled)) == proofs
        await again.drop()
        assert (await (await server.socket(3)).wait_for(Resume)).held == []


async def test_accept_in_flight_is_part_of_resume(server: CableServer, channel: Open) -> None:
    """Were it left out, the server would take the work for forgotten; with `continue` it is asked again."""
    server.answers[Accept] = silent
    async with channel() as attached:
        socket = await server.socket()
        await socket.dispatch()
        accepting = asyncio.create_task((await attached.next_offer()).accept())
        await socket.wait_for(Accept)
        del server.answers[Accept]
        await socket.drop()
        work = await accepting
        assert work is not None
        assert [h.name for h in (await (await server.socket(2)).wait_for(Resume)).held] == ["d"]


async def test_accept_in_flight_that_was_never_applied(server: CableServer, channel: Open) -> None:
    """`unknown`: it isn't ours; the offer that comes again can be accepted."""
    server.answers[Accept] = silent
    async with channel() as attached:
        socket = await server.socket()
        await socket.dispatch()
        accepting = asyncio.create_task((await attached.next_offer()).accept())
        await socket.wait_for(Accept)
        del server.answers[Accept]
        server.verdicts["d"] = ResumeVerdict.UNKNOWN
        await socket.drop()
        assert await accepting is None
        await (await server.socket(2)).dispatch()
        assert await (await attached.next_offer()).accept() is not None


async def test_acknowledgement_outlives_the_socket(server: CableServer, channel: Open) -> None:
    """The proof of a cancel is sent again too."""
    server.answers[Cancelled] = silent
    async with channel() as attached:
        work = await held(server, attached)
        socket = await server.socket()
        await socket.cancel()
        await work.cancelled.wait()
        telling = asyncio.create_task(work.acknowledge_cancel())
        await socket.wait_for(Cancelled)
        del server.answers[Cancelled]
        server.verdicts["d"] = ResumeVerdict.CANCELLED
        await socket.drop()
        await telling
        assert len((await server.socket(2)).of(Cancelled)) == 1


async def test_offers_of_a_broken_connection_are_forgotten(server: CableServer, channel: Open) -> None:
    """They are offered again, if they still are on offer."""
    async with channel() as attached:
        socket = await server.socket()
        await socket.dispatch("old")
        await socket.cancel("other")
        await socket.wait_for(Cancelled)
        await socket.drop()
        await (await server.socket(2)).dispatch("new")
        assert (await attached.next_offer()).name == "new"


async def test_silence_for_12_seconds_is_a_broken_connection(server: CableServer, channel: Open) -> None:
    """Pings keep it; without any it reconnects."""
    clock = FakeClock()
    async with channel(clock=clock) as attached:
        socket = await server.socket()
        for _ in range(4):
            await clock.advance(11)
            await socket.raw(type="ping", message=1)
            await socket.dispatch()
            await attached.next_offer()  # read after the ping was
            await asyncio.sleep(0)
        assert len(server.tries) == 1
        await clock.advance(11.9)
        assert not socket.closed
        await clock.advance(0.2)
        await socket.wait_closed()
        await server.socket(2)


async def test_disconnect_with_return_reconnects(server: CableServer, channel: Open) -> None:
    """E.g. when a gateway is stopped; an unknown reason too."""
    async with channel():
        await (await server.socket()).raw(type="disconnect", reason="server_restart", reconnect=True)
        await (await server.socket(2)).raw(type="disconnect", reason="whatever")
        await server.socket(3)


async def test_pauses_grow_with_jitter_and_start_anew(server: CableServer, channel: Open) -> None:
    """Full jitter below 0.5, 1, 2 … seconds; an unsteady connection doesn't start it anew."""
    clock = RecordingClock()
    server.refuse, server.grace_seconds = [503] * 3, 600
    async with channel(clock=clock, backoff=Backoff(), chance=lambda: 0.5):
        await server.socket()
        server.refuse = [503] * 4
        await (await server.socket()).drop()
        await server.socket(2)
    assert [s for s in clock.asked if s != 5][:8] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


async def test_pauses_leave_several_tries_in_the_grace(server: CableServer, channel: Open) -> None:
    """Once the grace is known no pause is over a third of it, or the session would be lost before the next try."""
    clock = RecordingClock()
    server.grace_seconds = 9
    async with channel(clock=clock, backoff=Backoff(), chance=lambda: 1.0):
        server.refuse = [503] * 6
        await (await server.socket()).drop()
        await server.socket(2)
    assert [s for s in clock.asked if s != 5][:7] == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0]


async def test_token_file_is_read_again_at_each_connect(server: CableServer, channel: Open, tmp_path: Path) -> None:
    """Tokens are short-lived; a file that is gone for a moment is only one more failed try."""
    file = tmp_path / "token"
    file.write_text("first")
    async with channel(token=file):
        socket = await server.socket()
        file.unlink()
        await socket.drop()
        file.write_text("second\n")
        await server.socket(2)
    assert server.tries == ["Bearer first", "Bearer second"]


async def test_token_that_is_refused_at_a_reconnect_ends_the_channel(server: CableServer, channel: Open) -> None:
    """401 is an answer, not a failure."""
    async with channel() as attached:
        server.refuse = [401]
        await (await server.socket()).drop()
        with pytest.raises(Unauthorized):
            await attached.next_offer()


async def test_resume_that_is_refused_is_a_failed_connection(server: CableServer, channel: Open) -> None:
    """The gateway can't read its resources now: come back later."""
    server.answers[Resume] = refusing(ErrorCode.UNAVAILABLE)
    async with channel():
        assert len(server.tries) == 2
    server.answers[Resume] = refusing(ErrorCode.UNAVAILABLE)
    with pytest.raises(Unreachable, match="resume"):
        async with channel(keep_trying=False):
            pass


async def test_goodbye_is_not_followed_by_a_reconnect(server: CableServer, channel: Open) -> None:
    """Also when the server closes instead of answering."""

    def close(*_: object) -> None:
        transport = server.sockets[0].ws._req.transport if server.sockets[0].ws._req else None
        assert transport is not None
        transport.abort()

    server.answers[Goodbye] = close
    async with channel():
        pass
    assert len(server.tries) == 1
