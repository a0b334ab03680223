"""`belay chat` as a process that goes on beside a test."""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from client.belay_command import Said
from waiting import eventually

Talk = Callable[..., "AbstractAsyncContextManager[Talking]"]
Run = Callable[..., Coroutine[Any, Any, Said]]


def beside(running: Coroutine[Any, Any, Said]) -> "asyncio.Task[Said]":
    """Runs it beside the test."""
    return asyncio.create_task(running)


class Talking:
    """A chat that goes on, and what it has told so far."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def tells(self, words: str) -> None:
        """Wait for a line with these words."""
        await eventually(lambda: any(words in line for line in self.lines))

    def ctrl_c(self) -> None:
        """Press it."""
        self.process.send_signal(signal.SIGINT)

    async def ended(self) -> tuple[int, str]:
        """Its exit code and its answers."""
        assert self.process.stdout
        out = await self.process.stdout.read()
        await self._reading
        return await self.process.wait(), out.decode()

    async def _read(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip("\n"))
