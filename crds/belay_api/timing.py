"""Which time is in force: Delegation > Agent.timing > DelegationSweeper > environment > default (S5)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

_WIRE = {
    "heartbeatSeconds": "heartbeat",
    "staleAfterSeconds": "stale_after",
    "reconnectGraceSeconds": "grace",
    "deadlineSeconds": "deadline",
    "stuckThresholdSeconds": "stuck_threshold",
}


@dataclass(frozen=True)
class Times:
    """Times in force for one agent, all in seconds."""

    heartbeat: int = 15
    stale_after: int = 45
    grace: int = 30
    deadline: int = 6 * 3600
    stuck_threshold: int = 600

    def overridden(self, timing: Mapping[str, Any] | None) -> "Times":
        """These times, with those that `timing` (wire form of Agent.spec.timing) sets."""
        given = {_WIRE[key]: value for key, value in (timing or {}).items() if key in _WIRE and value is not None}
        times = replace(self, **given) if given else self
        # An agent may set one of the two, and the installation's other not fit it: one lost beat is never a loss.
        return replace(times, heartbeat=min(times.heartbeat, max(1, times.stale_after // 2)))

    def wire(self) -> dict[str, int]:
        """The wire form of Agent.status.timing."""
        return {key: getattr(self, attribute) for key, attribute in _WIRE.items()}
