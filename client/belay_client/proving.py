"""The proof of a cancel as people see it: requested, delivered, acknowledged, and how it ended (D9). Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from belay_api.conditions import ConditionType
from belay_api.ending import ended_by_others
from belay_api.times import from_wire
from belay_api.transitions import TERMINAL, Phase, phase_of
from belay_client.follow import printable
from belay_kube.client import Json

_WORDS = {
    ConditionType.CANCEL_REQUESTED: "requested",
    ConditionType.CANCEL_DELIVERED: "delivered",
    ConditionType.CANCEL_ACKNOWLEDGED: "acknowledged",
}


class End(IntEnum):
    """How a cancel ended, as the exit code of `belay cancel`."""

    STOPPED = 0
    """Acknowledged, or nothing held it."""
    DELETED = 4
    ENDED_OTHERWISE = 5
    """Completed, or Failed, before the cancel reached it."""
    UNPROVEN = 6
    """No acknowledgement in the time that was given."""


@dataclass(frozen=True)
class Step:
    """One condition of the proof that is True."""

    word: str
    at: datetime | None
    message: str

    def line(self) -> str:
        """E.g. `delivered: told to session s1`."""
        return printable(f"{self.word}: {self.message}" if self.message else self.word)


def steps(obj: Json) -> list[Step]:
    """The steps of the proof so far, in their order."""
    conditions: list[dict[str, Any]] = (obj.get("status") or {}).get("conditions") or []
    held = {c.get("type"): c for c in conditions if c.get("status") == "True"}
    return [
        Step(word, from_wire(found.get("lastTransitionTime")), str(found.get("message") or ""))
        for kind, word in _WORDS.items()
        if (found := held.get(kind)) is not None
    ]


def is_acknowledged(obj: Json) -> bool:
    """Whether the holder has said that it stopped."""
    return any(step.word == _WORDS[ConditionType.CANCEL_ACKNOWLEDGED] for step in steps(obj))


def is_owed(obj: Json) -> bool:
    """Whether it was ended over its holder's head, who has not yet said that it stopped."""
    return ended_by_others(obj.get("status") or {}) and not is_acknowledged(obj)


def end_of(obj: Json) -> End | None:
    """How the cancel of this delegation ended; None while there is something to wait for."""
    phase = phase_of((obj.get("status") or {}).get("phase"))
    if phase not in TERMINAL or is_owed(obj):
        return None
    return End.STOPPED if phase is Phase.CANCELLED else End.ENDED_OTHERWISE


def last_line(obj: Json) -> str:
    """What a delegation in its end means for who wanted its cancel, in a sentence."""
    name, status = obj["metadata"]["name"], obj.get("status") or {}
    if phase_of(status.get("phase")) is not Phase.CANCELLED:
        return printable(f"{name} had ended before: it is {status.get('phase')} ({status.get('reason')})")
    if is_acknowledged(obj):
        return f"{name} is cancelled, and session {status.get('sessionId')} has stopped working on it"
    if is_owed(obj):
        return f"{name} is cancelled; session {status.get('sessionId')} has not yet said that it stopped"
    return f"{name} is cancelled; nothing was working on it"
