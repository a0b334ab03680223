"""Hostile peers with a socket: each refusal is counted once, by its reason, and harms nobody else."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from belay_api.frames import MAX_FRAME_BYTES
from belay_kube.client import Kube
from belay_kube.clock import FakeClock, SystemClock
from gateway.peer import Peer, identifier
from gateway.raw import raw, refusals
from gateway.stage import Running, Stage, running
from waiting import eventually

Break = Callable[[Peer, str], Awaitable[None]]


@pytest.fixture
async def attached(stage: Stage, gateway: Running) -> tuple[Peer, str]:
    """A peer with a session, and its identifier."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    return peer, identifier(agent_id=agent, session_id="s1")


def _text(text: str) -> Break:
    return lambda peer, _: peer.ws.send_str(text)


def _act(action: str, **fields: object) -> Break:
    return lambda peer, text: peer.start(text, action, **fields)


def _command(**frame: object) -> Break:
    return lambda peer, _: peer.send(**frame)


CASES: dict[str, tuple[Break, str]] = {
    "not JSON": (_text("hello"), "malformed"),
    "10,000 deep": (_text("[" * 10_000 + "]" * 10_000), "malformed"),
    "unknown command": (_command(command="fly", identifier="x"), "malformed"),
    "binary": (lambda peer, _: peer.ws.send_bytes(b"{}"), "binary"),
    "one byte too long": (_text("x" * (MAX_FRAME_BYTES + 1)), "frame_too_long"),
    "invalid UTF-8": (lambda peer, _: peer.ws._writer.send_frame(b"\xff", aiohttp.WSMsgType.TEXT), "invalid_utf8"),
    "reserved opcode": (lambda peer, _: peer.ws._writer.send_frame(b"", 0x3), "bad_frame"),
    "before subscribe": (_command(command="message", identifier="x", data="{}"), "not_subscribed"),
    "identifier no JSON": (_command(command="subscribe", identifier="x"), "subscribe_invalid"),
    "unknown channel": (_command(command="subscribe", identifier='{"channel":"Chat"}'), "subscribe_invalid"),
    "unknown action": (_act("fly"), "action_invalid"),
    "action 10,000 deep": (
        lambda peer, text: peer.send(command="message", identifier=text, data="[" * 10_000), "action_invalid",
    ),
    "work that isn't there": (_act("complete", name="nothing", attempt=1, result={"text": "x"}), "action_not_found"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_C8_each_refusal_is_counted_once(gateway: Running, attached: tuple[Peer, str], name: str) -> None:
    """By one word of a closed set."""
    peer, text = attached
    do, reason = CASES[name]
    await do(peer, text)
    await eventually(lambda: refusals(gateway))
    assert refusals(gateway) == {reason: 1}


async def test_C8_frame_of_exactly_the_bound_is_read(gateway: Running, attached: tuple[Peer, str]) -> None:
    """One byte less than too long is a frame like any other."""
    peer, text = attached
    empty = len(json.dumps({"command": "message", "identifier": text, "data": ""}))
    await peer.send(command="message", identifier=text, data="x" * (MAX_FRAME_BYTES - empty))
    assert (await peer.hears("error", of=text))["code"] == "invalid"
    assert not peer.ws.closed


async def test_C2_strangers_and_missing_agents_are_counted(stage: Stage, gateway: Running) -> None:
    """Who may not, and what isn't there."""
    agent = await stage.agent("a", "somebody")
    peer = await gateway.dialer.dial(await stage.person("stranger"))
    for named in ({"agent_id": agent}, {"agent_id": f"{stage.namespace}/no"}, {"topic_id": f"{stage.namespace}/t"}):
        assert (await peer.asks(identifier(**named)))["type"] == "reject_subscription"
    assert refusals(gateway) == {"subscribe_forbidden": 2, "subscribe_not_found": 1}


async def test_D10_results_that_are_not_its_to_give_are_counted(
    stage: Stage, gateway: Running, attached: tuple[Peer, str]
) -> None:
    """Of a sibling session, of another agent, of an older attempt, and cancelled: refused, and nothing changed."""
    peer, text = attached
    sibling = identifier(agent_id=f"{stage.namespace}/a", session_id="s2")
    assert (await peer.asks(sibling))["type"] == "confirm_subscription"
    await stage.agent("b", "bob")
    holders = {"foreign": None, "sibling's": sibling, "old": text, "cancelled": text}
    names = {what: f"d{n}" for n, what in enumerate(holders)}
    for what, holder in holders.items():
        await stage.offered(names[what], "a" if holder else "b")
        if holder:
            assert (await peer.act(holder, "accept", name=names[what], attempt=1))["type"] == "ack"
    await stage.operate(names["old"], attempt=2)
    await stage.cancel(names["cancelled"])
    before = [await stage.work(name) for name in names.values()]
    codes = {"foreign": "not_found", "sibling's": "not_holder", "old": "superseded", "cancelled": "superseded"}
    for what, code in codes.items():
        answer = await peer.act(text, "complete", name=names[what], attempt=1, result={"text": "mine"})
        assert (what, answer["code"]) == (what, code), answer
    after = [await stage.work(name) for name in names.values()]
    assert [work["status"].get("result") for work in after] == [None] * 4
    assert [work["status"]["phase"] for work in after] == [work["status"]["phase"] for work in before]
    assert refusals(gateway) == {"action_not_found": 1, "action_not_holder": 1, "action_superseded": 2}


async def test_C8_thousand_subscriptions_on_one_socket(stage: Stage, gateway_kube: Kube) -> None:
    """All beyond the bound are rejected, those within go on, and nothing grows."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    async with running(gateway_kube, SystemClock(), max_subscriptions_per_socket=2) as gateway:
        peer = await gateway.dialer.dial(token)
        for session in ("s1", "s2"):
            await peer.subscribe(agent, session)
        for n in range(1000):
            answer = await peer.asks(identifier(agent_id=agent, session_id=f"more-{n}"))
            assert (answer["type"], answer["reason"]) == ("reject_subscription", "too_large")
            if n % 100 == 99:
                peer.frames.clear()
        assert refusals(gateway) == {"subscribe_too_large": 1000}
        text = identifier(agent_id=agent, session_id="s1")
        assert (await peer.act(text, "heartbeat", name="x", attempt=1))["code"] == "not_found"


async def test_C8_flood_is_counted(stage: Stage, gateway_kube: Kube) -> None:
    """More frames than may be, of any kind, pings too."""
    token = await stage.person("alice")
    async with running(gateway_kube, FakeClock(), max_frames_per_second=10) as gateway:
        peer = await gateway.dialer.dial(token)
        for _ in range(51):
            await peer.ws.ping()
        frame = await peer.disconnected()
        assert (frame["reason"], frame["reconnect"], refusals(gateway)) == ("rate_limited", True, {"flood": 1})


@pytest.fixture
async def slow(stage: Stage, gateway_kube: Kube) -> AsyncIterator[Running]:
    """A gateway that waits a second for a close."""
    limits = {"close_seconds": 1, "max_queue_per_socket": 65536, "max_frames_per_second": 100_000}
    async with running(gateway_kube, SystemClock(), **limits) as gateway:
        yield gateway


async def test_C8_never_reads_is_counted(stage: Stage, slow: Running) -> None:
    """Its queue is bounded: it is closed and may come back, and when it doesn't read that either it is cut off."""
    deaf = await slow.dialer.dial(await stage.person("alice"), deaf=True)
    await eventually(lambda: _talked_until(slow, deaf, "slow_consumer"))
    await eventually(lambda: not slow.gateway.lobby.connections())
    counted = refusals(slow)
    assert (counted["slow_consumer"], counted["close_timeout"]) == (1, 1)


async def _talked_until(gateway: Running, deaf: Peer, reason: str) -> bool:
    """Ask for answers, few at a time so that it is no flood, until that is counted."""
    echo = json.dumps({"command": "message", "identifier": "x" * 2000, "data": "{}"})
    for _ in range(0 if reason in refusals(gateway) else 50):
        await deaf.ws.send_str(echo)
    return reason in refusals(gateway)


async def test_C8_leaves_unread_is_cut_off(stage: Stage, slow: Running) -> None:
    """Who says goodbye but never reads what is on its way to it keeps no connection for ever."""
    deaf = await slow.dialer.dial(await stage.person("alice"), deaf=True)
    (connection,) = slow.gateway.endpoint

    async def is_stuck() -> bool:
        await _talked_until(slow, deaf, "slow_consumer")
        return connection._outbox.unsent and not connection._outbox.clear

    await eventually(is_stuck)
    await deaf.ws._writer.close()
    await eventually(lambda: not slow.gateway.lobby.connections())
    assert refusals(slow)["close_timeout"] == 1


async def test_C8_never_closes_is_cut_off(stage: Stage, slow: Running) -> None:
    """A peer that is told to go and doesn't answer the close has its connection taken away."""
    async with raw(slow) as peer:
        assert (await peer.open_socket(await stage.person("alice")))[0] == 101
        peer.frame(0x2, b"binary")
        assert b"invalid_request" in await peer.rest()
    await eventually(lambda: not list(slow.gateway.endpoint))
    assert refusals(slow) == {"binary": 1}
    await eventually(lambda: not slow.gateway.lobby.connections())
