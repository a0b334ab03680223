"""One task that keeps the rhythm of all sockets: pings, silence, and reviews of who may still be here."""

import asyncio
import json

import structlog

from belay_api.frames import PING_SECONDS, DisconnectReason
from belay_gateway.auth import Authenticator
from belay_gateway.cable import Connection
from belay_gateway.endpoint import Endpoint
from belay_gateway.settings import Settings
from belay_gateway.tasks import Tasks
from belay_kube.clock import Clock
from belay_kube.errors import KubeError

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
_SHORTEST_STALE = 2.0
_AT_ONCE = 200
_REVIEWS_AT_ONCE = 8
_REVIEW_AGAIN_SECONDS = 30.0
_REVIEW_BOUND = 2
"""A socket whose review failed this many periods long is closed: it is no longer known who it is."""


class Pulse:
    """Visits every socket once a second."""

    def __init__(
        self, endpoint: Endpoint, authenticator: Authenticator, tasks: Tasks, clock: Clock, settings: Settings
    ) -> None:
        self._endpoint = endpoint
        self._authenticator = authenticator
        self._tasks = tasks
        self._clock = clock
        self._settings = settings
        self._reviewers = asyncio.Semaphore(_REVIEWS_AT_ONCE)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(TICK_SECONDS)
            text = json.dumps({"type": "ping", "message": int(self._clock.now().timestamp())})
            for count, connection in enumerate(self._endpoint):
                await self._visit(connection, text)
                if count % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)

    async def _visit(self, connection: Connection, text: str) -> None:
        now = self._clock.monotonic()
        silent = now - connection.heard_at()
        stale_after = connection.stale_after() if silent >= _SHORTEST_STALE else None
        if stale_after is not None and silent >= stale_after:
            connection.disconnect(DisconnectReason.SILENT, reconnect=True)
            return
        if now - connection.json_pinged >= PING_SECONDS:
            connection.json_pinged = now
            await connection.ping_json(text)
        # A peer that is lost after a few seconds of silence must be asked more often than that.
        if now - connection.ws_pinged >= min(self._settings.ws_ping_seconds, connection.stale_after() / 3):
            connection.ws_pinged = now
            await connection.ping()
        if now >= connection.review_at:
            connection.review_at = now + _REVIEW_AGAIN_SECONDS
            self._tasks.spawn(self._review(connection), "review of a socket")

    async def _review(self, connection: Connection) -> None:
        try:
            async with self._reviewers:
                user = await self._authenticator.user(connection.bearer)
                known = user is not None and user.name == connection.user.name
                allowed = user is not None and known and await connection.still_allowed(user)
        except KubeError as error:
            self._unreviewed(connection, error)
            return
        if not known:
            # Its token ended; with a new one it may come back.
            connection.disconnect(DisconnectReason.UNAUTHORIZED, reconnect=True, message="the token is no longer valid")
        elif not allowed:
            connection.disconnect(DisconnectReason.UNAUTHORIZED, reconnect=False, message="no longer allowed to attach")
        else:
            connection.reviewed_at = self._clock.monotonic()
            period = self._authenticator.review_after(connection.bearer, self._settings.review_seconds)
            connection.review_at = connection.reviewed_at + period

    def _unreviewed(self, connection: Connection, error: KubeError) -> None:
        log.warning("a socket could not be reviewed", user=connection.user.name, error=error.message[:300])
        if self._clock.monotonic() - connection.reviewed_at >= _REVIEW_BOUND * self._settings.review_seconds:
            connection.disconnect(DisconnectReason.UNAVAILABLE, reconnect=True)
