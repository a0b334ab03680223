"""What Flux and kpt make of our statuses: an agent that is merely away, or work that waits, holds up no rollout."""

from typing import Any

import pytest

from belay_api.agent import Runtime
from belay_api.conditions import ConditionType, set_condition
from belay_api.reasons import Reason
from belay_operator.decisions import agentstatus
from belay_operator.decisions.view import AgentView
from kstatus import CURRENT, IN_PROGRESS, TERMINATING, kstatus

from .builders import agent, at, live, lost

Json = dict[str, Any]
GENERATION = 3
HERE = agent({"s": live()})
AWAY = agent({"s": lost(at=10)})
NEVER_SEEN = agent({})


def _agent(view: AgentView) -> Json:
    return {"metadata": {"generation": GENERATION}, "status": agentstatus.desired({}, view, GENERATION, 1, 2, at(20))}


def _object(generation: int = GENERATION, *holding: ConditionType, **status: Any) -> Json:
    conditions: list[Json] = []
    for kind in holding:
        conditions = set_condition(conditions, kind, True, Reason.COMPLETED, "so it is", at(20), GENERATION)
    return {
        "metadata": {"generation": generation},
        "status": {"observedGeneration": GENERATION, "conditions": conditions, **status},
    }


AGENTS = {
    "agent that is attached": (_agent(HERE), CURRENT),
    "agent that is away": (_agent(AWAY), CURRENT),
    "agent that never came": (_agent(NEVER_SEEN), CURRENT),
    "agent that is suspended": (_agent(agent({"s": live()}, suspended=True)), CURRENT),
    "agent that Belay drives": (_agent(agent(runtime=Runtime.MODEL)), CURRENT),
    "agent changed just now": ({**_agent(HERE), "metadata": {"generation": GENERATION + 1}}, IN_PROGRESS),
    "agent nobody has looked at": ({"metadata": {"generation": 1}}, CURRENT),
    "agent that is deleted": (
        {"metadata": {"generation": 1, "deletionTimestamp": "2026-01-01T00:00:00Z"}},
        TERMINATING,
    ),
}
OTHERS = {
    "delegation that waits": (_object(phase="Queued"), CURRENT),
    "delegation at work": (_object(phase="InProgress"), CURRENT),
    "delegation that is completed": (
        _object(GENERATION, ConditionType.FINISHED, ConditionType.COMPLETE, phase="Completed"),
        CURRENT,
    ),
    "delegation that failed": (_object(GENERATION, ConditionType.FINISHED, phase="Failed"), CURRENT),
    "delegation that is to be cancelled": (_object(GENERATION + 1, phase="InProgress"), IN_PROGRESS),
    "session that is idle": (_object(phase="Idle"), CURRENT),
    "session at work": (_object(phase="Executing"), CURRENT),
    "session to be interrupted": (_object(GENERATION + 1, phase="Executing"), IN_PROGRESS),
}


@pytest.mark.parametrize(("obj", "state"), [*AGENTS.values(), *OTHERS.values()], ids=[*AGENTS, *OTHERS])
def test_what_kstatus_reads(obj: Json, state: str) -> None:
    """Nothing of ours is ever in progress for longer than it takes to look at a change."""
    assert kstatus(obj) == state


def test_an_agent_of_an_unknown_provider_is_not_ready() -> None:
    """That configuration is wrong, and a rollout rightly waits until somebody mends it."""
    status = agentstatus.desired({}, agent(runtime=Runtime.MODEL, provider="p"), GENERATION, 0, 0, at(20))
    assert kstatus({"metadata": {"generation": GENERATION}, "status": status}) == IN_PROGRESS
