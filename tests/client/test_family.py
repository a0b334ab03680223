"""`belay tree`: what is read of a real API server, within its bounds, and how it is drawn."""

import json
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from rich.console import Console

from belay_client.family import MOST_DEPTH, Ancestors, Node, ancestors, descendants
from belay_client.tree import as_json, rendered
from belay_dev.controlplane import ControlPlane
from belay_kube.client import DELEGATIONS, Json, Kube
from client.belay_command import belay

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def stored(name: str, phase: str | None = None, **status: Any) -> Json:
    """A delegation as it is read, four minutes old."""
    return {
        "metadata": {"name": name, "namespace": "ns", "creationTimestamp": "2026-01-02T11:56:00Z"},
        "spec": {"agentRef": {"name": "a"}, "task": {"prompt": "p"}},
        "status": {**({"phase": phase} if phase else {}), **status},
    }


def drawn(above: Ancestors, below: Node, width: int = 400) -> list[str]:
    """The lines of the picture."""
    console = Console(file=StringIO(), highlight=False, width=width)
    console.print(rendered(above, below, NOW))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def test_D9_the_tree_shows_phase_reason_agent_and_age() -> None:
    """From the first ancestor down, one line each, cut at the edge of a terminal, without control characters."""
    below = Node(stored("mine", "Queued", reason="AgentBusy"))
    below.children = [
        Node(stored("one", "Completed", reason="Completed")),
        Node(stored("two", "Failed", reason="AgentFailed", message="no\x1b[31m idea " + "x" * 80)),
    ]
    assert drawn(
        Ancestors((stored("parent", "InProgress", reason="Accepted"), stored("top")), session="s1"), below
    ) == [
        "AgentSession s1",
        "└── top  Pending  agent a  4m",
        "    └── parent  InProgress (Accepted)  agent a  4m",
        "        └── mine  Queued (AgentBusy)  agent a  4m",
        "            ├── one  Completed  agent a  4m",
        "            └── two  Failed (AgentFailed)  agent a  4m  no [31m idea " + "x" * 80,
    ]
    assert drawn(Ancestors(), below, width=20)[1:] == ["├── one  Completed …", "└── two  Failed (Ag…"]


def test_D6_missing_parents_and_circles_are_shown() -> None:
    """What isn't there by its name, what stands above itself once and no more."""
    alone = Node(stored("mine"))
    assert drawn(Ancestors(missing="gone"), alone)[0] == "gone  does not exist"
    assert drawn(Ancestors(cycle="mine"), alone)[0] == "mine  is its own ancestor: a circle of parentRef"
    assert drawn(Ancestors(more=True), alone)[0] == f"… more than {MOST_DEPTH} generations above"
    alone.children, alone.more = [Node(stored("again"), cycle=True)], True
    lines = drawn(Ancestors(), alone)
    assert "stands further up already" in lines[1]
    assert "more that is not shown" in lines[2]
    assert as_json(Ancestors(), alone)["truncated"] is True


async def create(kube: Kube, namespace: str, name: str, parent: str | None = None, kind: str = "Delegation") -> Json:
    """A delegation, below another or a session."""
    spec: Json = {"agentRef": {"name": "a"}, "task": {"prompt": "p"}}
    if parent:
        spec["parentRef"] = {"kind": kind, "name": parent}
    body = {"apiVersion": "belay.dev/v1alpha1", "kind": "Delegation", "metadata": {"name": name}, "spec": spec}
    return await kube.create(DELEGATIONS, namespace, body)


def shape(node: Node) -> Any:
    """Names only."""
    return {child.name + ("*" if child.cycle else ""): shape(child) for child in node.children}


async def test_D9_reads_both_ways(admin_kube: Kube, namespace: str) -> None:
    """Ancestors nearest first; descendants by parentRef, of kind Delegation only."""
    await create(admin_kube, namespace, "top")
    middle = await create(admin_kube, namespace, "middle", "top")
    await create(admin_kube, namespace, "sibling", "top")
    for name, parent in (("left", "middle"), ("right", "middle"), ("leaf", "left")):
        await create(admin_kube, namespace, name, parent)
    await create(admin_kube, namespace, "of-a-session", "middle", "AgentSession")
    above = await ancestors(admin_kube, middle)
    assert [obj["metadata"]["name"] for obj in above.chain] == ["top"]
    assert shape(await descendants(admin_kube, middle)) == {"left": {"leaf": {}}, "right": {}}
    stranger = await admin_kube.get(DELEGATIONS, namespace, "of-a-session")
    assert (await ancestors(admin_kube, stranger)).session == "middle"


async def test_D6_circles_and_gaps_end_the_reading(admin_kube: Kube, namespace: str) -> None:
    """References come in any order, so there can be circles; a parent may never have been there."""
    first = await create(admin_kube, namespace, "first", "third")
    await create(admin_kube, namespace, "second", "first")
    third = await create(admin_kube, namespace, "third", "second")
    above = await ancestors(admin_kube, third)
    assert ([obj["metadata"]["name"] for obj in above.chain], above.cycle) == (["second", "first"], "third")
    assert shape(await descendants(admin_kube, first)) == {"second": {"third": {"first*": {}}}}
    orphan = await create(admin_kube, namespace, "orphan", "never-there")
    assert await ancestors(admin_kube, orphan) == Ancestors(missing="never-there")


async def test_D6_a_long_line_is_bounded(admin_kube: Kube, namespace: str) -> None:
    """The operator takes up 16; more can be made, and are not followed for ever."""
    names = [f"d{number:02}" for number in range(MOST_DEPTH + 4)]
    made = [
        await create(admin_kube, namespace, name, parent) for name, parent in zip(names, [None, *names], strict=False)
    ]
    above = await ancestors(admin_kube, made[-1])
    assert (len(above.chain), above.more) == (MOST_DEPTH, True)
    below = list((await descendants(admin_kube, made[0])).walk())
    assert (len(below), below[-1].more) == (MOST_DEPTH + 1, True)


async def test_D9_belay_tree(installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, namespace: str) -> None:
    """The command: the picture, or JSON; one that isn't there is one line."""
    top = await create(admin_kube, namespace, "top")
    await operator_kube.patch_status(DELEGATIONS, top, {"phase": "Queued", "reason": "AgentBusy"})
    await create(admin_kube, namespace, "part", "top")
    where: dict[str, Any] = {"KUBECONFIG": str(installed.kubeconfig)}
    shown = await belay("tree", "part", "-n", namespace, **where)
    assert shown.code == 0, shown
    assert [line.split("  ")[:3] for line in shown.out.splitlines()] == [
        ["top", "Queued (AgentBusy)", "agent a"],
        ["└── part", "Pending", "agent a"],
    ]
    plain = json.loads((await belay("tree", "top", "-n", namespace, "-o", "json", **where)).out)
    assert (plain["name"], plain["phase"], plain["ancestors"]) == ("top", "Queued", [])
    assert [child["name"] for child in plain["children"]] == ["part"]
    none = await belay("tree", "none", "-n", namespace, **where)
    assert none.is_one_line(), none
