"""`belay cancel`, `retry`, `tree` and `why` as typer reads them."""

import asyncio
from typing import Annotated, Literal

import typer

from belay_client.commands import Context, Kubeconfig, Namespace
from belay_client.durations import seconds_of
from belay_client.errors import UsageError
from belay_client.naming import object_name

# What talks to the cluster is imported where it is used, as in `commands`.

Name = Annotated[str, typer.Argument(help="The Delegation; `kubectl get dlg` lists them.", callback=object_name)]
Json = Annotated[Literal["json"] | None, typer.Option("--output", "-o", help="For programs.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("cancel")(cancel)
    app.command("retry")(retry)
    app.command("tree")(tree)
    app.command("why")(why)


def cancel(
    name: Name,
    cascade: Annotated[Literal["true", "false"], typer.Option(help="false spares those that are part of it.")] = "true",
    wait: Annotated[bool, typer.Option("--wait", help="Until its agent has said that it stopped.")] = False,
    timeout: Annotated[
        str | None, typer.Option(help="Longest wait, e.g. 90s; without it, as long as it takes.")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> int:
    """Ask for the end of a delegation, and of those that are part of it.

    Exit codes: 0 asked for, or with --wait: stopped, as its agent acknowledged or because nothing held it; 4 it was
    deleted meanwhile; 5 it had Completed or Failed before; 6 no acknowledgement within --timeout.
    """
    from belay_client import cancelling
    from belay_client.cluster import Where

    if timeout is not None and not wait:
        raise UsageError("--timeout goes with --wait")
    seconds = seconds_of(timeout) if timeout is not None else None
    wanted = cancelling.Wanted(name, cascade=cascade == "true", wait=wait, timeout=seconds)
    return asyncio.run(cancelling.cancel(Where(namespace, kubeconfig, context), wanted))


def retry(
    name: Name,
    output: Annotated[Literal["name", "json"] | None, typer.Option("--output", "-o", help="What to print.")] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Try it again: Stuck work as its next attempt, Failed or Cancelled work as a new delegation.

    Prints the name of the delegation that does it.
    """
    from belay_client import retrying
    from belay_client.cluster import Where

    print(asyncio.run(retrying.retry(Where(namespace, kubeconfig, context), name, output)))


def tree(
    name: Name,
    output: Json = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what a delegation is part of, and what is part of it."""
    from belay_client import tree as family
    from belay_client.cluster import Where

    asyncio.run(family.show(Where(namespace, kubeconfig, context), name, output))


def why(
    name: Name,
    output: Json = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Say why a delegation waits, is stuck, or has ended, and what to do about it."""
    from belay_client import why as reasons
    from belay_client.cluster import Where

    print(asyncio.run(reasons.why(Where(namespace, kubeconfig, context), name, output)))
