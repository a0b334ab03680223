"""Conditions: their types, and the one function that sets them."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from belay_api.resource import Part, map_list
from belay_api.times import from_wire, to_wire_seconds


class ConditionType(StrEnum):
    """Every condition type Belay writes."""

    READY = "Ready"
    ONLINE = "Online"
    BRAKED = "Braked"
    DEGRADED = "Degraded"
    FINISHED = "Finished"
    COMPLETE = "Complete"
    CANCEL_REQUESTED = "CancelRequested"
    CANCEL_DELIVERED = "CancelDelivered"
    CANCEL_ACKNOWLEDGED = "CancelAcknowledged"
    RETRIED = "Retried"
    BLOCKED = "Blocked"
    AUTHENTICATION_REQUIRED = "AuthenticationRequired"


class Condition(Part):
    """One aspect of an object's state, as metav1.Condition has it."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(description="Name of the aspect.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9]*$")] = Field(
        description="CamelCase word that says why."
    )
    message: Annotated[str, StringConstraints(max_length=1024)] = Field(
        default="", description="Sentence for a person that says why."
    )
    last_transition_time: datetime = Field(description="When the status last changed.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec this condition was set for."
    )


def conditions_field(description: str) -> Any:
    """The field `conditions` of a status: a list that merges by type, and is bounded as every list is."""
    return Field(default=None, max_length=16, description=description, json_schema_extra=map_list("type"))


def set_condition(
    conditions: Sequence[dict[str, Any]],
    kind: ConditionType,
    holds: bool,
    reason: str,
    message: str,
    now: datetime,
    observed_generation: int | None = None,
) -> list[dict[str, Any]]:
    """Return `conditions` (wire form) with `kind` set; foreign ones are kept, and the transition time moves only
    when the status does."""
    status = "True" if holds else "False"
    old = next((c for c in conditions if c.get("type") == kind), None)
    moved = old is None or old.get("status") != status
    new: dict[str, Any] = {
        "type": str(kind),
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": to_wire_seconds(now) if moved or old is None else old["lastTransitionTime"],
    }
    if observed_generation is not None:
        new["observedGeneration"] = observed_generation
    if old is None:
        return [*conditions, new]
    return [new if c is old else c for c in conditions]


def condition_is_true(conditions: Sequence[dict[str, Any]], kind: ConditionType) -> bool:
    """Whether `kind` is present with status True."""
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def condition_time(conditions: Sequence[dict[str, Any]], kind: ConditionType) -> datetime | None:
    """Since when `kind` is True; None while it isn't."""
    held = next((c for c in conditions if c.get("type") == kind and c.get("status") == "True"), {})
    return from_wire(held.get("lastTransitionTime"))
