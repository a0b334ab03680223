"""What becomes of an agent's question whether it may use a tool. Pure: requests as read go in, an object, a status, a
frame or a refusal comes out (DESIGN.md section 5, PermissionRequest; C4, C5).

Ids are short and repeat: which question an id means now is told by when it was asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from belay_api.actions import RequestPermission
from belay_api.messages import ErrorCode, PermissionDecision
from belay_api.meta import API_VERSION
from belay_api.names import permission_name
from belay_api.permission_words import PermissionReason
from belay_api.permissionrequest import MAX_OPEN_PERMISSIONS, SETTLED, PermissionPhase, PermissionRequest
from belay_api.times import from_wire, to_wire
from belay_gateway.held import is_held
from belay_gateway.verdicts import Asker, Refusal
from belay_kube.client import Json

UNSETTLED: Final = ",".join(f"status.phase!={phase}" for phase in sorted(SETTLED))
"""Selects requests that nobody has settled; one without a status matches too."""
_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class New:
    """Ask people, at a time after every other question of that id."""

    at: datetime


@dataclass(frozen=True)
class Known:
    """It was asked before; `again` when another question had the id since, and this one is to count from now on."""

    request: Json
    again: datetime | None = None


def name_of(asker: Asker, action: RequestPermission) -> str:
    """The object's name: the same question has the same, so that asking twice makes one."""
    return permission_name(asker.agent, asker.session_id, action.request_id, action.tool, action.input_preview)


def body(asker: Asker, agent: Json, action: RequestPermission, at: datetime) -> Json:
    """The object to create; it goes when `agent` is deleted."""
    owner = {"apiVersion": API_VERSION, "kind": "Agent", "name": asker.agent, "uid": agent["metadata"]["uid"]}
    asked = {
        "agentRef": {"name": asker.agent},
        "sessionId": asker.session_id,
        "requestId": action.request_id,
        "delegationRef": {"name": action.delegation} if action.delegation else None,
        "tool": action.tool,
        "description": action.description or None,
        "inputPreview": action.input_preview or None,
        "expiresAfterSeconds": action.expires_after_seconds,
        "requestedTime": to_wire(at),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": PermissionRequest.RESOURCE.kind,
        "metadata": {"name": name_of(asker, action), "ownerReferences": [owner]},
        "spec": {key: value for key, value in asked.items() if value is not None},
    }


def judge(name: str, same_id: Sequence[Json], unsettled: Iterable[Json], now: datetime) -> New | Known | Refusal:
    """What asking the question `name` comes to, given the session's requests of that id and all its unsettled ones."""
    latest = newest(same_id)
    after = max(now, asked_at(latest) + _TICK) if latest else now
    known = next((request for request in same_id if request["metadata"]["name"] == name), None)
    if known is None:
        return _too_many(same_id, unsettled) or New(after)
    if is_expired(known):
        why = (known["status"].get("message") or known["status"].get("reason") or "")[:300]
        return Refusal(ErrorCode.EXPIRED, f"{name} has expired ({why}): ask again with another request_id")
    return Known(known, None if known is latest else after)


def _too_many(same_id: Iterable[Json], unsettled: Iterable[Json]) -> Refusal | None:
    replaced = {request["metadata"]["uid"] for request in same_id}
    waiting = [r for r in unsettled if is_open(r) and r["metadata"]["uid"] not in replaced]
    if len(waiting) < MAX_OPEN_PERMISSIONS:
        return None
    sentence = f"{len(waiting)} requests of this session wait for a decision: wait for some, or say resolved"
    return Refusal(ErrorCode.INVALID, sentence)


def not_held(asker: Asker, name: str, delegation: Json | None) -> Refusal | None:
    """A session asks on behalf of work that it holds, and of no other."""
    if delegation is None:
        return Refusal(ErrorCode.NOT_FOUND, f"there is no delegation {name}: leave it out, or name one you hold")
    if not is_held(delegation, asker):
        return Refusal(ErrorCode.NOT_HOLDER, f"this session doesn't hold delegation {name}: leave it out")
    return None


def is_open(request: Json) -> bool:
    """Whether people may still decide; a decision counts from the moment it is made, whatever the status says."""
    phase = (request.get("status") or {}).get("phase")
    return not request["spec"].get("decision") and phase in (None, PermissionPhase.PENDING)


def is_expired(request: Json) -> bool:
    """Whether it ended without a decision."""
    return (request.get("status") or {}).get("phase") == PermissionPhase.EXPIRED


def asked_at(request: Json) -> datetime:
    """When the session last asked it, as far as that orders it among others of the same id. Raises ValueError."""
    status, spec = request.get("status") or {}, request["spec"]
    text = status.get("askedAgainTime") or spec.get("requestedTime") or request["metadata"]["creationTimestamp"]
    at = from_wire(text)
    if at is None:
        raise ValueError(f"permission request {request['metadata']['name']} has no time")
    return at


def newest(requests: Iterable[Json]) -> Json | None:
    """What an id means now: the one asked last."""
    return max(requests, key=asked_at, default=None)


def decision_frame(request: Json) -> PermissionDecision | None:
    """How its decision is told; None while there is none."""
    spec = request["spec"]
    decision = spec.get("decision")
    if not decision:
        return None
    return PermissionDecision(
        request_id=spec["requestId"],
        name=request["metadata"]["name"],
        behavior=decision["behavior"],
        reason=decision.get("reason"),
        decided_by=decision.get("decidedBy") or "",
    )


def ended(request: Json, reason: PermissionReason, message: str, now: datetime) -> Json:
    """The status of a request that its session no longer asks."""
    return {
        "phase": str(PermissionPhase.EXPIRED),
        "reason": str(reason),
        "message": message,
        "completionTime": to_wire(now),
        "observedGeneration": request["metadata"].get("generation", 0),
    }
