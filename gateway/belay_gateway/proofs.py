"""The proof of a cancel on a delegation that was ended: told to its holder, stopped by its holder (D9). Pure."""

from datetime import datetime

from belay_api.conditions import ConditionType, condition_is_true, set_condition
from belay_gateway.verdicts import Change, NoChange, Verdict
from belay_kube.client import Json


def acknowledged(delegation: Json, now: datetime, message: str) -> Verdict:
    """The proof that work which was ended has stopped."""
    return _marked(delegation, ConditionType.CANCEL_ACKNOWLEDGED, "Acknowledged", message, now)


def delivered(delegation: Json, now: datetime, session_id: str) -> Verdict:
    """The proof that the holder was told of the end."""
    message = f"told to session {session_id}"
    return _marked(delegation, ConditionType.CANCEL_DELIVERED, "Delivered", message, now)


def _marked(delegation: Json, kind: ConditionType, reason: str, message: str, now: datetime) -> Verdict:
    conditions = (delegation.get("status") or {}).get("conditions") or []
    if condition_is_true(conditions, kind):
        return NoChange()
    return Change({"conditions": set_condition(conditions, kind, True, reason, message, now)})
