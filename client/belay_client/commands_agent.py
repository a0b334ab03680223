"""`belay agent …` as typer reads it."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from belay_client.agent_run import Runner, Stop, run_until_stopped
from belay_client.channel import AgentChannel
from belay_client.command import check_command
from belay_client.console import EXIT_INTERRUPTED, log_to_stderr
from belay_client.endpoint import Token
from belay_client.errors import UsageError
from belay_client.naming import agent_ref
from belay_client.relay import Relay
from belay_kube.clock import SystemClock

LAST_WORDS_SECONDS = 2.0
"""How long the end of the log may take to be read."""
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
    name: Annotated[str, typer.Argument(help="The Agent to attach as.")],
    command: Annotated[str, typer.Option("--exec", help=_EXEC)],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the Agent.")] = "default",
    gateway: Annotated[str | None, typer.Option(envvar="BELAY_GATEWAY", help="Address of the gateway.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(envvar="BELAY_TOKEN_FILE", help="File with the token; or set BELAY_TOKEN.")
    ] = None,
    session_id: Annotated[str | None, typer.Option(help="Name of this process among those of the agent.")] = None,
    most: Annotated[int, typer.Option("--max", min=1, max=1000, help="Most delegations at once.")] = 1,
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


def gateway_of(given: str | None) -> str:
    """The address of the gateway. Raises UsageError when none was given."""
    if not given:
        raise UsageError("which gateway? Pass --gateway URL or set BELAY_GATEWAY")
    return given


def token_of(file: Path | None) -> Token:
    """The token of the file, or of BELAY_TOKEN. Raises UsageError when there is neither."""
    if file is not None:
        return file
    if not os.environ.get("BELAY_TOKEN"):
        raise UsageError("no token: pass --token-file FILE, or set BELAY_TOKEN_FILE or BELAY_TOKEN")
    return os.environ["BELAY_TOKEN"]
