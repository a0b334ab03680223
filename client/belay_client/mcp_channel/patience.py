"""How long things may take while Claude waits; what takes longer goes on beside."""

import asyncio
from typing import Any

from belay_kube.clock import Clock

PATIENCE_SECONDS = 20.0
"""How long a tool waits for the gateway before it tells Claude that the word is kept."""
LAST_WORDS_SECONDS = 2.0
"""How long results that are on their way are waited for at the end, and as long again each word to Claude or people."""


class ToolError(Exception):
    """What Claude asked for can't be done; the text says why, and what to do."""


class Patience:
    """Waits with an end, by the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def soon(self, task: "asyncio.Task[Any]") -> bool:
        """Whether it ends within a tool's patience; it goes on if not."""
        await self.within(PATIENCE_SECONDS, task)
        return task.done()

    async def within(self, seconds: float, *tasks: "asyncio.Task[Any]") -> None:
        """Wait until all have ended, or the time is over; none is cancelled."""
        late = asyncio.create_task(self._clock.sleep(seconds))
        pending: set[asyncio.Task[Any]] = set(tasks)
        try:
            while pending and not late.done():
                done, _ = await asyncio.wait({late, *pending}, return_when=asyncio.FIRST_COMPLETED)
                pending -= done
        finally:
            await end(late)


async def end(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel them, and wait until they have ended; what they raise is nobody's any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
