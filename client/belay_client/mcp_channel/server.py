"""The MCP server that Claude Code starts: its capabilities and tools, from its first word to its last."""

import asyncio
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from mcp import types
from mcp.server.lowlevel import Server
from pydantic import ValidationError

from belay_client.agent_run import Stop
from belay_client.channel import AgentChannel
from belay_client.mcp_channel import tools
from belay_client.mcp_channel.bridge import Bridge
from belay_client.mcp_channel.messages import (
    CAPABILITIES,
    INSTRUCTIONS,
    PERMISSION_REQUEST,
    PermissionPrompt,
    harmless,
)
from belay_client.mcp_channel.patience import ToolError, end
from belay_client.mcp_channel.transport import Transport
from belay_kube.clock import Clock

log = structlog.get_logger(__name__)


class ChannelServer:
    """Serves one MCP client; attaches to Belay once the client was initialised and has said that it is ready."""

    def __init__(self, channel: AgentChannel, clock: Clock, stop: Stop, most: int) -> None:
        self._channel = channel
        self._clock = clock
        self._stop = stop
        self._most = most
        self._asking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the client closes its end or a signal comes. Raises UsageError and ChannelEnded."""
        transport = await Transport.stdio({PERMISSION_REQUEST: self._on_prompt})
        self._bridge = Bridge(self._channel, transport.notify, self._clock, self._most)
        server = create_server(self._bridge)
        options = server.create_initialization_options(experimental_capabilities=CAPABILITIES)
        speaking = [
            asyncio.create_task(transport.run()),
            asyncio.create_task(server.run(transport.read, transport.write, options)),
        ]
        for task in speaking:
            task.add_done_callback(self._over)
        try:
            await self._serve(transport.exchanges.ready)
        finally:
            await end(*speaking, *self._asking)

    async def _serve(self, ready: asyncio.Event) -> None:
        """Attach and work until asked to stop; not attached yet, there is nothing to end. Asked twice, end at once."""
        serving = asyncio.create_task(self._attached(ready))
        asked, at_once = (asyncio.create_task(event.wait()) for event in (self._stop.asked, self._stop.at_once))
        try:
            await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not self._channel.attached:
                serving.cancel()
            await asyncio.wait({serving, at_once}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(asked, at_once)
            serving.cancel()
            await asyncio.wait({serving})
        if not serving.cancelled():
            serving.result()

    async def _attached(self, ready: asyncio.Event) -> None:
        await ready.wait()
        async with self._channel:
            await self._bridge.run(self._stop.asked)

    def _over(self, speaking: "asyncio.Task[None]") -> None:
        error = None if speaking.cancelled() else speaking.exception()
        if error is not None:
            log.error("the MCP connection broke", error=repr(error))
        if not self._stop.asked.is_set():  # the other task's end is no second wish
            self._stop.ask()

    def _on_prompt(self, params: dict[str, Any] | None) -> None:
        try:
            prompt = PermissionPrompt.model_validate(params or {})
        except ValidationError as error:
            log.warning("permission request passed over: answer it at the terminal", errors=error.errors()[0]["msg"])
            return
        asking = asyncio.create_task(self._bridge.ask(prompt))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)


def create_server(bridge: Bridge) -> "Server[Any, Any]":
    """The server with its tools. Handlers are set directly: the SDK's decorators are untyped."""
    server: Server[Any, Any] = Server("belay", version=_version(), instructions=INSTRUCTIONS)

    async def list_tools(_: types.ListToolsRequest) -> types.ServerResult:
        known = [types.Tool(name=t.name, description=t.description, inputSchema=t.schema()) for t in tools.TOOLS]
        return types.ServerResult(types.ListToolsResult(tools=known))

    async def call_tool(request: types.CallToolRequest) -> types.ServerResult:
        try:
            text, wrong = await tools.call(bridge, request.params.name, request.params.arguments or {}), False
        except ToolError as error:
            text, wrong = str(error), True
        content: list[types.ContentBlock] = [types.TextContent(type="text", text=harmless(text))]
        return types.ServerResult(types.CallToolResult(content=content, isError=wrong))

    server.request_handlers[types.ListToolsRequest] = list_tools
    server.request_handlers[types.CallToolRequest] = call_tool
    return server


def _version() -> str:
    try:
        return version("belay")
    except PackageNotFoundError:
        return "0"
