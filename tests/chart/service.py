"""A Service: one address for the gateways that are ready, each connection to the next of them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

LOOPBACK = "127.0.0.1"
_CHUNK = 1 << 16


class Service:
    """Made by `serving`; which ports stand behind it changes as pods become ready and are ended."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.url = ""
        self.fewest: int | None = None
        """Of the ports there were at once, since the first came."""
        self._taken = 0

    def add(self, port: int) -> None:
        """A pod is ready."""
        self.ports.append(port)

    def remove(self, port: int) -> None:
        """A pod is to end: it gets no new connection, and keeps those it has."""
        self.ports.remove(port)
        self.fewest = min(len(self.ports), self.fewest if self.fewest is not None else len(self.ports))

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, until one of its ends closes it."""
        with suppress(OSError):
            if self.ports:
                self._taken += 1
                port = self.ports[self._taken % len(self.ports)]
                there, back = await asyncio.open_connection(LOOPBACK, port)
                await first(_pass(reader, back), _pass(there, writer))
                back.close()
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    """One with nothing behind it yet."""
    made = Service()
    running: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(made.relay(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(accept, LOOPBACK, 0)
    made.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when one of them does; the others are cancelled."""
    tasks = [asyncio.create_task(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
