"""When a finished delegation has been kept for long enough (D11)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from belay_api.conditions import ConditionType, condition_time
from belay_api.ending import ended_by_others
from belay_api.names import Ref
from belay_api.times import from_wire
from belay_api.transitions import TERMINAL, phase_of
from belay_operator.observe.records import ref_of

Json = dict[str, Any]

DEFAULT_SECONDS = 86_400
"""How long a finished delegation is kept."""


@dataclass(frozen=True)
class Finished:
    """A delegation that is terminal."""

    ref: Ref
    uid: str
    version: str
    agent: Ref
    ended: datetime
    owed: bool
    """Whether its holder has to say that it stopped."""
    acknowledged: datetime | None
    ttl: int | None

    @classmethod
    def read(cls, obj: Json) -> "Finished | None":
        """Read a Delegation; None while it is unfinished, or being deleted. Raises ValueError or KeyError."""
        meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
        if phase_of(status.get("phase")) not in TERMINAL or "deletionTimestamp" in meta:
            return None
        conditions = status.get("conditions") or []
        ended = from_wire(status.get("completionTime") or meta["creationTimestamp"])
        if ended is None:
            raise ValueError(f"delegation {ref_of(obj)} has no creationTimestamp")
        return cls(
            ref=ref_of(obj),
            uid=meta["uid"],
            version=meta["resourceVersion"],
            agent=Ref(meta["namespace"], spec["agentRef"]["name"]),
            ended=ended,
            owed=ended_by_others(status),
            acknowledged=condition_time(conditions, ConditionType.CANCEL_ACKNOWLEDGED),
            ttl=spec.get("ttlSecondsAfterFinished"),
        )


def due_at(finished: Finished, ttl: int, grace: int) -> datetime:
    """When it may be deleted: its own time, or `ttl` seconds, after its end or, where its holder has to say that it
    stopped, after that word, for which it waits `grace` seconds at most."""
    start = finished.ended
    if finished.owed:
        latest = finished.ended + timedelta(seconds=grace)
        start = max(start, min(finished.acknowledged or latest, latest))
    return start + timedelta(seconds=ttl if finished.ttl is None else finished.ttl)
