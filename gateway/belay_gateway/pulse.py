"""One task that keeps the rhythm of all sockets: pings, silence, and reviews of who may still be here."""

import asyncio
import json

import structlog

from belay_api.frames import PING_SECONDS, DisconnectReason, Ping
from belay_gateway.auth import Authenticator
from belay_gateway.cable import Connection
from belay_gateway.endpoint import Endpoint
from belay_gateway.refusals import Refusals, Why
from belay_gateway.settings import Settings
from belay_gateway.tasks import Tasks
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
from belay_kube.logs import about

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
_SHORTEST_STALE = 2.0
_AT_ONCE = 200
_REVIEWS_AT_ONCE = 8
_REVIEW_AGAIN_SECONDS = 30.0
_LATE_SECONDS = 2.0
"""A tick that comes this much late means that the process stood still, not that the peers were silent."""
_REVIEW_BOUND = 2
"""A socket whose review failed this many periods long is closed: it is no longer known who it is."""


class Pulse:
    """Visits every socket once a second."""

    def __init__(
        self,
        endpoint: Endpoint,
        authenticator: Authenticator,
        refusals: Refusals,
        tasks: Tasks,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._endpoint = endpoint
        self._authenticator = authenticator
        self._refusals = refusals
        self._tasks = tasks
        self._clock = clock
        self._settings = settings
        self._reviewers = asyncio.Semaphore(_REVIEWS_AT_ONCE)
        self._judges_from = float("-inf")
        """Silence before this may be this process' own."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due = self._clock.monotonic() + TICK_SECONDS
            await self._clock.sleep(TICK_SECONDS)
            self._woke(self._clock.monotonic() - due)
            text = json.dumps(Ping(message=int(self._clock.now().timestamp())).wire())
            for count, connection in enumerate(self._endpoint):
                await self._visit(connection, text)
                if count % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)

    def _woke(self, late: float) -> None:
        """A process that was frozen gives its peers time to answer a ping, and its reviews the time they lost."""
        if late < _LATE_SECONDS:
            return
        log.warning("the process stood still", seconds=round(late, 1))
        self._judges_from = self._clock.monotonic() + self._settings.ws_ping_seconds
        for connection in self._endpoint:
            connection.reviewed_at += late

    async def _visit(self, connection: Connection, text: str) -> None:
        now = self._clock.monotonic()
        silent = now - connection.heard_at()
        stale_after = connection.stale_after() if silent >= _SHORTEST_STALE else None
        if stale_after is not None and silent >= stale_after and now >= self._judges_from:
            connection.disconnect(DisconnectReason.SILENT, reconnect=True)
            return
        if now - connection.json_pinged >= PING_SECONDS:
            connection.json_pinged = now
            await connection.ping_json(text)
        # A peer that is lost after a few seconds of silence must be asked more often than that.
        if now - connection.ws_pinged >= min(self._settings.ws_ping_seconds, connection.stale_after() / 3):
            connection.ws_pinged = now
            await connection.ping()
        self._review_if_due(connection, now)

    def _review_if_due(self, connection: Connection, now: float) -> None:
        if now - connection.reviewed_at >= _REVIEW_BOUND * self._settings.review_seconds:
            self._refusals.count(Why.REVIEW_OVERDUE)
            connection.disconnect(DisconnectReason.UNAVAILABLE, reconnect=True)
        elif now >= connection.review_at and not connection.reviewing:
            connection.review_at = now + _REVIEW_AGAIN_SECONDS
            connection.reviewing = True
            with about(user=connection.user.name):
                self._tasks.spawn(self._review(connection), "review of a socket")

    async def _review(self, connection: Connection) -> None:
        try:
            await self._look_again(connection)
        finally:
            connection.reviewing = False

    async def _look_again(self, connection: Connection) -> None:
        try:
            async with self._reviewers:
                user = await self._authenticator.user(connection.bearer)
                known = user is not None and user.name == connection.user.name
                forbidden = await connection.no_longer_allowed(user) if user is not None and known else []
        except KubeError as error:
            log.warning("a socket could not be reviewed", user=connection.user.name, error=error.message[:300])
            return
        if not known:
            # Its token ended; with a new one it may come back.
            self._refusals.count(Why.BEARER_ENDED)
            connection.disconnect(DisconnectReason.UNAUTHORIZED, reconnect=True, message="the token is no longer valid")
            return
        for identifier in forbidden:
            self._refusals.count(Why.REVOKED)
            connection.end(identifier, DisconnectReason.UNAUTHORIZED, "no longer allowed to have this", reconnect=False)
        if connection.is_open:
            connection.reviewed_at = self._clock.monotonic()
            period = self._authenticator.review_after(connection.bearer, self._settings.review_seconds)
            connection.review_at = connection.reviewed_at + period
