"""The channel in one connection: offers, work, answers, and how it ends."""

import asyncio
import json

import pytest

from belay_api.actions import Accept, Cancelled, Complete, Fail, Goodbye, Heartbeat, ProgressMade, Resume
from belay_api.messages import ErrorCode, Revoked
from belay_client import (
    ChannelEnded,
    Refused,
    Rejected,
    Replaced,
    ResultTooLarge,
    Unauthorized,
    Unreachable,
    UsageError,
    Work,
    WorkOver,
)
from belay_client.channel import AgentChannel
from belay_client.heart import beat_seconds
from belay_kube.clock import FakeClock
from client.cable_server import CableServer, refusing
from client.conftest import Open


async def held(server: CableServer, channel: AgentChannel, name: str = "d", connection: int = 1) -> Work:
    """Work that was offered and accepted."""
    await (await server.socket(connection)).dispatch(name)
    work = await (await channel.next_offer()).accept()
    assert work is not None
    return work


async def test_attaches_and_resumes_with_an_empty_list(server: CableServer, channel: Open) -> None:
    """Token in the header, identifier as agreed, `resume` even with nothing held, `goodbye` at the end."""
    async with channel():
        socket = await server.socket()
    assert socket.authorization == "Bearer secret"
    assert json.loads(socket.identifier) == {"channel": "AgentChannel", "agent_id": "default/a", "session_id": "s1"}
    assert [type(action) for action in socket.actions] == [Resume, Goodbye]
    assert socket.of(Resume)[0].held == []


async def test_session_id_made_up_by_the_server_is_kept(server: CableServer, channel: Open) -> None:
    """Told in `attached`, and named at every later connect."""
    async with channel(session_id=None) as attached:
        first = await server.socket()
        assert "session_id" not in json.loads(first.identifier)
        assert attached.session_id == "made-up"
        await first.drop()
        assert json.loads((await server.socket(2)).identifier)["session_id"] == "made-up"


async def test_work_from_offer_to_result(server: CableServer, channel: Open) -> None:
    """Accept, beat, progress and result carry name, attempt and a ref of their own."""
    async with channel() as attached:
        socket = await server.socket()
        await socket.dispatch("d", 3, prompt="say hi", inputs={"k": "v"})
        offer = await attached.next_offer()
        assert (offer.name, offer.attempt, offer.prompt, offer.inputs) == ("d", 3, "say hi", {"k": "v"})
        work = await offer.accept()
        assert work is not None
        await work.heartbeat()
        await work.progress(40, "x" * 2000)
        await work.complete("hi")
    taken, beat, made, done = (socket.of(kind)[0] for kind in (Accept, Heartbeat, ProgressMade, Complete))
    assert {(a.name, a.attempt) for a in (taken, beat, made, done)} == {("d", 3)}
    assert len({action.ref for action in (taken, beat, made, done)}) == 4
    assert isinstance(made, ProgressMade)
    assert made.progress.percent == 40
    assert made.progress.message == "x" * 1024
    assert isinstance(done, Complete)
    assert done.result.text == "hi"


@pytest.mark.parametrize("code", [ErrorCode.TAKEN, ErrorCode.SUPERSEDED, ErrorCode.NOT_FOUND])
async def test_offer_that_another_took(server: CableServer, channel: Open, code: ErrorCode) -> None:
    """Accept says None, and nothing is held."""
    server.answers[Accept] = refusing(code)
    async with channel() as attached:
        socket = await server.socket()
        await socket.dispatch()
        assert await (await attached.next_offer()).accept() is None
        await socket.drop()
        assert (await (await server.socket(2)).wait_for(Resume)).held == []


async def test_accept_refused_for_another_reason_raises(server: CableServer, channel: Open) -> None:
    """The code and the sentence are the server's."""
    server.answers[Accept] = refusing(ErrorCode.FORBIDDEN)
    async with channel() as attached:
        await (await server.socket()).dispatch()
        with pytest.raises(Refused) as caught:
            await (await attached.next_offer()).accept()
    assert caught.value.code == ErrorCode.FORBIDDEN


async def test_offers_are_shown_once_and_revoked_ones_never(server: CableServer, channel: Open) -> None:
    """A repeated offer is one offer; a revoked one is not shown; what is held is not offered again."""
    async with channel() as attached:
        socket = await server.socket()
        work = await held(server, attached, "mine")
        for name in ("mine", "gone", "twice", "twice"):
            await socket.dispatch(name)
        await socket.tell(Revoked(name="gone", attempt=1))
        await socket.dispatch("last")
        await work.heartbeat()  # answered after all of these were read
        assert [(await attached.next_offer()).name for _ in range(2)] == ["twice", "last"]


async def test_same_offer_accepted_twice_is_one_work(server: CableServer, channel: Open) -> None:
    """The server would answer a replay with `ack`; the client must not start it twice."""
    async with channel() as attached:
        await (await server.socket()).dispatch()
        offer = await attached.next_offer()
        first, second = await asyncio.gather(offer.accept(), offer.accept())
        assert (first is None) != (second is None)


async def test_cancel_of_held_work_waits_for_its_acknowledgement(server: CableServer, channel: Open) -> None:
    """The frame is handed over; `cancelled` goes out when the user says that it stopped, not before."""
    async with channel() as attached:
        socket = await server.socket()
        work = await held(server, attached)
        await socket.cancel(reason="AgentOffline")
        frame = await work.cancelled.wait()
        assert frame.reason == "AgentOffline"
        with pytest.raises(WorkOver):
            await work.complete("too late")
        assert socket.of(Cancelled) == []
        await work.acknowledge_cancel()
        assert [(c.name, c.attempt) for c in socket.of(Cancelled)] == [("d", 1)]
        with pytest.raises(WorkOver):
            await work.heartbeat()


async def test_cancel_of_what_is_not_held_is_acknowledged_at_once(server: CableServer, channel: Open) -> None:
    """Nothing of it runs here."""
    async with channel():
        socket = await server.socket()
        await socket.cancel("other", 7)
        acknowledged = await socket.wait_for(Cancelled)
        assert (acknowledged.name, acknowledged.attempt) == ("other", 7)


async def test_cancel_that_overtakes_the_answer_to_accept(server: CableServer, channel: Open) -> None:
    """The work is handed over already cancelled, so that it is acknowledged once it isn't started."""
    async with channel() as attached:
        socket = await server.socket()
        server.answers[Accept] = lambda *_: None
        await socket.dispatch()
        accepting = asyncio.create_task((await attached.next_offer()).accept())
        taken = await socket.wait_for(Accept)
        await socket.cancel()
        await socket.tell(server._ack(taken))
        work = await accepting
        assert work is not None
        await work.cancelled.wait()
        await work.acknowledge_cancel()
        assert len(socket.of(Cancelled)) == 1


@pytest.mark.parametrize("code", [ErrorCode.SUPERSEDED, ErrorCode.NOT_HOLDER, ErrorCode.NOT_FOUND])
async def test_beat_that_is_refused_ends_the_work(server: CableServer, channel: Open, code: ErrorCode) -> None:
    """The work isn't ours any more: it is told to stop, and there is nobody who waits for proof."""
    server.answers[Heartbeat] = refusing(code)
    async with channel() as attached:
        work = await held(server, attached)
        with pytest.raises(Refused):
            await work.heartbeat()
        await work.cancelled.wait()
        await work.acknowledge_cancel()
        assert (await server.socket()).of(Cancelled) == []


@pytest.mark.parametrize("code", [ErrorCode.UNAVAILABLE, ErrorCode.RATE_LIMITED])
async def test_result_is_tried_again_while_the_gateway_cannot_write(
    server: CableServer, channel: Open, code: ErrorCode
) -> None:
    """`unavailable` never loses a result, nor does a gateway that is asked too much at once."""
    server.answers[Complete] = refusing(code, times=3)
    async with channel() as attached:
        work = await held(server, attached)
        await work.complete("result")
        assert len((await server.socket()).of(Complete)) == 4


@pytest.mark.parametrize(
    "text", ["x" * 65537, "é" * 32769, '"' * 65536, "\0" * 65536], ids=["ascii", "utf8", "quotes", "nul"]
)
async def test_result_that_does_not_fit_is_refused_before_it_is_sent(
    server: CableServer, channel: Open, text: str
) -> None:
    """Over 64 KiB of UTF-8, or too large a frame once escaped; the work can still fail."""
    async with channel() as attached:
        work = await held(server, attached)
        with pytest.raises(ResultTooLarge, match="URI"):
            await work.complete(text)
        await work.fail("too large")
        socket = await server.socket()
        assert socket.of(Complete) == []
        assert socket.of(Fail)[0].message == "too large"


async def test_D8_data_goes_with_the_text(server: CableServer, channel: Open) -> None:
    """As it was given, but for null fields; with the text it is no larger than a text may be."""
    async with channel() as attached:
        work = await held(server, attached)
        with pytest.raises(ResultTooLarge, match="URI"):
            await work.complete("x" * 40_000, data={"x": "x" * 40_000})
        with pytest.raises(ValueError, match="data"):
            await work.complete(data={"when": object()})
        await work.complete("done", data={"a": [1, None], "b": None})
        sent = (await server.socket()).of(Complete)
        assert [one.result.wire() for one in sent] == [{"text": "done", "data": {"a": [1, None]}}]


async def test_largest_result_fits(server: CableServer, channel: Open) -> None:
    """64 KiB of four-byte characters are one frame."""
    async with channel() as attached:
        work = await held(server, attached)
        await work.complete("🧗" * 16384)
        assert (await server.socket()).of(Complete)[0].result.text == "🧗" * 16384


@pytest.mark.parametrize(
    ("reason", "error"),
    [("replaced", Replaced), ("unauthorized", Unauthorized), ("agent_deleted", ChannelEnded), ("news", ChannelEnded)],
)
async def test_disconnect_without_return_ends_the_channel(
    server: CableServer, channel: Open, reason: str, error: type[Exception]
) -> None:
    """Offers raise why, held work is told to stop, waiting actions raise too, and nobody reconnects."""
    async with channel() as attached:
        work = await held(server, attached)
        server.answers[Complete] = lambda *_: None
        socket = await server.socket()
        completing = asyncio.create_task(work.complete("x"))
        await socket.wait_for(Complete)
        await socket.raw(type="disconnect", reason=reason, reconnect=False)
        with pytest.raises(error):
            await attached.next_offer()
        with pytest.raises(error):
            await completing
        await work.cancelled.wait()
    assert len(server.tries) == 1


async def test_disconnect_before_the_welcome(server: CableServer, channel: Open) -> None:
    """Action Cable's own way to say unauthorized."""
    server.disconnect = {"reason": "unauthorized", "reconnect": False}
    with pytest.raises(Unauthorized):
        async with channel():
            pass


@pytest.mark.parametrize("status", [401, 403])
async def test_upgrade_refused_for_the_token(server: CableServer, channel: Open, status: int) -> None:
    """Ends at once: trying again would not help."""
    server.refuse = [status]
    with pytest.raises(Unauthorized, match="token"):
        async with channel():
            pass
    assert len(server.tries) == 1


async def test_subscription_rejected(server: CableServer, channel: Open) -> None:
    """The server's sentence is the error's text."""
    server.reject = ("not_found", "agent default/a not found")
    with pytest.raises(Rejected, match="agent default/a not found") as caught:
        async with channel():
            pass
    assert caught.value.code == "not_found"


async def test_first_connect_that_fails_without_keep_trying(server: CableServer, channel: Open) -> None:
    """One try, and why it failed."""
    server.refuse = [503]
    with pytest.raises(Unreachable, match="503"):
        async with channel(keep_trying=False):
            pass


@pytest.mark.parametrize(
    "changes", [{"agent": "a"}, {"agent": "/a"}, {"session_id": "a b"}, {"session_id": ""}, {"session_id": "x" * 129}]
)
def test_names_that_cannot_be_right(channel: Open, server: CableServer, changes: dict[str, str]) -> None:
    """Refused before anything is sent."""
    with pytest.raises(UsageError):
        channel(**changes)


async def test_channel_left_with_an_exception_says_no_goodbye(server: CableServer, channel: Open) -> None:
    """A crash is not a goodbye: the session has its grace to return in."""
    with pytest.raises(ZeroDivisionError):
        async with channel():
            raise ZeroDivisionError
    socket = await server.socket()
    await socket.wait_closed()
    assert socket.of(Goodbye) == []


async def test_offers_end_when_the_channel_is_left(server: CableServer, channel: Open) -> None:
    """Whoever iterates elsewhere simply comes to the end."""
    attached = channel()

    async def names() -> list[str]:
        return [offer.name async for offer in attached.offers()]

    async with attached:
        listening = asyncio.create_task(names())
        await (await server.socket()).dispatch("one")
        await (await server.socket()).cancel("other")
        await (await server.socket()).wait_for(Cancelled)
    assert await listening == ["one"]


async def test_newer_server_with_unknown_words(server: CableServer, channel: Open) -> None:
    """Fields, frames and messages nobody knows here don't end the channel."""
    async with channel() as attached:
        socket = await server.socket()
        await socket.raw(type="weather", sunny=True)
        await socket.ws.send_str("not json")
        await socket.raw(identifier=socket.identifier, message={"type": "weather"})
        await socket.raw(identifier="another", message={"type": "revoked", "name": "d", "attempt": 1})
        await socket.raw(identifier=socket.identifier, message={"type": "revoked", "name": "d", "attempt": 1, "new": 1})
        await socket.dispatch("still")
        assert (await attached.next_offer()).name == "still"


@pytest.mark.parametrize(("threshold", "seconds"), [(600, 30), (120, 30), (60, 15), (1, 0.25)])
def test_beats_come_at_a_quarter_of_the_threshold(threshold: int, seconds: float) -> None:
    """At most 30 seconds apart."""
    assert beat_seconds(threshold) == seconds


async def test_held_work_beats_by_itself(server: CableServer, channel: Open) -> None:
    """After each interval, until it ends."""
    clock = FakeClock()
    async with channel(clock=clock) as attached:
        socket = await server.socket()
        await socket.dispatch(stuck_threshold_seconds=20)
        work = await (await attached.next_offer()).accept()
        assert work is not None
        await asyncio.sleep(0)  # let the beat's task begin to wait
        for beats in (1, 2, 3):
            await clock.advance(4.9)
            assert len(socket.of(Heartbeat)) == beats - 1
            await socket.raw(type="ping", message=1)
            await clock.advance(0.1)
            await socket.wait_for(Heartbeat, beats)
            await work.progress(beats)  # answered after the beat was
        await work.complete("x")
        await clock.advance(6)
        await socket.cancel("other")
        await socket.wait_for(Cancelled)
        assert len(socket.of(Heartbeat)) == 3


async def test_work_does_not_beat_when_told_not_to(server: CableServer, channel: Open) -> None:
    """So that a wedged agent looks wedged."""
    clock = FakeClock()
    async with channel(clock=clock, beat=False) as attached:
        socket = await server.socket()
        await held(server, attached)
        for _ in range(20):
            await socket.raw(type="ping", message=1)
            await clock.advance(1)
        await socket.cancel("other")
        await socket.wait_for(Cancelled)
        assert socket.of(Heartbeat) == []
