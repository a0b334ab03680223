"""A real nats-server on loopback, for tests: nothing is stored, and it ends with the test at the latest."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from belay_dev import binaries
from belay_dev.guard import Guard
from belay_dev.layout import LOOPBACK
from belay_dev.process import Process
from belay_dev.tools import Tool
from waiting import eventually

_TRIES = 5


class NatsServer:
    """Started and stopped as the test likes, always on the same port."""

    def __init__(self, program: Path, guard: Guard, folder: Path, *arguments: str) -> None:
        self._program = program
        self._guard = guard
        self._folder = folder
        self._arguments = arguments
        self._port = 0
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where gateways find it."""
        return f"nats://{LOOPBACK}:{self._port}"

    async def start(self) -> None:
        """Start it; the first time on a free port, which another process may still take first."""
        for _ in range(1 if self._port else _TRIES):
            port = self._port or _free_port()
            flags = ["--addr", LOOPBACK, "--port", str(port), *self._arguments]
            process = self._guard.spawn([self._program, *flags], log=self._folder / "nats.log", cwd=self._folder)
            if await _is_up(process, port):
                self._port, self._process = port, process
                return
        raise AssertionError(f"nats-server did not start:\n{process.tail()}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process
        os.kill(self._process.pid, number)

    async def stop(self) -> None:
        """As a crash or a reboot would end it."""
        assert self._process
        await asyncio.to_thread(self._process.kill)


async def _is_up(process: Process, port: int) -> bool:
    async def settled() -> bool:
        return not process.alive or await _answers(port)

    await eventually(settled)
    return process.alive


def _free_port() -> int:
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        port: int = held.getsockname()[1]
        return port


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    greeting = await reader.readline()
    writer.close()
    return greeting.startswith(b"INFO ")


@asynccontextmanager
async def nats_server(folder: Path, *arguments: str) -> AsyncIterator[NatsServer]:
    """A running server."""
    program = (await asyncio.to_thread(binaries.ensure, [Tool.NATS]))[Tool.NATS]
    with Guard() as guard:
        server = NatsServer(program, guard, folder, *arguments)
        await server.start()
        yield server
