"""Fault 16: the API server reviews tokens slowly, or not at all."""

import asyncio

import aiohttp

from belay_kube.client import Kube
from belay_kube.clock import FakeClock
from faults.reviews import Reviewed
from gateway.peer import Peer
from gateway.stage import Running, Stage, running
from waiting import eventually

REVIEW_SECONDS = 30
BOUND_SECONDS = 2 * REVIEW_SECONDS
NEW = 20


async def _dialled(gateway: Running, token: str) -> int | Peer:
    """An open socket, or the status of the refusal."""
    try:
        return await gateway.dialer.dial(token)
    except aiohttp.WSServerHandshakeError as refused:
        return refused.status


async def test_C1_fault_16_slow_reviews(stage: Stage, gateway_kube: Kube) -> None:
    """New sockets wait 10 s for one review they share, and get 503; live ones go on; it heals by itself."""
    reviews = Reviewed(gateway_kube)
    token, other = await stage.person("alice"), await stage.person("bob")
    agent = await stage.agent("a", "alice", "bob")
    async with running(reviews, FakeClock(), review_seconds=REVIEW_SECONDS) as gateway:  # type: ignore[arg-type]
        live = await gateway.dialer.dial(token)
        await live.subscribe(agent, "s")
        await gateway.pass_time(11)
        reviews.gate.clear()
        before = reviews.asked
        assert await asyncio.gather(*(_dialled(gateway, t) for t in (token, other) * NEW)) == [503] * 2 * NEW
        assert (reviews.asked - before, reviews.most_in_flight, live.ws.closed) == (2, 1, False)
        reviews.gate.set()
        assert isinstance(await _dialled(gateway, token), Peer)


async def test_C1_fault_16_failing_reviews(stage: Stage, gateway_kube: Kube) -> None:
    """New sockets get 503 at once; live ones work on until nobody knows any more for how long they may."""
    reviews = Reviewed(gateway_kube)
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    async with running(reviews, FakeClock(), review_seconds=REVIEW_SECONDS) as gateway:  # type: ignore[arg-type]
        live = await gateway.dialer.dial(token)
        await live.subscribe(agent, "s")
        await gateway.pass_time(11)
        reviews.failing = True
        assert await _dialled(gateway, token) == 503
        await gateway.pass_time(BOUND_SECONDS - 13)
        await stage.offered("d", "a")
        assert (await live.hears("dispatch", name="d"))["attempt"] == 1
        await gateway.pass_time(4)
        frame = await live.disconnected()
        assert (frame["reason"], frame["reconnect"], reviews.most_in_flight) == ("unavailable", True, 1)
        reviews.failing = False
        again = await eventually(lambda: _dialled(gateway, token))
        assert isinstance(again, Peer)
        await again.subscribe(agent, "s")
        await again.hears("dispatch", name="d")
