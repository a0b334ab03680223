"""MCP on standard input and output, with the notifications that only Claude Code and its channels know.

The SDK's sessions validate notifications against a closed list, so these are taken out before it and put in after it.
Its own transport for stdio reads in a thread that no signal can end; this one reads by the event loop.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import anyio
import structlog
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage, JSONRPCNotification
from pydantic import ValidationError

from belay_client.errors import UsageError
from belay_client.mcp_channel.exchanges import Exchanges
from belay_client.mcp_channel.patience import end

log = structlog.get_logger(__name__)

MAX_LINE_BYTES = 16 << 20
LAST_ANSWERS_SECONDS = 2.0
"""How long answers are waited for once the client asks no more."""
_NOT_JSON = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error: the line is not JSON"}}\n'
_NOT_A_MESSAGE = (
    b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request: no message of JSON-RPC 2.0"}}\n'
)
Taken = Callable[[dict[str, Any] | None], None]
"""Gets the parameters of a notification."""


class Transport:
    """One MCP connection. `handlers` get what the SDK doesn't know, by method; they must not block."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: dict[str, Taken]) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self.exchanges = Exchanges()
        self._inward, self.read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        self.write, self._outward = anyio.create_memory_object_stream[SessionMessage](0)

    @classmethod
    async def stdio(cls, handlers: dict[str, Taken]) -> Self:
        """This process's own; whatever else is printed to standard output goes to standard error from now on.

        Raises UsageError when one of the two is no pipe: an MCP client starts this command, not a person.
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
        """Carry messages until the client closes its end, and answer what it asked; or until it reads no more."""
        reading, gone = asyncio.create_task(self._carry_in()), asyncio.create_task(self._gone())
        carrying = asyncio.create_task(self._carry_out())
        try:
            await asyncio.wait({reading, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                log.warning("the MCP client reads no more")
                return
            reading.result()
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_ANSWERS_SECONDS):
                    await self.exchanges.quiet.wait()
        finally:
            self._inward.close()
            await end(reading, gone, carrying)

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification of any kind; a client that is gone has no use for it."""
        notification = JSONRPCNotification(jsonrpc="2.0", method=method, params=params)
        await self._send(JSONRPCMessage(notification))

    async def _gone(self) -> None:
        """Return once the client has closed its end of our output."""
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _carry_in(self) -> None:
        while line := await self._line():
            if not line.strip():
                continue
            try:
                message = JSONRPCMessage.model_validate_json(line)
            except ValidationError as error:
                log.warning("line passed over: not one of JSON-RPC", start=line[:80].decode(errors="replace"))
                await self._write(_NOT_JSON if error.errors()[0]["type"] == "json_invalid" else _NOT_A_MESSAGE)
                continue
            self.exchanges.came(message)
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
                self.exchanges.went(message.message)

    async def _send(self, message: JSONRPCMessage) -> None:
        await self._write(message.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n")

    async def _write(self, line: bytes) -> None:
        with suppress(ConnectionError):  # `run` notices, and ends
            self._writer.write(line)
            await self._writer.drain()


def _check(*descriptors: int) -> None:
    """Raise ValueError for what the event loop can't watch; on /dev/null it would fail later, and unseen."""
    for descriptor in descriptors:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            raise ValueError("one is a terminal, a file or a device")
