"""What an Agent's status should say: only what is printed or decided on, so that it is written when that changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from belay_api.conditions import ConditionType, set_condition
from belay_api.reasons import Reason, agent_suspended
from belay_api.session_words import provider_unknown
from belay_api.times import to_wire_seconds
from belay_api.usage import Usage
from belay_operator.decisions.view import PROVIDERS, AgentView

_COUNTS = ("activeDelegations", "queuedDelegations", "usage")
_Word = tuple[bool, Reason, str]


@dataclass(frozen=True)
class Conversations:
    """The AgentSessions of a Model agent: how many there are, and what they have spent together."""

    number: int = 0
    usage: Usage | None = None
    """None: nothing."""


_NONE = Conversations()


def desired(
    old: Mapping[str, Any],
    agent: AgentView,
    generation: int,
    active: int,
    queued: int,
    now: datetime,
    conversations: Conversations = _NONE,
) -> dict[str, Any] | None:
    """The new status (wire form), or None when `old` says the same already."""
    spent = conversations.usage.wire() if conversations.usage else {}
    new = {
        "observedGeneration": generation,
        "routable": agent.routable and not agent.suspended,
        "liveSessions": conversations.number if agent.is_model else agent.live_sessions,
        "activeDelegations": active,
        "queuedDelegations": queued,
        "offlineSince": to_wire_seconds(agent.offline_since) if agent.offline_since else None,
        "timing": agent.times.wire(),
        "usage": spent if any(spent.values()) else None,
        "conditions": _conditions(old, agent, generation, now),
    }
    return new if any(old.get(key) != value for key, value in new.items()) else None


def only_counts(old: Mapping[str, Any], new: Mapping[str, Any], agent: AgentView) -> bool:
    """Whether the two differ in how much work there is, and what it cost, and in nothing else."""
    counts = (*_COUNTS, "liveSessions") if agent.is_model else _COUNTS
    return all(old.get(key) == value for key, value in new.items() if key not in counts)


def online(status: Mapping[str, Any]) -> tuple[bool, str, str]:
    """Whether a status says Online, for what reason, in what words."""
    found: Mapping[str, Any] = next(
        (c for c in status.get("conditions") or () if c.get("type") == ConditionType.ONLINE), {}
    )
    return found.get("status") == "True", found.get("reason") or "", found.get("message") or ""


def _conditions(old: Mapping[str, Any], agent: AgentView, generation: int, now: datetime) -> list[dict[str, Any]]:
    conditions = list(old.get("conditions") or [])
    for kind, (holds, reason, message) in (
        (ConditionType.READY, _ready(agent)),
        (ConditionType.ONLINE, _online(agent)),
    ):
        conditions = set_condition(conditions, kind, holds, reason, message, now, generation)
    return conditions


def _ready(agent: AgentView) -> _Word:
    """Whether the configuration is accepted."""
    if agent.is_model and not agent.routable:
        return False, Reason.PROVIDER_UNKNOWN, provider_unknown(agent.provider or "", PROVIDERS)
    return True, Reason.ACCEPTED, "the configuration is accepted"


def _online(agent: AgentView) -> _Word:
    """Whether a session is attached; of a Model agent, whether Belay drives it."""
    if not agent.is_model:
        here = agent.routable
        reason = Reason.AGENT_ONLINE if here else Reason.AGENT_OFFLINE
        return here, reason, "a session is attached" if here else "no session is attached"
    if not agent.routable:
        return _ready(agent)
    if agent.suspended:
        return False, Reason.AGENT_SUSPENDED, agent_suspended(agent.ref.name)
    return True, Reason.AGENT_ONLINE, "Belay drives it itself: no session has to attach"
