"""What `belay agent run` and `belay channel` take alike: as whom they attach, where, and with which token."""

import os
from pathlib import Path
from typing import Annotated

import typer

from belay_client.endpoint import Token
from belay_client.errors import UsageError

LAST_WORDS_SECONDS = 2.0
"""How long the end of the log may take to be read."""

Name = Annotated[str, typer.Argument(help="The Agent to attach as.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the Agent.")]
Gateway = Annotated[str | None, typer.Option(envvar="BELAY_GATEWAY", help="Address of the gateway.")]
TokenFile = Annotated[
    Path | None, typer.Option(envvar="BELAY_TOKEN_FILE", help="File with the token; or set BELAY_TOKEN.")
]
SessionId = Annotated[str | None, typer.Option(help="Name of this process among those of the agent.")]
Most = Annotated[int, typer.Option("--max", min=1, max=1000, help="Most delegations at once.")]


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
