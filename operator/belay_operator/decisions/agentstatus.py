"""What an Agent's status should say: only what is printed or decided on, so that it is written when that changes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from belay_api.agent import Runtime
from belay_api.conditions import ConditionType, set_condition
from belay_api.reasons import Reason
from belay_api.times import to_wire_seconds
from belay_operator.decisions.view import AgentView

_COUNTS = ("activeDelegations", "queuedDelegations")


def desired(
    old: Mapping[str, Any], agent: AgentView, generation: int, active: int, queued: int, now: datetime
) -> dict[str, Any] | None:
    """The new status (wire form), or None when `old` says the same already."""
    new = {
        "observedGeneration": generation,
        "routable": agent.routable and not agent.suspended,
        "liveSessions": agent.live_sessions,
        "activeDelegations": active,
        "queuedDelegations": queued,
        "offlineSince": to_wire_seconds(agent.offline_since) if agent.offline_since else None,
        "timing": agent.times.wire(),
        "conditions": _conditions(old, agent, generation, now),
    }
    return new if any(old.get(key) != value for key, value in new.items()) else None


def only_counts(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the two differ in how much work there is and in nothing else."""
    return all(old.get(key) == value for key, value in new.items() if key not in _COUNTS)


def _conditions(old: Mapping[str, Any], agent: AgentView, generation: int, now: datetime) -> list[dict[str, Any]]:
    conditions = list(old.get("conditions") or [])
    ready = agent.runtime is Runtime.CHANNEL
    reason, message = (
        (Reason.ACCEPTED, "the configuration is accepted")
        if ready
        else (Reason.MODEL_RUNTIME_UNAVAILABLE, "this release can't drive agents of runtime Model yet")
    )
    conditions = set_condition(conditions, ConditionType.READY, ready, reason, message, now, generation)
    online = "a session is attached" if agent.routable else "no session is attached"
    why = Reason.AGENT_ONLINE if agent.routable else Reason.AGENT_OFFLINE
    return set_condition(conditions, ConditionType.ONLINE, agent.routable, why, online, now, generation)
