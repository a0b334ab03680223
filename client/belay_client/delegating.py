"""What `belay delegate` does on the cluster, and what it prints."""

import asyncio
import json
from enum import StrEnum

from belay_api.delegation import Delegation
from belay_api.meta import GROUP
from belay_api.transitions import Phase
from belay_client.cluster import Where, cluster
from belay_client.console import EXIT_INTERRUPTED, say
from belay_client.delegate import Request, agent_is_missing, ensure
from belay_client.follow import EXIT_CODES, EXIT_DELETED, display, follow, phase, printable, state_line
from belay_kube.client import Json, Kube
from belay_kube.clock import SystemClock

_RESOURCE = f"{Delegation.RESOURCE.singular}.{GROUP}"

__all__ = ["Format", "Where", "delegate"]


class Format(StrEnum):
    """What `delegate` prints."""

    NAME = "name"
    JSON = "json"


async def delegate(where: Where, request: Request, *, wait: bool, output: Format | None) -> int:
    """Create it and, with `wait`, follow it to its end; returns the exit code. Raises ClientError."""
    namespace = where.resolved_namespace()
    async with cluster(where) as kube:
        missing = await agent_is_missing(kube, namespace, request.agent)
        created, is_new = await ensure(kube, namespace, request)
        if not is_new:
            say(f"{created['metadata']['name']} was there already, made with this key")
        if missing:
            say(f"agent {namespace}/{request.agent} does not exist yet: the delegation waits until it does")
        if not wait:
            print(_shown(created, output))
            return 0
        if is_new:
            say(f"{created['metadata']['name']} created")
        return await _wait(kube, created, output)


async def _wait(kube: Kube, created: Json, output: Format | None) -> int:
    name = created["metadata"]["name"]
    try:
        with display(name) as shown:
            ended = await follow(kube, created, SystemClock(), shown)
    except asyncio.CancelledError:
        say(f"{name} goes on; to end it: belay cancel {name} -n {created['metadata']['namespace']}")
        return EXIT_INTERRUPTED
    if ended is None:
        say(f"{name} was deleted")
        return EXIT_DELETED
    return _end(name, ended, output)


def _end(name: str, ended: Json, output: Format | None) -> int:
    if output is not None:
        print(_shown(ended, output))
    elif phase(ended) == Phase.COMPLETED:
        print(result_text(ended["status"].get("result") or {}))
    if phase(ended) != Phase.COMPLETED:
        say(f"{name}: {state_line(ended)}")
    return EXIT_CODES[Phase(phase(ended))]


def _shown(obj: Json, output: Format | None) -> str:
    if output is Format.JSON:
        return json.dumps(obj, indent=2)
    name = str(obj["metadata"]["name"])
    return f"{_RESOURCE}/{name}" if output is Format.NAME else name


def result_text(result: Json) -> str:
    """A result as it is printed: its text, then its data as JSON, then its address; what there is of them."""
    data, uri = result.get("data"), result.get("uri")
    parts = [
        result.get("text"),
        json.dumps(data, indent=2) if data is not None else None,
        printable(uri) if uri else None,
    ]
    return "\n".join(part for part in parts if part)
