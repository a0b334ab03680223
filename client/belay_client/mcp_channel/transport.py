"""MCP on standard input and output, with the notifications that only Claude Code and its channels know.

The SDK's sessions validate notifications against a closed list, so these are taken out before it and put in after it.
Its own transport for stdio reads in a thread that no signal can end; this one reads by the event loop.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Callable
from typing import Any, Self

import anyio
import structlog
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage, JSONRPCNotification
from pydantic import ValidationError

from belay_client.errors import UsageError

log = structlog.get_logger(__name__)

MAX_LINE_BYTES = 16 << 20
Taken = Callable[[dict[str, Any] | None], None]
"""Gets the parameters of a notification."""


class Transport:
    """One MCP connection. `handlers` get what the SDK doesn't know, by method; they must not block."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: dict[str, Taken]) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._inward, self.read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        self.write, self._outward = anyio.create_memory_object_stream[SessionMessage](0)

    @classmethod
    async def stdio(cls, handlers: dict[str, Taken]) -> Self:
        """This process's own; whatever else is printed to standard output goes to standard error from now on.

        Raises UsageError when standard input is no pipe: an MCP client starts this command, not a person.
        """
        loop = asyncio.get_running_loop()
        stdin, stdout = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
        sys.stdout.flush()
        os.dup2(2, 1)
        reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        try:
            _check(stdin.fileno(), stdout.fileno())
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdin)
            pipe, protocol = await loop.connect_write_pipe(
                lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), stdout
            )
        except (OSError, ValueError) as error:
            raise UsageError(f"standard input and output must be pipes of an MCP client ({error})") from error
        return cls(reader, asyncio.StreamWriter(pipe, protocol, None, loop), handlers)

    async def run(self) -> None:
        """Carry messages until the client closes its end."""
        carrying = asyncio.create_task(self._carry_out())
        try:
            async with self._inward:
                await self._carry_in()
        finally:
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification of any kind; a client that is gone has no use for it."""
        notification = JSONRPCNotification(jsonrpc="2.0", method=method, params=params)
        await self._send(JSONRPCMessage(notification))

    async def _carry_in(self) -> None:
        while line := await self._line():
            try:
                message = JSONRPCMessage.model_validate_json(line)
            except ValidationError as error:
                log.warning("line passed over: not one of JSON-RPC", start=line[:80].decode(errors="replace"))
                await self._inward.send(error)
                continue
            root = message.root
            if isinstance(root, JSONRPCNotification) and root.method in self._handlers:
                self._handlers[root.method](root.params)
            if not (isinstance(root, JSONRPCNotification) and root.method.startswith("notifications/claude/")):
                await self._inward.send(SessionMessage(message))

    async def _line(self) -> bytes:
        """The next line; nothing at the end."""
        while True:
            try:
                return await self._reader.readline()
            except ValueError:
                log.warning("line passed over: longer than a message may be", most=MAX_LINE_BYTES)
            except ConnectionError:
                return b""

    async def _carry_out(self) -> None:
        async with self._outward:
            async for message in self._outward:
                await self._send(message.message)

    async def _send(self, message: JSONRPCMessage) -> None:
        try:
            self._writer.write(message.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n")
            await self._writer.drain()
        except ConnectionError as error:
            log.warning("not sent: the MCP client reads no more", error=str(error))


def _check(*descriptors: int) -> None:
    """Raise ValueError for what the event loop can't watch; on /dev/null it would fail later, and unseen."""
    for descriptor in descriptors:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)):
            raise ValueError("one is a file or a device")
