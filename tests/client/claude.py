"""Claude Code's end of `belay channel`: the MCP SDK's own client on the real command's stdio.

Its session validates notifications against a closed list, so those of channels are taken out before it.
"""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.message import SessionMessage
from mcp.types import InitializeResult, JSONRPCMessage, JSONRPCNotification, TextContent

CHANNEL = "notifications/claude/channel"
PERMISSION = "notifications/claude/channel/permission"
PERMISSION_REQUEST = "notifications/claude/channel/permission_request"


class Claude:
    """A Claude Code session, as far as a channel can see it."""

    def __init__(self, session: ClientSession, write: MemoryObjectSendStream[SessionMessage]) -> None:
        self.session = session
        self.initialized: InitializeResult
        self.told: list[tuple[str, dict[str, Any]]] = []
        """Every notification of channels, in order: method and parameters."""
        self._seen: dict[str, int] = {}
        self._write = write
        self._changed = anyio.Condition()

    async def next(self, method: str = CHANNEL) -> dict[str, Any]:
        """The next notification of one method that this was not asked for before."""
        async with self._changed:
            while len(self.of(method)) <= self._seen.get(method, 0):
                await self._changed.wait()
        self._seen[method] = self._seen.get(method, 0) + 1
        return self.of(method)[self._seen[method] - 1]

    def of(self, method: str) -> list[dict[str, Any]]:
        """What has come of one method."""
        return [params for known, params in self.told if known == method]

    async def call(self, tool: str, **arguments: Any) -> tuple[bool, str]:
        """Call a tool: whether it was done, and the text."""
        result = await self.session.call_tool(tool, arguments)
        assert isinstance(result.content[0], TextContent)
        return not result.isError, result.content[0].text

    async def prompt(self, request_id: str, tool: str = "Bash", preview: str = '{"command":"ls"}') -> None:
        """Open a permission dialog."""
        params = {"request_id": request_id, "tool_name": tool, "description": "list", "input_preview": preview}
        notification = JSONRPCNotification(jsonrpc="2.0", method=PERMISSION_REQUEST, params=params)
        await self._write.send(SessionMessage(JSONRPCMessage(notification)))

    async def took(self, notification: JSONRPCNotification) -> None:
        """One has come."""
        async with self._changed:
            self.told.append((notification.method, notification.params or {}))
            self._changed.notify_all()


def command(*arguments: str) -> list[str]:
    """The arguments of the Python that runs `belay channel`."""
    return ["-m", "belay_client.cli", "channel", *arguments]


@asynccontextmanager
async def claude(*arguments: str, env: Mapping[str, str], log: Path | None = None) -> AsyncIterator[Claude]:
    """Start `belay channel` and initialise; leaving closes its standard input."""
    known = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **env}
    parameters = StdioServerParameters(command=sys.executable, args=command(*arguments), env=known)
    with (log or Path(os.devnull)).open("w") as errors:
        async with stdio_client(parameters, errors) as (read, write), anyio.create_task_group() as tasks:
            inward, forwarded = anyio.create_memory_object_stream[SessionMessage | Exception](0)
            async with ClientSession(forwarded, write.clone()) as session:
                running = Claude(session, write)
                tasks.start_soon(_carry, read, inward, running)
                running.initialized = await session.initialize()
                yield running
            tasks.cancel_scope.cancel()


async def _carry(
    read: MemoryObjectReceiveStream[SessionMessage | Exception],
    inward: MemoryObjectSendStream[SessionMessage | Exception],
    running: Claude,
) -> None:
    async with inward:
        async for message in read:
            root = message.message.root if isinstance(message, SessionMessage) else None
            if isinstance(root, JSONRPCNotification) and root.method.startswith("notifications/claude/"):
                await running.took(root)
            else:
                await inward.send(message)
