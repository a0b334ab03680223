"""Beats for held work, so that a user of the SDK need not think of them."""

import asyncio

import structlog

from belay_client.errors import ChannelError, Refused
from belay_client.work import Key, Work
from belay_kube.clock import Clock

log = structlog.get_logger(__name__)

MAX_BEAT_SECONDS = 30.0


def beat_seconds(stuck_threshold: float) -> float:
    """Seconds between two beats: a quarter of the threshold, at most 30."""
    return min(MAX_BEAT_SECONDS, stuck_threshold / 4)


class Heart:
    """Beats for each work from `start` to `stop`; a beat that waits for a connection is followed by no second one."""

    def __init__(self, clock: Clock, every: float | None = None) -> None:
        self._clock = clock
        self._every = every
        self._beats: dict[Key, asyncio.Task[None]] = {}

    def start(self, work: Work) -> None:
        """Beat for `work`, the first time after one interval: its accept was the first sign of life."""
        self._beats[work.key] = asyncio.create_task(self._beat(work))

    def stop(self, key: Key) -> None:
        """Beat no more for it."""
        task = self._beats.pop(key, None)
        if task is not None:
            task.cancel()

    def stop_all(self) -> None:
        """Beat no more."""
        for key in list(self._beats):
            self.stop(key)

    async def _beat(self, work: Work) -> None:
        seconds = self._every or beat_seconds(work.dispatch.stuck_threshold_seconds)
        while True:
            await self._clock.sleep(seconds)
            try:
                await work.heartbeat()
            except Refused as error:
                log.warning("heartbeat refused", delegation=work.name, attempt=work.attempt, error=str(error))
            except ChannelError:
                return
