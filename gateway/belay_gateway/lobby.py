"""Connections that are not served yet: how long they may take to say what they want, and how many there may be.

A peer that says nothing, or a byte now and then, holds a connection and asks for nothing; aiohttp by itself lets it for
an hour. What is being served (`enter` to `leave`) is not looked at here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from aiohttp import web

from belay_gateway.refusals import Refusals, Why
from belay_gateway.settings import Settings
from belay_kube.clock import Clock

TICK_SECONDS = 1.0


class Crowded(Exception):
    """As many as may are being let in already: come again."""


class _Waiting(NamedTuple):
    until: float
    is_new: bool
    """It never asked for anything."""


class Lobby:
    """Looks once a second at who waits."""

    def __init__(self, clock: Clock, settings: Settings, refusals: Refusals) -> None:
        self._clock = clock
        self._settings = settings
        self._refusals = refusals
        self._served: set[web.RequestHandler] = set()
        self._waiting: dict[web.RequestHandler, _Waiting] = {}
        self._let_in = 0
        self.connections: Callable[[], Sequence[web.RequestHandler]] = tuple
        """All that are open, oldest first."""

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, request: web.Request) -> None:
        """Its request is being served; it may take the time that takes."""
        self._served.add(request.protocol)

    def leave(self, request: web.Request) -> None:
        """It was served."""
        self._served.discard(request.protocol)

    async def answered(self, request: web.BaseRequest, _: web.StreamResponse) -> None:
        """Signal of aiohttp, before an answer is sent: from now on the peer may read it and ask again."""
        self._waiting[request.protocol] = self._wait(self._settings.keepalive_seconds, is_new=False)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """While somebody's token is reviewed. Raises Crowded."""
        if self._let_in >= self._settings.max_handshakes:
            raise Crowded
        self._let_in += 1
        try:
            yield
        finally:
            self._let_in -= 1

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(TICK_SECONDS)
            self.sweep()

    def sweep(self) -> None:
        """Close who waited too long, and the oldest when too many wait."""
        fresh = self._wait(self._settings.handshake_seconds, is_new=True)
        idle = (peer for peer in self.connections() if peer not in self._served)
        self._waiting = {peer: self._waiting.get(peer, fresh) for peer in idle}
        now = self._clock.monotonic()
        for peer in [peer for peer, waiting in self._waiting.items() if waiting.until <= now]:
            self._close(peer, Why.HANDSHAKE_TIMEOUT)
        for peer in list(self._waiting)[: max(0, len(self._waiting) - self._settings.max_handshakes)]:
            self._close(peer, Why.TOO_MANY_HANDSHAKES)

    def _wait(self, seconds: float, *, is_new: bool) -> _Waiting:
        return _Waiting(self._clock.monotonic() + seconds, is_new)

    def _close(self, peer: web.RequestHandler, why: Why) -> None:
        """What merely keeps a connection for later is no refusal."""
        if self._waiting.pop(peer).is_new:
            self._refusals.count(why)
        transport = peer.transport
        peer.force_close()
        if transport and transport.get_write_buffer_size():
            transport.abort()  # it doesn't read its answer, so a close would wait for it
