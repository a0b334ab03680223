"""decisions/agentstatus.py: what is printed of an agent, written when that changes and not otherwise (P2, I6)."""

from typing import Any

import pytest

from belay_api.agent import Runtime
from belay_api.times import to_wire_seconds
from belay_api.timing import Times
from belay_api.usage import Usage
from belay_operator.decisions import agentstatus
from belay_operator.decisions.agentstatus import Conversations
from belay_operator.decisions.view import PROVIDERS, AgentView
from belay_operator.drain.llm import providers

from .builders import agent, at, live, lost

HERE = agent({"s": live(), "t": live(), "u": lost(at=0)})
OFFLINE = agent({"s": lost(at=10)})
MODEL = agent(runtime=Runtime.MODEL)
TALKS = Conversations(2, Usage(calls=3, input_tokens=500))


def status(view: AgentView, old: dict[str, Any] | None = None, active: int = 1, queued: int = 2) -> dict[str, Any]:
    """The status that is written; one must be."""
    new = agentstatus.desired(old or {}, view, 3, active, queued, at(20))
    assert new is not None
    return new


def condition(status: dict[str, Any], kind: str) -> tuple[str, str]:
    """Status and reason of one condition."""
    [found] = [c for c in status["conditions"] if c["type"] == kind]
    return found["status"], found["reason"]


@pytest.mark.parametrize(
    ("view", "routable", "sessions", "since"),
    [
        pytest.param(HERE, True, 2, None, id="P2 any live"),
        pytest.param(OFFLINE, False, 0, to_wire_seconds(at(10)), id="P2 none live"),
        pytest.param(agent({"s": live()}, suspended=True), False, 1, None, id="suspended"),
        pytest.param(MODEL, True, 0, None, id="runtime Model"),
    ],
)
def test_P2_routable_while_any_session_is_live(
    view: AgentView, routable: bool, sessions: int, since: str | None
) -> None:
    """Routable, number of live sessions, and since when offline."""
    new = status(view)
    assert (new["routable"], new["liveSessions"], new["offlineSince"]) == (routable, sessions, since)


def test_counts_generation_and_times_are_shown() -> None:
    """What holds a slot, what waits, for which generation, and the times in force (S5)."""
    new = status(agent({"s": live()}, times=Times(grace=5)), active=4, queued=7)
    assert (new["activeDelegations"], new["queuedDelegations"], new["observedGeneration"]) == (4, 7, 3)
    assert new["timing"]["reconnectGraceSeconds"] == 5


@pytest.mark.parametrize(
    ("view", "ready", "online"),
    [
        pytest.param(HERE, "True", "True", id="attached"),
        pytest.param(OFFLINE, "True", "False", id="away: still Ready"),
        pytest.param(MODEL, "True", "True", id="runtime Model: Belay drives it"),
        pytest.param(agent(runtime=Runtime.MODEL, suspended=True), "True", "False", id="runtime Model, suspended"),
        pytest.param(agent(runtime=Runtime.MODEL, provider="p"), "False", "False", id="an unknown provider"),
    ],
)
def test_ready_means_accepted_and_online_means_attached(view: AgentView, ready: str, online: str) -> None:
    """An offline agent is Ready with Online=False, so that Flux and Argo don't wait for it."""
    new = status(view)
    assert (condition(new, "Ready")[0], condition(new, "Online")[0]) == (ready, online)


def told(old: dict[str, Any], conversations: Conversations, view: AgentView = MODEL) -> dict[str, Any] | None:
    """The status of a Model agent with these conversations, or None."""
    return agentstatus.desired(old, view, 3, 1, 2, at(20), conversations)


def test_what_a_model_agents_sessions_have_spent_is_shown() -> None:
    """How many there are, and the sum; all of its fields, so that none of an older sum stays."""
    new = told({}, TALKS)
    assert new is not None
    assert new["liveSessions"] == 2
    assert new["usage"] == {
        "calls": 3,
        "inputTokens": 500,
        "outputTokens": 0,
        "cacheReadTokens": 0,
        "cacheWriteTokens": 0,
    }
    assert told(new, TALKS) is None


def test_nothing_spent_is_not_shown() -> None:
    """A Channel agent has no usage, and neither has a Model agent whose sessions are gone."""
    assert status(HERE)["usage"] is None
    spent = told({}, TALKS)
    assert spent is not None
    assert (told(spent, Conversations()) or {})["usage"] is None


def test_I6_conversations_are_counts_of_a_model_agent_and_presence_of_a_channel_agent() -> None:
    """What is only counted waits for the second to be over; a session that attaches doesn't."""
    old, more = told({}, TALKS), told({}, Conversations(3, Usage(calls=9)))
    assert old is not None
    assert more is not None
    assert agentstatus.only_counts(old, more, MODEL)
    assert not agentstatus.only_counts(status(OFFLINE), status(HERE), HERE)


def test_the_providers_that_are_known_are_those_there_are() -> None:
    """Decisions may not ask the drain."""
    assert {providers.ANTHROPIC, providers.ECHO} == PROVIDERS


def test_I6_the_same_again_is_not_written() -> None:
    """A status that says all of it already is left alone."""
    old = status(OFFLINE)
    assert agentstatus.desired(old, OFFLINE, 3, 1, 2, at(500)) is None


@pytest.mark.parametrize(
    ("view", "active", "queued"),
    [
        pytest.param(HERE, 1, 2, id="came online"),
        pytest.param(OFFLINE, 0, 2, id="fewer active"),
        pytest.param(OFFLINE, 1, 3, id="more queued"),
    ],
)
def test_a_printed_value_that_changed_is_written(view: AgentView, active: int, queued: int) -> None:
    """Anything a person can see is worth a write."""
    assert agentstatus.desired(status(OFFLINE), view, 3, active, queued, at(20)) is not None


def test_foreign_conditions_are_kept_and_times_move_with_the_status_only() -> None:
    """Somebody else's condition stays, and lastTransitionTime is that of the change."""
    foreign = {"type": "Theirs", "status": "True", "reason": "R", "lastTransitionTime": to_wire_seconds(at(1))}
    old = status(OFFLINE, {"conditions": [foreign]})
    new = agentstatus.desired(old, OFFLINE, 3, 9, 9, at(500))
    assert new is not None
    assert new["conditions"] == old["conditions"]
    assert foreign in new["conditions"]
