"""What the drain reads and writes of sessions, mail and turns; each status carries the version it was decided on.

Names are deterministic and creates are idempotent: `AlreadyExists` is an answer, not an error (DESIGN.md section 5).
"""

from collections.abc import Mapping
from typing import Any

import structlog

from belay_api.meta import API_VERSION
from belay_api.names import Ref, turn_name
from belay_api.pendingmessage import MessagePhase, MessageType
from belay_api.times import to_wire
from belay_kube.client import (
    AGENTS,
    CONFIG_MAPS,
    DELEGATIONS,
    MESSAGES,
    PERMISSION_REQUESTS,
    SECRETS,
    SESSIONS,
    TURNS,
    Collection,
    Json,
    Kube,
)
from belay_kube.clock import Clock
from belay_kube.errors import AlreadyExists, Conflict, NotFound
from belay_kube.finding import find
from belay_operator.observe.mailbox_records import SessionRecord

log = structlog.get_logger(__name__)


class Store:
    """The API server, as the drain sees it. Every method raises KubeError for what it doesn't name."""

    def __init__(self, kube: Kube, clock: Clock) -> None:
        self._kube = kube
        self._clock = clock

    # --- sessions ---

    async def session(self, ref: Ref) -> Json | None:
        """A session as it is now, or None."""
        return await self._get(SESSIONS, ref)

    async def write_session(self, ref: Ref, version: str, status: Json) -> Json | None:
        """Merge `status` into a session's; None when it is gone. Raises Conflict: read again and decide again."""
        meta = {"metadata": {"namespace": ref.namespace, "name": ref.name, "resourceVersion": version}}
        try:
            return await self._kube.patch_status(SESSIONS, meta, status)
        except NotFound:
            return None

    async def open_session(
        self, ref: Ref, agent: str, parent: str | None = None, owner: Mapping[str, Any] | None = None
    ) -> bool:
        """Make a session of an agent, with the delegation it is opened for and the owner it goes with; False when one
        of that name is there."""
        spec: Json = {"agentRef": {"name": agent}}
        if parent:
            spec["parentRef"] = {"kind": "Delegation", "name": parent}
        return bool(await self._make(SESSIONS, "AgentSession", ref, spec, owner))

    # --- mail ---

    async def message(self, ref: Ref) -> Json | None:
        """A message with what it says, or None."""
        return await self._get(MESSAGES, ref)

    async def send(
        self,
        session: SessionRecord,
        name: str,
        content: str,
        source: tuple[str, str],
        *,
        kind: MessageType = MessageType.USER,
        tool_use_id: str | None = None,
        success: bool | None = None,
        bounce_back: bool = False,
    ) -> Json | None:
        """Put a message from `source` (kind, name) into a session's mailbox; None when one of that name is there."""
        said: Json = {
            "sessionRef": {"name": session.ref.name},
            "type": str(kind),
            "source": {"kind": source[0], "name": source[1]},
            "content": content,
            "toolUseId": tool_use_id,
            "success": success,
            "bounceBack": bounce_back,
        }
        spec = {field: value for field, value in said.items() if value is not None}
        ref = Ref(session.ref.namespace, name)
        return await self._make(MESSAGES, "PendingMessage", ref, spec, owner_of(session))

    async def delete_message(self, ref: Ref, uid: str) -> None:
        """Delete a message that was read; one that is gone is fine, and another of that name stays."""
        try:
            await self._kube.delete(MESSAGES, ref.namespace, ref.name, {"uid": uid})
        except (NotFound, Conflict):
            log.debug("message was gone before it could be deleted", message=str(ref))

    async def return_message(self, ref: Ref, uid: str, phase: MessagePhase, reason: str, why: str) -> Json | None:
        """Say that a message was Bounced or Parked; once said it stays so, and one that is gone is fine. The message,
        if that was said just now."""
        found = await self._get(MESSAGES, ref)
        if found is None or found["metadata"]["uid"] != uid or (found.get("status") or {}).get("phase") == phase:
            return None
        status = {
            "phase": str(phase),
            "reason": reason,
            "message": why[:1024],
            "completionTime": to_wire(self._clock.now()),
        }
        try:
            return await self._kube.patch_status(MESSAGES, found, status)
        except NotFound:
            log.debug("message was gone before it could be returned", message=str(ref))
            return None

    # --- turns ---

    async def turn(self, session: Ref, sequence: int) -> Json | None:
        """One turn, or None."""
        return await self._get(TURNS, Ref(session.namespace, turn_name(session.name, sequence)))

    async def add_turn(self, session: SessionRecord, spec: Json) -> Json | None:
        """The transaction of a half-step: the turn as it was made; None when another was first."""
        ref = Ref(session.ref.namespace, turn_name(session.ref.name, int(spec["sequence"])))
        try:
            return await self._kube.create(TURNS, ref.namespace, _body("SessionTurn", ref, spec, owner_of(session)))
        except AlreadyExists:
            return None

    # --- what a session needs around it ---

    async def agent(self, ref: Ref) -> Json | None:
        """An Agent as it is now, or None."""
        return await self._get(AGENTS, ref)

    async def secret(self, ref: Ref) -> Json | None:
        """A Secret, or None. Raises Forbidden where nobody granted its reading."""
        return await self._get(SECRETS, ref)

    async def config_map(self, ref: Ref) -> Json | None:
        """A ConfigMap, or None. Raises Forbidden where nobody granted its reading."""
        return await self._get(CONFIG_MAPS, ref)

    async def delegation(self, ref: Ref) -> Json | None:
        """A Delegation as it is now, finished or not, or None."""
        return await self._get(DELEGATIONS, ref)

    async def delegate(
        self,
        ref: Ref,
        spec: Json,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> bool:
        """Make a Delegation; False when one of that name is there. Raises Permanent when it is refused."""
        marks = {"labels": dict(labels or {}), "annotations": dict(annotations or {})}
        return bool(await self._make(DELEGATIONS, "Delegation", ref, spec, marks=marks))

    async def permission(self, ref: Ref) -> Json | None:
        """A PermissionRequest as it is now, with what was decided, or None."""
        return await self._get(PERMISSION_REQUESTS, ref)

    async def ask_permission(self, ref: Ref, spec: Json, session: SessionRecord) -> bool:
        """Make a PermissionRequest; False when one of that name is there."""
        return bool(await self._make(PERMISSION_REQUESTS, "PermissionRequest", ref, spec, owner_of(session)))

    # --- how ---

    async def _get(self, collection: Collection, ref: Ref) -> Json | None:
        return await find(self._kube, collection, ref.namespace, ref.name)

    async def _make(
        self,
        collection: Collection,
        kind: str,
        ref: Ref,
        spec: Json,
        owner: Mapping[str, Any] | None = None,
        marks: Json | None = None,
    ) -> Json | None:
        body = _body(kind, ref, spec, owner)
        body["metadata"].update(marks or {})
        try:
            return await self._kube.create(collection, ref.namespace, body)
        except AlreadyExists:
            return None


def owner_of(session: SessionRecord) -> Json:
    """The owner reference with which mail and turns go when their session is deleted."""
    return owner_reference("AgentSession", session.ref.name, session.uid)


def owner_reference(kind: str, name: str, uid: str) -> Json:
    """An owner reference to an object of ours."""
    return {"apiVersion": API_VERSION, "kind": kind, "name": name, "uid": uid}


def _body(kind: str, ref: Ref, spec: Json, owner: Mapping[str, Any] | None) -> Json:
    meta: Json = {"name": ref.name, "namespace": ref.namespace}
    if owner:
        meta["ownerReferences"] = [dict(owner)]
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}
