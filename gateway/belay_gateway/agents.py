"""Agents as last seen: who owns them and which times they ask for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from belay_api.agent import Runtime
from belay_api.names import Ref
from belay_api.timing import Times
from belay_gateway.objects import ref_of
from belay_kube.client import AGENTS, Json, Kube
from belay_kube.errors import NotFound


@dataclass(frozen=True)
class AgentSeen:
    """What the gateway needs of one Agent."""

    owners: tuple[Mapping[str, Any], ...]
    runtime: str
    times: Times


class Agents:
    """The Sink of the reader of Agents, and the place to ask for one."""

    def __init__(self, kube: Kube, times: Times) -> None:
        self._kube = kube
        self._times = times
        self._seen: dict[Ref, AgentSeen] = {}
        self.on_deleted: Callable[[Ref], None] = lambda _: None
        self.on_owners_changed: Callable[[Ref], None] = lambda _: None

    async def find(self, ref: Ref) -> AgentSeen | None:
        """The agent as seen, else read now; None if there is none. Raises KubeError."""
        seen = self._seen.get(ref)
        if seen:
            return seen
        try:
            return self._digest(await self._kube.get(AGENTS, ref.namespace, ref.name))
        except NotFound:
            return None

    def times(self, ref: Ref) -> Times:
        """The times in force for it."""
        seen = self._seen.get(ref)
        return seen.times if seen else self._times

    def changed(self, obj: Json) -> None:
        """Sink: remember it."""
        ref, seen = ref_of(obj), self._digest(obj)
        old = self._seen.get(ref)
        self._seen[ref] = seen
        if old and old.owners != seen.owners:
            self.on_owners_changed(ref)

    def deleted(self, obj: Json) -> None:
        """Sink: forget it, and tell."""
        self._seen.pop(ref_of(obj), None)
        self.on_deleted(ref_of(obj))

    def synced(self) -> None:
        """Sink: nothing waits for it here."""

    def lost(self) -> None:
        """Sink: what was seen stays in use."""

    def _digest(self, obj: Json) -> AgentSeen:
        spec = obj.get("spec") or {}
        effective = (obj.get("status") or {}).get("timing") or {}
        # Only the operator knows the DelegationSweeper's threshold; it publishes it here (S5).
        threshold = {"stuckThresholdSeconds": effective.get("stuckThresholdSeconds")}
        return AgentSeen(
            owners=tuple(spec.get("owners") or ()),
            runtime=spec.get("runtime") or Runtime.CHANNEL,
            times=self._times.overridden(threshold).overridden(spec.get("timing")),
        )
