"""Where the objects are: the same few requests, answered by a simulation in memory or by the real API server.

The simulation keeps what the machine is about and nothing else: a resourceVersion that grows with each change, 409
for a write that was decided on an older one, each arrow for its writer only, an end that stays, an attempt that grows.
`test_store.py` holds it against the table that the real server is held against.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from belay_api.agentsubscription import ROW_ARROWS, AgentSubscriptionStatus, SubscriptionPhase
from belay_api.delegation import DelegationStatus
from belay_api.times import to_wire_seconds
from belay_api.transitions import TERMINAL, Writer, allowed, phase_of
from belay_kube.client import AGENTS, DELEGATIONS, JSON_PATCH, SUBSCRIPTIONS, Collection, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound

KEPT = ("phase", "reason", "message", "attempt", "result", "completionTime")
"""What of a status stays once it is terminal."""


class Store(Protocol):
    """The requests of `Kube`, each with the process that makes it; None is a person."""

    async def get(self, who: Writer | None, path: Collection, namespace: str, name: str) -> Json:
        """Read one object. Raises NotFound."""
        ...

    async def list(self, who: Writer | None, path: Collection, namespace: str, query: Mapping[str, str]) -> Json:
        """List the objects that a `fieldSelector` chooses."""
        ...

    async def create(self, who: Writer | None, path: Collection, namespace: str, body: Json) -> Json:
        """Create. Raises AlreadyExists."""
        ...

    async def delete(
        self, who: Writer | None, path: Collection, namespace: str, name: str, preconditions: Json | None
    ) -> Json:
        """Delete. Raises NotFound, Conflict."""
        ...

    async def patch(
        self,
        who: Writer | None,
        path: Collection,
        namespace: str,
        name: str,
        body: Any,
        subresource: str | None,
        content_type: str,
    ) -> Json:
        """Patch. Raises NotFound, Conflict, Forbidden, Invalid."""
        ...


class ServerStore:
    """The real API server, each process by its own account."""

    def __init__(self, kubes: Mapping[Writer | None, Kube]) -> None:
        self._kubes = kubes

    async def get(self, who: Writer | None, path: Collection, namespace: str, name: str) -> Json:
        """Read one object. Raises NotFound."""
        return await self._kubes[who].get(path, namespace, name)

    async def list(self, who: Writer | None, path: Collection, namespace: str, query: Mapping[str, str]) -> Json:
        """List the objects that a `fieldSelector` chooses."""
        return await self._kubes[who].list(path, namespace, **query)

    async def create(self, who: Writer | None, path: Collection, namespace: str, body: Json) -> Json:
        """Create. Raises AlreadyExists."""
        return await self._kubes[who].create(path, namespace, body)

    async def delete(
        self, who: Writer | None, path: Collection, namespace: str, name: str, preconditions: Json | None
    ) -> Json:
        """Delete. Raises NotFound, Conflict."""
        return await self._kubes[who].delete(path, namespace, name, preconditions)

    async def patch(
        self,
        who: Writer | None,
        path: Collection,
        namespace: str,
        name: str,
        body: Any,
        subresource: str | None,
        content_type: str,
    ) -> Json:
        """Patch. Raises NotFound, Conflict, Forbidden, Invalid."""
        kube = self._kubes[who]
        return await kube.patch(path, namespace, name, body, subresource=subresource, content_type=content_type)


class SimulatedStore:
    """Objects in memory; what is handed out is never changed, a write replaces the whole object."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._objects: dict[tuple[Collection, str], Json] = {}
        self._version = 0

    async def get(self, who: Writer | None, path: Collection, namespace: str, name: str) -> Json:
        """Read one object. Raises NotFound."""
        found = self._objects.get((path, name))
        if found is None:
            raise NotFound(f"{path.plural} {name} not found", 404)
        return _shown(found)

    async def list(self, who: Writer | None, path: Collection, namespace: str, query: Mapping[str, str]) -> Json:
        """List the objects that a `fieldSelector` chooses."""
        items = [obj for (of, _), obj in self._objects.items() if of == path and _chosen(obj, query)]
        return {"metadata": {"resourceVersion": str(self._version)}, "items": [_shown(obj) for obj in items]}

    async def create(self, who: Writer | None, path: Collection, namespace: str, body: Json) -> Json:
        """Create; a status is dropped. Raises AlreadyExists."""
        name = body["metadata"]["name"]
        if (path, name) in self._objects:
            raise AlreadyExists(f"{path.plural} {name} already exists", 409)
        uid = f"uid-{self._version + 1}"
        created = to_wire_seconds(self._clock.now())
        meta = {**body["metadata"], "namespace": namespace, "uid": uid, "generation": 1, "creationTimestamp": created}
        return self._put(path, {"metadata": meta, "spec": body["spec"]})

    async def delete(
        self, who: Writer | None, path: Collection, namespace: str, name: str, preconditions: Json | None
    ) -> Json:
        """Delete at once: nothing of ours has a finalizer. Raises NotFound, Conflict."""
        found = await self.get(who, path, namespace, name)
        if any(found["metadata"][key] != value for key, value in (preconditions or {}).items()):
            raise Conflict(f"{path.plural} {name}: precondition failed", 409)
        self._version += 1
        return self._objects.pop((path, name))

    async def patch(
        self,
        who: Writer | None,
        path: Collection,
        namespace: str,
        name: str,
        body: Any,
        subresource: str | None,
        content_type: str,
    ) -> Json:
        """Patch. Raises NotFound, Conflict, Forbidden, Invalid."""
        old = await self.get(who, path, namespace, name)
        new = _json_patched(old, body) if content_type == JSON_PATCH else _merged(old, body)
        if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise Conflict(f"{path.plural} {name} has been modified", 409)
        part = subresource or "spec"
        kept = {**old, part: new.get(part) or {}}
        if kept == {part: {}, **old}:
            return old
        if subresource:
            _check(who, path, old, kept)
        else:
            kept["metadata"] = {**old["metadata"], "generation": old["metadata"]["generation"] + 1}
        return self._put(path, kept)

    def _put(self, path: Collection, obj: Json) -> Json:
        self._version += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._version)}}
        obj = json.loads(json.dumps(obj))  # as it comes back from a server: plain text, no words of ours
        self._objects[(path, obj["metadata"]["name"])] = obj
        return _shown(obj)


def _shown(obj: Json) -> Json:
    return {**obj, "metadata": dict(obj["metadata"])}


def _chosen(obj: Json, query: Mapping[str, str]) -> bool:
    """Whether a field selector chooses it; a field that isn't set is the empty word."""
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        key, _, value = term.partition("=")
        wants = not key.endswith("!")
        if (_field(obj, key.rstrip("!")) == value) is not wants:
            return False
    return True


def _field(obj: Json, path: str) -> str:
    at: Any = obj
    for part in path.split("."):
        at = (at or {}).get(part)
    return str(at or "")


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return patch
    new = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = _merged(new.get(key), value)
    return new


def _json_patched(old: Json, operations: list[Json]) -> Json:
    """As much of RFC 6902 as is in use: test, add and replace of a field of the status. Raises Invalid."""
    status = dict(old.get("status") or {})
    for step in operations:
        field = step["path"].removeprefix("/status/")
        if step["op"] == "test" and status.get(field) != step["value"]:
            raise Invalid(f"testing value {step['path']} failed", 422)
        status[field] = step["value"]
    return {**old, "status": status}


def _check(who: Writer | None, path: Collection, old: Json, new: Json) -> None:
    """What CEL rules and admission policies refuse. Raises Forbidden, Invalid."""
    before, after = old.get("status") or {}, new["status"]
    try:
        if path == DELEGATIONS:
            _check_delegation(who, before, after)
        elif path == SUBSCRIPTIONS:
            _check_row(who, before, after)
        elif path == AGENTS and who is not Writer.OPERATOR:
            raise Forbidden("the status of an Agent is the operator's", 403)
    except ValidationError as error:
        raise Invalid(str(error), 422) from error


def _check_delegation(who: Writer | None, before: Json, after: Json) -> None:
    DelegationStatus.model_validate(after)
    source, target = phase_of(before.get("phase")), phase_of(after.get("phase"))
    if source in TERMINAL:
        changed = [field for field in KEPT if before.get(field) != after.get(field)]
        if changed:
            raise Invalid(f"status.{changed[0]} can't change once the delegation is {source}", 422)
    if who is None or (source is not target and not allowed(source, target, who)):
        raise Forbidden(f"the {who} may not take a Delegation from {source} to {target}", 403)
    if (after.get("attempt") or 0) < (before.get("attempt") or 0):
        raise Invalid("status.attempt only grows", 422)


def _check_row(who: Writer | None, before: Json, after: Json) -> None:
    AgentSubscriptionStatus.model_validate(after)
    source, target = before.get("phase"), SubscriptionPhase(after["phase"])
    if who is None or target not in ROW_ARROWS[who].get(SubscriptionPhase(source) if source else None, frozenset()):
        raise Forbidden(f"the {who} may not take an AgentSubscription from {source} to {target}", 403)
