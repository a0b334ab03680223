"""What is refused, cancelled half way or never answered: no work is held, and no slot is taken, for ever."""

import asyncio

import pytest

from belay_api.actions import Accept, Cancelled, Complete, Fail, Heartbeat, Resume
from belay_api.messages import ErrorCode, ResumeVerdict
from belay_client import AgentChannel, Refused, ResultTooLarge, WorkOver
from belay_kube.clock import FakeClock
from client.cable_server import CableServer, Socket, refusing, silent
from client.conftest import Open
from client.test_agent_run import run
from client.test_channel import held

FINAL = [ErrorCode.FORBIDDEN, ErrorCode.INVALID]


async def assert_nothing_held(server: CableServer, socket: Socket) -> None:
    """The next connection resumes with nothing."""
    await socket.drop()
    assert (await (await server.socket(2)).wait_for(Resume)).held == []


@pytest.mark.parametrize("code", FINAL)
async def test_refused_result_is_failed_and_let_go(server: CableServer, channel: Open, code: ErrorCode) -> None:
    """The refusal is raised; the work was failed with its reason, beats no more and is held no more."""
    server.answers[Complete] = refusing(code)
    clock = FakeClock()
    async with channel(clock=clock) as attached:
        socket = await server.socket()
        work = await held(server, attached)
        with pytest.raises(Refused) as caught:
            await work.complete("x")
        assert caught.value.code == code
        assert [f.message for f in socket.of(Fail)] == [f"the gateway refused the result: no ({code})"]
        with pytest.raises(WorkOver):
            await work.heartbeat()
        assert not attached._heart or not attached._heart._beats
        await assert_nothing_held(server, socket)


async def test_refused_failure_is_let_go_too(server: CableServer, channel: Open) -> None:
    """Nothing more can be told: the server finds out by the missing beat, and the slot here is free."""
    server.answers[Complete] = server.answers[Fail] = refusing(ErrorCode.FORBIDDEN, times=99)
    async with channel() as attached:
        socket = await server.socket()
        work = await held(server, attached)
        with pytest.raises(Refused):
            await work.complete("x")
        assert len(socket.of(Fail)) == 1
        await assert_nothing_held(server, socket)


async def test_result_that_is_too_large_for_the_gateway(server: CableServer, channel: Open) -> None:
    """Its `too_large` is the same error as this side's own, and the work can still fail or give a URI."""
    server.answers[Complete] = refusing(ErrorCode.TOO_LARGE)
    async with channel() as attached:
        work = await held(server, attached)
        with pytest.raises(ResultTooLarge):
            await work.complete("x")
        await work.complete(uri="https://example.com/x")
        assert (await server.socket()).of(Fail) == []


async def test_result_refused_while_it_is_cancelled(server: CableServer, channel: Open) -> None:
    """The cancel came first: it isn't failed, and is held until the proof that it stopped."""
    server.answers[Complete] = silent
    async with channel() as attached:
        socket = await server.socket()
        work = await held(server, attached)
        completing = asyncio.create_task(work.complete("x"))
        asked = await socket.wait_for(Complete)
        await socket.cancel()
        await work.cancelled.wait()
        answer = refusing(ErrorCode.FORBIDDEN)(socket, asked)
        assert answer is not None
        await socket.tell(answer)
        with pytest.raises(Refused):
            await completing
        assert socket.of(Fail) == []
        await work.acknowledge_cancel()
        assert len(socket.of(Cancelled)) == 1


@pytest.mark.parametrize(
    ("code", "word"), [(code, "refused the result") for code in FINAL] + [(ErrorCode.TOO_LARGE, "URI")]
)
async def test_runner_goes_on_after_a_refused_end(server: CableServer, code: ErrorCode, word: str) -> None:
    """`belay agent run`: the delegation is Failed with the reason, and the next one is run in its slot."""
    server.answers[Complete] = refusing(code)
    running = run(server, "echo ok")
    socket = await server.socket()
    await socket.dispatch("one")
    assert word in (await socket.wait_for(Fail)).message
    await socket.dispatch("two")
    assert (await socket.wait_for(Complete, 2)).name == "two"
    await socket.raw(type="disconnect", reason="replaced", reconnect=False)
    await running


async def test_replayed_result_is_logged_as_finished_only(server: CableServer) -> None:
    """The answer was lost and `resume` says it ended; the replay is acknowledged: it was finished, not cancelled."""
    server.answers[Complete] = silent
    running = run(server, "echo ok", "--once")
    socket = await server.socket()
    await socket.dispatch()
    await socket.wait_for(Complete)
    del server.answers[Complete]
    server.verdicts["d"] = ResumeVerdict.CANCELLED
    await socket.drop()
    said = await running
    assert "finished" in said.err
    assert "cancelled" not in said.err


async def test_cancelled_before_it_could_start_is_acknowledged(server: CableServer) -> None:
    """It could not be started, and the server's cancel overtook that: the proof is sent, nothing stays held."""
    server.answers[Fail] = silent
    running = run(server, "cat", "--once")
    socket = await server.socket()
    await socket.dispatch(inputs={"x": "a\0b"})
    asked = await socket.wait_for(Fail)
    await socket.cancel()
    answer = refusing(ErrorCode.FORBIDDEN)(socket, asked)
    assert answer is not None
    await socket.tell(answer)
    await running
    assert len(socket.of(Cancelled)) == 1


async def abandoned_accept(server: CableServer, attached: AgentChannel) -> tuple[Socket, Accept]:
    """An accept that is on its way when whoever said it gives it up; nobody has answered it yet."""
    server.answers[Accept] = silent
    socket = await server.socket()
    await socket.dispatch()
    accepting = asyncio.create_task((await attached.next_offer()).accept())
    taken = await socket.wait_for(Accept)
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting
    return socket, taken


async def test_abandoned_accept_is_failed_once_it_is_answered(server: CableServer, channel: Open) -> None:
    """`asyncio.timeout` around accept: the server has given the work to us, so it is told that nobody does it."""
    async with channel() as attached:
        socket, taken = await abandoned_accept(server, attached)
        await socket.tell(server._ack(taken))
        assert "before it began" in (await socket.wait_for(Fail)).message
        await socket.cancel("other")
        await socket.wait_for(Cancelled)  # the answer to `fail` was read before
        assert socket.of(Heartbeat) == []
        await assert_nothing_held(server, socket)


async def test_abandoned_accept_that_another_took(server: CableServer, channel: Open) -> None:
    """There is nothing to give back."""
    async with channel() as attached:
        socket, taken = await abandoned_accept(server, attached)
        answer = refusing(ErrorCode.TAKEN)(socket, taken)
        assert answer is not None
        await socket.tell(answer)
        await socket.cancel("other")
        await socket.wait_for(Cancelled)
        assert socket.of(Fail) == []
        await assert_nothing_held(server, socket)


async def test_abandoned_accept_that_is_cancelled_is_acknowledged(server: CableServer, channel: Open) -> None:
    """Its proof is all that is wanted."""
    async with channel() as attached:
        socket, taken = await abandoned_accept(server, attached)
        await socket.cancel()
        await socket.tell(server._ack(taken))
        assert (await socket.wait_for(Cancelled)).name == "d"
        assert socket.of(Fail) == []


async def test_abandoned_accept_that_was_never_sent_is_withdrawn(server: CableServer, channel: Open) -> None:
    """Not connected: nothing goes out later that nobody wants any more."""
    async with channel() as attached:
        socket = await server.socket()
        await socket.dispatch()
        offer = await attached.next_offer()
        server.answers[Resume] = silent
        await socket.drop()
        again = await server.socket(2)
        accepting = asyncio.create_task(offer.accept())
        await asyncio.sleep(0)
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        await again.tell(server._ack(again.of(Resume)[0]))
        await again.cancel("other")
        await again.wait_for(Cancelled)
        assert again.of(Accept) == []
