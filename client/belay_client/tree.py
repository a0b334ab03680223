"""`belay tree`: the delegations above and below one, with how each of them stands."""

import json
import sys
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from belay_api.times import from_wire
from belay_api.transitions import Phase
from belay_client.cluster import Where, cluster
from belay_client.durations import age
from belay_client.family import MOST_DEPTH, MOST_NODES, Ancestors, Node, ancestors, descendants
from belay_client.follow import phase, printable
from belay_kube.client import DELEGATIONS, Json
from belay_kube.clock import SystemClock

_STYLES = {
    Phase.COMPLETED: "green",
    Phase.FAILED: "red",
    Phase.CANCELLED: "dim",
    Phase.STUCK: "yellow",
    Phase.IN_PROGRESS: "cyan",
}
_NO_TERMINAL_WIDTH = 4096
_MORE = "… and more that is not shown"


async def show(where: Where, name: str, output: str | None = None) -> None:
    """Print the tree around one delegation. Raises ClientError."""
    async with cluster(where) as kube:
        obj = await kube.get(DELEGATIONS, where.resolved_namespace(), name)
        above, below = await ancestors(kube, obj), await descendants(kube, obj)
    if output == "json":
        print(json.dumps(as_json(above, below), indent=2))
        return
    now = SystemClock().now()
    width = None if sys.stdout.isatty() else _NO_TERMINAL_WIDTH  # what is piped into another program is not cut
    Console(file=sys.stdout, highlight=False, width=width).print(rendered(above, below, now))


def rendered(above: Ancestors, below: Node, now: datetime) -> Tree:
    """The tree from the highest ancestor down; the one that was asked for is bold."""
    top = _edge(above)
    at = root = Tree(Text(top, style="dim"), guide_style="dim") if top else None
    for ancestor in reversed(above.chain):
        at = _under(at, label(ancestor, now))
        root = root or at
    asked = label(below.obj, now)
    asked.stylize("bold")
    at = _under(at, asked)
    _fill(at, below, now)
    return root or at


def label(obj: Json, now: datetime) -> Text:
    """E.g. `book-7  Queued (AgentBusy)  agent writer  4m12s`, with what it says of itself when it is not well."""
    status = obj.get("status") or {}
    reason = status.get("reason")
    stands = phase(obj) + (f" ({reason})" if reason not in (None, phase(obj)) else "")
    text = Text(printable(obj["metadata"]["name"]), no_wrap=True, overflow="ellipsis")
    text.append("  ").append(printable(stands), style=_STYLES.get(Phase(phase(obj)), ""))
    text.append(printable(f"  agent {obj['spec']['agentRef']['name']}  {_age(obj, now)}"))
    if status.get("message") and phase(obj) in (Phase.FAILED, Phase.STUCK, Phase.PENDING):
        text.append(f"  {printable(status['message'])[:200]}", style="dim")
    return text


def as_json(above: Ancestors, below: Node) -> dict[str, Any]:
    """The same for programs: ancestors nearest first, descendants nested; bounded as the picture is."""
    return {
        "ancestors": [_plain(obj) for obj in above.chain],
        "missingParent": above.missing,
        "parentSession": above.session,
        "cycle": above.cycle,
        **_nested(below),
        "truncated": above.more or any(node.more for node in below.walk()),
    }


def _edge(above: Ancestors) -> str | None:
    """What stands over the highest ancestor that was read."""
    if above.missing:
        return f"{above.missing}  does not exist"
    if above.cycle:
        return f"{above.cycle}  is its own ancestor: a circle of parentRef"
    if above.session:
        return f"AgentSession {above.session}"
    return f"… more than {MOST_DEPTH} generations above" if above.more else None


def _under(parent: Tree | None, text: Text) -> Tree:
    return parent.add(text) if parent else Tree(text, guide_style="dim")


def _fill(at: Tree, node: Node, now: datetime) -> None:
    for child in node.children:
        text = label(child.obj, now)
        if child.cycle:
            text.append("  stands further up already: a circle of parentRef", style="red")
        _fill(at.add(text), child, now)
    if node.more:
        at.add(Text(f"{_MORE} (at most {MOST_NODES} and {MOST_DEPTH} generations)", style="dim"))


def _nested(node: Node) -> dict[str, Any]:
    circle = {"cycle": True} if node.cycle else {}
    return {**_plain(node.obj), **circle, "children": [_nested(child) for child in node.children]}


def _plain(obj: Json) -> dict[str, Any]:
    status = obj.get("status") or {}
    return {
        "name": obj["metadata"]["name"],
        "agent": obj["spec"]["agentRef"]["name"],
        "phase": phase(obj),
        "reason": status.get("reason"),
        "message": status.get("message"),
        "created": obj["metadata"]["creationTimestamp"],
    }


def _age(obj: Json, now: datetime) -> str:
    created = from_wire(obj["metadata"]["creationTimestamp"])
    return age(now - created) if created else ""
