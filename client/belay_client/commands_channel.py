"""`belay channel` as typer reads it."""

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import typer

from belay_client.agent_run import Stop
from belay_client.channel import AgentChannel
from belay_client.commands_attaching import (
    LAST_WORDS_SECONDS,
    Gateway,
    Most,
    Name,
    Namespace,
    SessionId,
    TokenFile,
    gateway_of,
    token_of,
)
from belay_client.console import EXIT_INTERRUPTED, log_to_stderr, quiet_libraries
from belay_client.errors import UsageError
from belay_client.naming import agent_ref
from belay_client.relay import Relay
from belay_kube.clock import SystemClock

if TYPE_CHECKING:
    from belay_client.mcp_channel.server import ChannelServer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("channel")(channel)


def channel(
    name: Name,
    namespace: Namespace = "default",
    gateway: Gateway = None,
    token_file: TokenFile = None,
    session_id: SessionId = None,
    most: Most = 1,
) -> int:
    """Be Claude Code's channel: an MCP server on standard input and output, for .mcp.json (docs/claude-code.md)."""
    try:
        from belay_client.mcp_channel.server import ChannelServer
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "anyio"):
            raise
        raise UsageError("`belay channel` needs the MCP SDK: in Belay's checkout, pip install '.[mcp]'") from error
    attached = AgentChannel(
        gateway_of(gateway), agent=agent_ref(namespace, name), token=token_of(token_file), session_id=session_id
    )
    relay = Relay(sys.stderr.fileno())
    log_to_stderr(verbose=True, write=relay.write)
    quiet_libraries()
    clock, stop = SystemClock(), Stop()
    try:
        return asyncio.run(_run(ChannelServer(attached, clock, stop, most), stop))
    finally:
        relay.flush(LAST_WORDS_SECONDS)


async def _run(server: "ChannelServer", stop: Stop) -> int:
    stop.listen()
    await server.run()
    return EXIT_INTERRUPTED if stop.signal is signal.SIGINT else 0
