"""`belay chat` as typer reads it."""

from typing import Annotated, Literal

import typer

from belay_client.commands import Context, Kubeconfig, Namespace
from belay_client.durations import seconds_of
from belay_client.naming import object_name


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("chat")(chat)


def chat(
    agent: Annotated[str, typer.Argument(help="The Agent, of runtime Model.")],
    message: Annotated[
        str | None, typer.Argument(help="What to say, `-` reads standard input; left out: a message a line.")
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(
            help="The conversation to go on with, `kubectl get bsess` lists them; a new one when left out.",
            callback=object_name,
        ),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(help="Longest time for each message, e.g. 90s; without it, as long as it takes.")
    ] = None,
    output: Annotated[
        Literal["json"] | None, typer.Option("--output", "-o", help="For programs: each turn as a line.")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> int:
    """Talk to a Model agent: answers on standard output, what happens on the way on standard error.

    Ctrl-C interrupts the answer, once more it leaves; Ctrl-D ends. With MESSAGE the exit code is 0 for an answer, 1 if
    it came back without one, 4 if session or message were deleted, 6 after --timeout; without MESSAGE and without a
    terminal it is the highest of all lines.
    """
    from belay_client import chatting
    from belay_client.cluster import Where

    seconds = seconds_of(timeout) if timeout is not None else None
    wanted = chatting.Wanted(agent, message, session, seconds, json=output == "json")
    return chatting.chat(Where(namespace, kubeconfig, context), wanted)
