"""What is written to an AgentSubscription, and what a row says about a token. Pure."""

from datetime import datetime
from enum import Enum, auto
from typing import Any

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.meta import API_VERSION, LABEL_AGENT
from belay_api.names import Ref, subscription_name
from belay_api.reasons import SubscriptionReason
from belay_api.times import to_wire
from belay_kube.client import Json


class Lease(Enum):
    """What a row says to the one who holds `token`."""

    HELD = auto()
    TAKEN = auto()
    """Another socket has the session."""
    GONE = auto()
    """No row, or one that was given up."""


class RowConflict(Exception):
    """The row can't be taken over, ever: it belongs to somebody else."""


def lease_of(row: Json | None, token: str) -> Lease:
    """Whose the row is, from `token`'s point of view."""
    status = (row or {}).get("status") or {}
    if row is None or not status.get("token"):
        return Lease.GONE
    if status["token"] != token:
        return Lease.TAKEN
    return Lease.HELD if status.get("phase") == SubscriptionPhase.LIVE else Lease.GONE


def said_goodbye(row: Json | None, token: str) -> bool:
    """Whether the session of this epoch will not come back, as its row says (C7)."""
    status = (row or {}).get("status") or {}
    return status.get("token") == token and status.get("reason") == SubscriptionReason.GOODBYE


def new_row(agent: Ref, session_id: str) -> Json:
    """A row without a status, which a create would drop."""
    name = subscription_name(agent.name, session_id)
    return {
        "apiVersion": API_VERSION,
        "kind": "AgentSubscription",
        "metadata": {"name": name, "namespace": agent.namespace, "labels": {LABEL_AGENT: agent.name}},
        "spec": {"agentRef": {"name": agent.name}, "sessionId": session_id},
    }


def check_ours(row: Json, agent: Ref, session_id: str, user: str) -> None:
    """Raises RowConflict unless `user` may take this row over for this session (P5)."""
    spec, status = row.get("spec") or {}, row.get("status") or {}
    if (spec.get("agentRef") or {}).get("name") != agent.name or spec.get("sessionId") != session_id:
        raise RowConflict(f"the row {row['metadata']['name']} belongs to another session: choose another session_id")
    if status.get("user") not in (None, user):
        raise RowConflict(f"session {session_id} of agent {agent} is another user's: choose another session_id")


def claimed(row: Json, user: str, holder: str, token: str, now: datetime) -> Json:
    """The merge patch that makes `holder` the holder, under a new epoch. That the session has work it doesn't answer
    for stays as it is: coming back is no answer."""
    old = row.get("status") or {}
    at = to_wire(now)
    return {
        "phase": SubscriptionPhase.LIVE,
        "holderIdentity": holder,
        "token": token,
        "user": user,
        "acquireTime": at,
        "renewTime": at,
        "disconnectedTime": None,
        "transitions": old["transitions"] + 1 if "transitions" in old else int("token" in old),
        "reason": None,
    }


def _if_live(token: str) -> list[dict[str, Any]]:
    return [
        {"op": "test", "path": "/status/token", "value": token},
        {"op": "test", "path": "/status/phase", "value": SubscriptionPhase.LIVE},
    ]


def renewal(token: str, now: datetime, unresponsive: bool | None = None) -> list[dict[str, Any]]:
    """A JSON patch that renews a live row of this epoch, and nothing else (P4), but for what is new of its session:
    `unresponsive`, unless None, is whether it has work that it doesn't answer for."""
    renewed = [*_if_live(token), {"op": "replace", "path": "/status/renewTime", "value": to_wire(now)}]
    if unresponsive is not None:
        renewed.append({"op": "add", "path": "/status/unresponsive", "value": unresponsive})
    return renewed


def disconnection(token: str, why: SubscriptionReason, lost: datetime) -> list[dict[str, Any]]:
    """A JSON patch that ends a live row of this epoch, and nothing else (P5)."""
    return [
        *_if_live(token),
        {"op": "replace", "path": "/status/phase", "value": SubscriptionPhase.DISCONNECTED},
        {"op": "add", "path": "/status/disconnectedTime", "value": to_wire(lost)},
        {"op": "add", "path": "/status/reason", "value": str(why)},
    ]
