"""The tree around one delegation, by parentRef: read within bounds, whatever circles and gaps it has."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from belay_api.delegation import Delegation
from belay_api.meta import ANNOTATION_CANCEL_CASCADE
from belay_api.transitions import LIVE, Phase, phase_of
from belay_client.follow import phase
from belay_kube.client import DELEGATIONS, Json, Kube, pages
from belay_kube.errors import NotFound

MOST_DEPTH = 32
"""Most generations above and below; the operator takes up 16 in all, what it refused is shown too."""
MOST_NODES = 500
"""Most descendants that are read."""
_AT_ONCE = 8
_KIND = Delegation.RESOURCE.kind


@dataclass(frozen=True)
class Ancestors:
    """The chain of parents, nearest first, and what is above the last of them."""

    chain: tuple[Json, ...] = ()
    missing: str | None = None
    """The parent that doesn't exist."""
    session: str | None = None
    """The AgentSession above all."""
    cycle: str | None = None
    """The parent that is below already."""
    more: bool = False
    """Whether it goes on beyond the bound."""

    def cut(self) -> str | None:
        """Why a delegation below these would be ended, or held up, at once; None: it would not be (D6, D9)."""
        for parent in self.chain:
            at, name = phase_of(phase(parent)), parent["metadata"]["name"]
            if at in LIVE or (at is not Phase.COMPLETED and not _cascades(parent)):
                return None
            if at is not Phase.COMPLETED:
                return f"{name}, of which it was a part, is {at}"
        if self.cycle:
            return f"{self.cycle} is its own ancestor"
        return f"{self.missing}, of which it was a part, does not exist" if self.missing else None


@dataclass
class Node:
    """A delegation and those that are part of it."""

    obj: Json
    children: "list[Node]" = field(default_factory=list)
    cycle: bool = False
    """Whether it stands further up already, so that what is below it is shown there."""
    more: bool = False
    """Whether it may have children that were not read."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.obj["metadata"]["name"])

    def walk(self) -> "Iterator[Node]":
        """This and all below."""
        yield self
        for child in self.children:
            yield from child.walk()


async def ancestors(kube: Kube, obj: Json) -> Ancestors:
    """Those above `obj`, by single reads. Raises KubeError."""
    chain: list[Json] = []
    seen = {obj["metadata"]["name"]}
    at = obj
    while parent := at["spec"].get("parentRef"):
        name = parent["name"]
        if parent.get("kind", _KIND) != _KIND:
            return Ancestors(tuple(chain), session=name)
        if name in seen:
            return Ancestors(tuple(chain), cycle=name)
        if len(chain) >= MOST_DEPTH:
            return Ancestors(tuple(chain), more=True)
        try:
            at = await kube.get(DELEGATIONS, obj["metadata"]["namespace"], name)
        except NotFound:
            return Ancestors(tuple(chain), missing=name)
        seen.add(name)
        chain.append(at)
    return Ancestors(tuple(chain))


async def descendants(kube: Kube, obj: Json) -> Node:
    """`obj` with those below it, one generation after the other. Raises KubeError."""
    root = Node(obj)
    seen, generation = {root.name}, [root]
    for _ in range(MOST_DEPTH):
        found = await _children(kube, generation)
        generation = [child for node, objs in found for child in _grown(node, objs, seen)]
        if not generation:
            return root
    for node in generation:
        node.more = True
    return root


async def _children(kube: Kube, nodes: list[Node]) -> list[tuple[Node, list[Json]]]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def read(node: Node) -> tuple[Node, list[Json]]:
        async with slots:
            return node, await _children_of(kube, node.obj)

    return list(await asyncio.gather(*(read(node) for node in nodes)))


async def _children_of(kube: Kube, obj: Json) -> list[Json]:
    """At most one more than can be shown."""
    meta, found = obj["metadata"], list[Json]()
    async for page in pages(kube, DELEGATIONS, meta["namespace"], fieldSelector=f"spec.parentRef.name={meta['name']}"):
        found += [item for item in page["items"] if item["spec"]["parentRef"].get("kind", _KIND) == _KIND]
        if len(found) > MOST_NODES:
            break
    return sorted(found, key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"]))


def _grown(node: Node, objs: list[Json], seen: set[str]) -> list[Node]:
    """Add the children; returns those that may have children themselves."""
    fresh = []
    for obj in objs:
        child = Node(obj, cycle=obj["metadata"]["name"] in seen)
        if not child.cycle:
            if len(seen) > MOST_NODES:
                node.more = True
                break
            seen.add(child.name)
            fresh.append(child)
        node.children.append(child)
    return fresh


def _cascades(obj: Json) -> bool:
    return (obj["metadata"].get("annotations") or {}).get(ANNOTATION_CANCEL_CASCADE) != "false"
