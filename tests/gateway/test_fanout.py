"""Queues of many sockets and what they hold together: held once, counted in bytes, told in turns."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from aiohttp import web

from belay_gateway.backlog import Backlog, Shared
from belay_gateway.bucket import Buckets
from belay_gateway.fanout import AT_ONCE, Fanout
from belay_gateway.lanes import MAX_QUEUED_BYTES, Outbox
from belay_kube.clock import FakeClock
from waiting import eventually


class Deaf:
    """A socket whose peer reads nothing until `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.sent: list[str] = []

    async def send_str(self, text: str) -> None:
        """Wait for the peer."""
        await self.gate.wait()
        self.sent.append(text)


def _outbox(backlog: Backlog, socket: Deaf, overflowed: Callable[[], None] = lambda: None) -> Outbox:
    return Outbox(cast(web.WebSocketResponse, socket), None, backlog, overflowed)


async def test_C3_fault_17_what_many_are_told_is_held_once() -> None:
    """However many queues it waits in; each is counted, until it is sent or dropped."""
    backlog = Backlog(FakeClock(), 8)
    sockets = [Deaf() for _ in range(3)]
    queues = [_outbox(backlog, socket) for socket in sockets]
    shared = Shared("event", '{"type": "event", "name": "\u00e9"}')
    for _ in range(2):
        for queue in queues:
            queue.put_shared('{"channel":"x"}', shared)
    await eventually(lambda: all(len(queue._frames) == 1 for queue in queues))
    assert all(queue._frames[0].shared is shared for queue in queues)
    each = len('{"channel":"x"}') + len(shared.text.encode())
    assert ([queue._bytes for queue in queues], backlog.bytes) == ([2 * each] * 3, 6 * each)
    sockets[0].gate.set()
    await queues[0].flushed()
    queues[1].stop()
    queues[2].end_with("!", drop=True)
    assert sockets[0].sent == ['{"identifier": "{\\"channel\\":\\"x\\"}", "message": ' + shared.text + "}"] * 2
    await eventually(lambda: backlog.bytes == each + 1)  # what the third one is sending, and the last frame
    sockets[2].gate.set()
    await queues[2].flushed()
    assert backlog.bytes == 0


async def test_C8_fault_17_a_queue_is_bounded_in_bytes() -> None:
    """Not in characters, of which each may take four bytes."""
    overflows: list[None] = []
    queue = _outbox(Backlog(FakeClock(), 64), Deaf(), lambda: overflows.append(None))
    for _ in range(4):
        queue.put("\U0001f600" * (MAX_QUEUED_BYTES // 16))
    assert (queue._bytes, overflows) == (MAX_QUEUED_BYTES, [])
    queue.put("x")
    assert len(overflows) == 1
    queue.stop()


async def test_C8_fault_17_without_room_those_who_do_not_read_are_given_up() -> None:
    """Those whose peer took nothing for ten seconds, so that they can't keep everybody else from being told."""
    clock, closed = FakeClock(), list[str]()
    backlog = Backlog(clock, 8, limit=10)
    late, fresh = _outbox(backlog, Deaf(), lambda: closed.append("late")), _outbox(backlog, Deaf())
    late.put("x" * 10)
    await asyncio.sleep(0)
    assert not backlog.has_room()
    await clock.advance(11)
    fresh.put("y")
    await asyncio.sleep(0)
    assert not closed
    assert not backlog.has_room()
    assert closed == ["late"]
    late.stop()
    await eventually(backlog.has_room)
    assert set(closed) == {"late"}
    fresh.stop()


async def test_C3_many_are_told_in_turns_and_in_order() -> None:
    """Others come in between; what is told later, be it to one, is heard later; what waits to be told counts."""
    backlog, heard = Backlog(FakeClock(), 8), list[tuple[int, str]]()
    fanout = Fanout(backlog)
    crowd = [lambda shared, n=n: heard.append((n, shared.text)) for n in range(3 * AT_ONCE)]
    fanout.tell(crowd[:1], Shared("event", "0"))
    assert heard == [(0, "0")]
    fanout.tell(crowd, Shared("event", "1"))
    fanout.tell(crowd[:1], Shared("event", "2"))
    assert (len(heard), backlog.bytes) == (1, len(crowd) + 1)
    await asyncio.sleep(0)
    assert len(heard) == 1 + AT_ONCE
    await eventually(lambda: fanout._lane.idle)
    assert heard == [(0, "0"), *((n, "1") for n in range(len(crowd))), (0, "2")]
    assert backlog.bytes == 0


async def test_C3_order_holds_however_much_waits() -> None:
    """Nothing overtakes what waits behind a crowd, and nothing of it is left out."""
    heard = list[str]()
    fanout = Fanout(Backlog(FakeClock(), 8))
    fanout.tell([lambda _: None] * (3 * AT_ONCE), Shared("event", "crowd"))
    texts = [str(n) for n in range(1500)]
    for text in texts:
        fanout.tell([lambda shared: heard.append(shared.text)], Shared("event", text))
    assert not heard
    await eventually(lambda: fanout._lane.idle)
    assert heard == texts


@pytest.mark.parametrize("crowd", [3, 3 * AT_ONCE], ids=["few", "many"])
async def test_C3_one_that_can_not_be_told_keeps_nobody_else_from_it(crowd: int) -> None:
    """Its error is logged; whoever comes after it hears all the same."""
    heard = list[int]()

    def telling(n: int) -> Callable[[Shared], None]:
        def tell(_: Shared) -> None:
            if n == 1:
                raise RuntimeError("a bug")
            heard.append(n)

        return tell

    fanout = Fanout(Backlog(FakeClock(), 8))
    fanout.tell([telling(n) for n in range(crowd)], Shared("event", "1"))
    await eventually(lambda: fanout._lane.idle)
    assert heard == [0, *range(2, crowd)]


async def test_C3_what_is_not_told_at_the_end_is_not_counted() -> None:
    """The process ends while many are told."""
    backlog = Backlog(FakeClock(), 8)
    fanout = Fanout(backlog)
    fanout.tell([lambda _: None] * (3 * AT_ONCE), Shared("event", "1"))
    await asyncio.sleep(0)
    fanout.stop()
    await eventually(lambda: backlog.bytes == 0)


def test_C3_buckets_are_bounded() -> None:
    """Who came longest ago is forgotten first; each has its own."""
    buckets = Buckets(FakeClock(), 1, 1, remembered=2)
    assert [buckets.take(who) for who in "aab"] == [True, False, True]
    assert [buckets.take(who) for who in "ca"] == [True, True]
    assert (len(buckets), buckets.take("c")) == (2, False)
