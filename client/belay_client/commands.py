"""`belay delegate` and `version` as typer reads them: flags in, one call, an exit code out."""

import asyncio
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

from belay_api.agent import OnAgentLost
from belay_api.meta import API_VERSION
from belay_client.durations import seconds_of
from belay_client.errors import UsageError
from belay_client.naming import object_name

# What talks to the cluster is imported where it is used: its library takes half a second, which `agent run` and
# `version` do without.

Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace; the context's when left out.")]
Kubeconfig = Annotated[Path | None, typer.Option(help="Kubeconfig file; $KUBECONFIG or ~/.kube/config when left out.")]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig; the current one when left out.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("delegate")(delegate)
    app.command("version")(show_version)


def delegate(
    agent: Annotated[str, typer.Argument(help="The Agent that is to do it.")],
    prompt: Annotated[str, typer.Argument(help="The task in words; `-` reads standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Follow it, and print its result.")] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the Delegation; made up when left out.", callback=object_name)
    ] = None,
    deadline: Annotated[str | None, typer.Option(help="Time it may take, e.g. 90s, 10m, 1h30m.")] = None,
    deadline_seconds: Annotated[int | None, typer.Option(help="The same in seconds.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first in the agent's queue (0).")] = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", help="name=value; may be repeated.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session of the agent may take it.")] = None,
    topic: Annotated[str | None, typer.Option(help="Stream on which its events are told.")] = None,
    on_agent_lost: Annotated[OnAgentLost | None, typer.Option(help="If its session or agent is lost.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key and task again make no second one.")] = None,
    output: Annotated[Literal["name", "json"] | None, typer.Option("--output", "-o", help="What to print.")] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> int:
    """Hand a task to an agent.

    With --wait the exit code is 0 for Completed, 1 for Failed, 3 for Cancelled and 4 if it was deleted.
    """
    from belay_client import delegating
    from belay_client.delegate import Request, read_prompt

    request = Request(
        agent=agent,
        prompt=read_prompt(prompt),
        name=name,
        inputs=inputs or (),
        session=session,
        topic=topic,
        deadline_seconds=_deadline(deadline, deadline_seconds),
        priority=priority,
        on_agent_lost=on_agent_lost,
        idempotency_key=idempotency_key,
    )
    request.body()
    where = delegating.Where(namespace, kubeconfig, context)
    shown = delegating.Format(output) if output else None
    return asyncio.run(delegating.delegate(where, request, wait=wait, output=shown))


def show_version() -> None:
    """Print the version."""
    try:
        installed = version("belay")
    except PackageNotFoundError:
        installed = "(not installed)"
    print(f"belay {installed} {API_VERSION}")


def _deadline(duration: str | None, seconds: int | None) -> int | None:
    if duration is not None and seconds is not None:
        raise UsageError("give --deadline or --deadline-seconds, not both")
    return seconds_of(duration) if duration is not None else seconds
