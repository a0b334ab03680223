"""Plays a scenario in which the operator dies: its successor is started, and what was begun goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from faults.mortal import Mortal
from faults.operating import World

T = TypeVar("T")
STEP = 15
"""Seconds, well within staleAfterSeconds."""
_MOST_STEPS = 200


class Play:
    """The scenario: whoever plays it goes on where the operator died."""

    def __init__(self, world: World, client: Mortal) -> None:
        self.world = world
        self.client = client
        self.killed = False

    async def start(self) -> None:
        """Start the operator that is to die."""
        await self.alive(lambda: self.world.start(self.client), again=False)

    async def alive(self, step: Callable[[], Awaitable[Any]], *, again: bool = True) -> None:
        """Take a step; if the operator dies meanwhile, start its successor, and take the step (again) beside that."""
        if self.killed:
            await step()
            return
        stepping = asyncio.ensure_future(step())
        dying = asyncio.ensure_future(self.client.dead.wait())
        await asyncio.wait({stepping, dying}, return_when=asyncio.FIRST_COMPLETED)
        if not dying.done():
            dying.cancel()
            await stepping
            return
        stepping.cancel()
        await asyncio.wait({stepping})
        self.killed = True
        self.client.bury()
        await self.world.stop()
        await self.world.start()
        if again:
            await step()

    async def settled(self) -> None:
        """Both know what there is."""
        await self.alive(self.world.settled)

    async def passes(self, seconds: float) -> None:
        """Time passes, in steps of a gateway's renewals."""
        for _ in range(int(seconds / STEP)):
            await self.step()
        await self.settled()

    async def step(self) -> None:
        """A little time passes."""
        await self.settled()
        await self.alive(lambda: self.world.clock.advance(STEP))
        await self.world.renew()

    async def until(self, so: Callable[[], Awaitable[T | None]]) -> T:
        """Time passes until something is so, which is returned."""
        for _ in range(_MOST_STEPS):
            await self.settled()
            found = await so()
            if found:
                return found
            await self.step()
        raise AssertionError(f"not so after {_MOST_STEPS * STEP} s: {so}")
