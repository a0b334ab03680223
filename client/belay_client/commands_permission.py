"""`belay approve` and `belay deny` as typer reads them."""

import asyncio
from typing import Annotated

import typer

from belay_api.permissionrequest import Behavior
from belay_client.commands import Context, Kubeconfig, Namespace
from belay_client.naming import object_name

Name = Annotated[
    str, typer.Argument(help="The PermissionRequest; `kubectl get bperm` lists them.", callback=object_name)
]
Reason = Annotated[str | None, typer.Option(help="Why, in a sentence; the agent is told.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("approve")(approve)
    app.command("deny")(deny)


def approve(
    name: Name,
    reason: Reason = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Allow what an agent asks; once, and for good."""
    _decide(Behavior.ALLOW, name, reason, namespace, kubeconfig, context)


def deny(
    name: Name,
    reason: Reason = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Deny what an agent asks; once, and for good."""
    _decide(Behavior.DENY, name, reason, namespace, kubeconfig, context)


def _decide(
    behavior: Behavior, name: str, reason: str | None, namespace: Namespace, kubeconfig: Kubeconfig, context: Context
) -> None:
    # Its library takes half a second to import, which the other commands do without.
    from belay_client import deciding
    from belay_client.cluster import Where

    print(asyncio.run(deciding.decide(Where(namespace, kubeconfig, context), name, behavior, reason)))
