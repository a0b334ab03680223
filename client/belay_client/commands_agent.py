"""`belay agent …` as typer reads it."""

import asyncio
import signal
import sys
from typing import Annotated

import typer

from belay_client.agent_run import Runner, Stop, run_until_stopped
from belay_client.channel import AgentChannel
from belay_client.command import check_command
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
from belay_client.console import EXIT_INTERRUPTED, log_to_stderr
from belay_client.naming import agent_ref
from belay_client.relay import Relay
from belay_kube.clock import SystemClock

_EXEC = (
    "Command that /bin/sh runs for each delegation: the prompt is its standard input, its standard output the result; "
    "a line `::progress 40 text` reports progress."
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    agents = typer.Typer(help="Be an agent.")
    agents.callback()(_group)
    agents.command("run")(agent_run)
    app.add_typer(agents, name="agent")


def _group() -> None:
    """Be an agent."""


def agent_run(
    name: Name,
    command: Annotated[str, typer.Option("--exec", help=_EXEC)],
    namespace: Namespace = "default",
    gateway: Gateway = None,
    token_file: TokenFile = None,
    session_id: SessionId = None,
    most: Most = 1,
    once: Annotated[bool, typer.Option("--once", help="Exit after one delegation.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Wait for a gateway that can't be reached at first.")] = False,
    no_heartbeat: Annotated[bool, typer.Option("--no-heartbeat", hidden=True)] = False,
) -> int:
    """Attach as an agent and run a command for each delegation."""
    check_command(command)
    channel = AgentChannel(
        gateway_of(gateway),
        agent=agent_ref(namespace, name),
        token=token_of(token_file),
        session_id=session_id,
        beat=not no_heartbeat,
        keep_trying=retry,
    )
    relay = Relay(sys.stderr.fileno())
    log_to_stderr(verbose=True, write=relay.write)
    try:
        return asyncio.run(_run(Runner(channel, command, SystemClock(), Stop(), most, once, relay.write)))
    finally:
        relay.flush(LAST_WORDS_SECONDS)


async def _run(runner: Runner) -> int:
    stop = runner.stop
    stop.listen()
    await run_until_stopped(runner)
    return EXIT_INTERRUPTED if stop.signal is signal.SIGINT else 0
