"""Fault 17: one peer never reads, one floods, and everybody else is at work on the same gateway."""

import asyncio
import json
from collections.abc import Coroutine, Iterable
from typing import Any

from belay_gateway.lanes import MAX_QUEUED_BYTES
from belay_kube.client import Kube
from belay_kube.clock import SystemClock
from gateway.peer import Peer, identifier
from gateway.stage import Running, Stage, running
from waiting import eventually

OTHERS = 20
QUEUE = 64
RATE = 2000
"""Frames a second; five times as many at once are let through."""
ECHO = json.dumps({"command": "message", "identifier": "x" * 2000, "data": "{}"})
"""Not subscribed: the answer repeats the identifier, so it is as long as the question."""


class Hostile:
    """Asks for answers that it never reads, and says more than anyone may."""

    def __init__(self, gateway: Running, deaf: Peer, flooder: Peer) -> None:
        self._gateway = gateway
        self._deaf = deaf
        self._flooder = flooder
        self.longest = self.widest = 0

    def closed(self, reason: str) -> bool:
        """Whether a socket was closed for it."""
        return bool(self._gateway.gateway.metrics.disconnects.labels(reason)._value.get())

    async def go_on(self) -> bool:
        """Until both are closed; notes how much waits for the one that never reads."""
        if not self.closed("slow_consumer"):
            # Few at a time: it is not to be closed as a flooder.
            await self._all(self._deaf.ws.send_str(ECHO) for _ in range(30))
        if not self.closed("rate_limited"):
            # What needs no answer, so that it isn't closed as one that doesn't read.
            await self._all(self._flooder.ws.ping() for _ in range(RATE))
        for connection in self._gateway.gateway.endpoint:
            outbox = connection._outbox
            self.longest = max(self.longest, len(outbox._frames))
            self.widest = max(self.widest, outbox._bytes)
        return self.closed("slow_consumer") and self.closed("rate_limited")

    async def _all(self, sent: Iterable[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*sent, return_exceptions=True)


async def test_C8_fault_17_only_the_hostile_are_closed(stage: Stage, gateway_kube: Kube) -> None:
    """Both are closed for what they did; every dispatch reaches the others meanwhile, and what waits is bounded."""
    token = await stage.person("alice")
    for n in range(OTHERS):
        await stage.agent(f"a{n}", "alice")
    limits = {"max_queue_per_socket": QUEUE, "max_frames_per_second": RATE}
    async with running(gateway_kube, SystemClock(), **limits) as gateway:
        others = [await gateway.dialer.dial(token) for _ in range(OTHERS)]
        for n, peer in enumerate(others):
            await peer.subscribe(f"{stage.namespace}/a{n}", "s")
        deaf, flooder = await gateway.dialer.dial(token, deaf=True), await gateway.dialer.dial(token)
        hostile = Hostile(gateway, deaf, flooder)
        offering = asyncio.gather(*(stage.offered(f"d{n}", f"a{n}") for n in range(OTHERS)))
        await eventually(hostile.go_on, 60)
        await offering
        for n, peer in enumerate(others):
            await peer.hears("dispatch", name=f"d{n}")
            text = identifier(agent_id=f"{stage.namespace}/a{n}", session_id="s")
            assert (await peer.act(text, "accept", name=f"d{n}", attempt=1))["type"] == "ack"
        assert not any(peer.ws.closed for peer in others)
        assert (await flooder.disconnected())["reason"] == "rate_limited"
        assert hostile.longest <= QUEUE + 1
        assert hostile.widest <= MAX_QUEUED_BYTES
