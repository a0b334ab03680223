"""decisions/fate.py: work whose session or agent is gone; the pure halves of G1 to G11 and C7."""

import pytest

from belay_api.agent import OnAgentLost, Runtime
from belay_api.reasons import Reason
from belay_api.times import to_wire
from belay_api.transitions import Phase
from belay_operator.decisions import fate
from belay_operator.decisions.retry import FRESH_ATTEMPT
from belay_operator.decisions.view import AgentView

from .builders import DelegationBuilder, agent, at, delegation, live, lost

CANCELLED = (Phase.CANCELLED, Reason.AGENT_OFFLINE)


def found(given: DelegationBuilder, now: float, view: AgentView) -> tuple[Phase, Reason] | None:
    """Phase and reason of what is decided, or None."""
    change = fate.decide(given.work, view, at(now))
    return (change.target, change.reason) if change else None


OFFERED = delegation("offered").dispatched(at=0)
HELD = delegation("held").in_progress(by="s")
STUCK = delegation("stuck").in_progress(by="s").beat(at=0).stuck()
ADDRESSED = delegation("addressed").to("a", session="s").dispatched(at=0)
BY_SIBLING = delegation("by sibling").in_progress(by="t")


@pytest.mark.parametrize("given", [OFFERED, HELD, STUCK, ADDRESSED], ids=lambda g: g.name)
def test_G1_a_grace_after_the_last_socket_everything_held_is_cancelled(given: DelegationBuilder) -> None:
    """Lost at 10: untouched before 40, cancelled from 40 on, for every phase that was handed over."""
    view = agent({"s": lost(at=10)})
    assert found(given, 39.9, view) is None
    assert found(given, 40, view) == CANCELLED


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(OFFERED, "agent a was lost and did not return within 30s", id="agent"),
        pytest.param(ADDRESSED, "session s of agent a was lost and did not return within 30s", id="session"),
    ],
)
def test_G1_the_message_says_who_was_lost(given: DelegationBuilder, message: str) -> None:
    """The agent is named when all of it went, the session when a sibling is there."""
    sessions = {"s": lost(at=10)} if given is OFFERED else {"s": lost(at=10), "t": live()}
    change = fate.decide(given.work, agent(sessions), at(40))
    assert change is not None
    assert change.message == message


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(OFFERED, None, id="agent-wide"),
        pytest.param(HELD, CANCELLED, id="held by the lost session"),
        pytest.param(ADDRESSED, CANCELLED, id="addressed to the lost session"),
        pytest.param(BY_SIBLING, None, id="held by the sibling"),
    ],
)
def test_G3_with_a_live_sibling_only_the_lost_sessions_work_goes(
    given: DelegationBuilder, expected: tuple[Phase, Reason] | None
) -> None:
    """A live sibling keeps agent-wide work and its own."""
    assert found(given, 40, agent({"s": lost(at=10), "t": live()})) == expected


@pytest.mark.parametrize("given", [OFFERED, HELD, STUCK, ADDRESSED], ids=lambda g: g.name)
def test_G2_G4_a_session_that_is_back_keeps_its_work(given: DelegationBuilder) -> None:
    """Live again, nothing is due any more."""
    assert found(given, 500, agent({"s": live()})) is None


def test_G6_agent_wide_work_waits_for_the_newest_drop() -> None:
    """A newer session dropped at 25: agent-wide work waits until 55, the first session's own goes at 40."""
    view = agent({"s": lost(at=10), "t": lost(at=25)})
    assert found(OFFERED, 54, view) is None
    assert found(OFFERED, 55, view) == CANCELLED
    assert found(HELD, 40, view) == CANCELLED


def test_G11_each_drop_has_its_own_grace() -> None:
    """A drops at 0, B at 29: work held by B is untouched until 59."""
    view = agent({"s": lost(at=0), "t": lost(at=29)})
    assert found(BY_SIBLING, 58.9, view) is None
    assert found(BY_SIBLING, 59, view) == CANCELLED


@pytest.mark.parametrize(
    "given",
    [delegation("new"), delegation("queued").queued(at=0), delegation("for s").to("a", "s").queued(at=0)],
    ids=lambda g: g.name,
)
def test_G8_work_never_sent_is_not_cancelled(given: DelegationBuilder) -> None:
    """Pending and Queued work waits, however long the agent is offline."""
    assert found(given, 3600, agent({"s": lost(at=0)})) is None


@pytest.mark.parametrize("given", [OFFERED, HELD], ids=lambda g: g.name)
def test_G7_presence_means_nothing_for_model_agents(given: DelegationBuilder) -> None:
    """A Model agent has no sockets to lose."""
    assert found(given, 500, agent({"s": lost(at=0)}, runtime=Runtime.MODEL)) is None


@pytest.mark.parametrize(
    ("given", "view", "expected"),
    [
        pytest.param(HELD, agent(exists=False), (Phase.FAILED, Reason.AGENT_DELETED), id="held"),
        pytest.param(HELD, agent(exists=False, blind=True), None, id="blind"),
        pytest.param(delegation().queued(at=0), agent(exists=False), None, id="waiting"),
    ],
)
def test_work_of_a_deleted_agent_fails(
    given: DelegationBuilder, view: AgentView, expected: tuple[Phase, Reason] | None
) -> None:
    """Held work of an agent that was deleted is Failed (AgentDeleted); waiting work waits for it to come again."""
    assert found(given, 1, view) == expected


@pytest.mark.parametrize(
    ("policy", "attempt", "expected"),
    [
        pytest.param(OnAgentLost.CANCEL, 1, CANCELLED, id="Cancel"),
        pytest.param(OnAgentLost.REQUEUE, 1, (Phase.QUEUED, Reason.AGENT_LOST), id="Requeue, attempts remain"),
        pytest.param(OnAgentLost.REQUEUE, 2, (Phase.FAILED, Reason.AGENT_LOST), id="Requeue, none remains"),
        pytest.param(OnAgentLost.WAIT, 1, None, id="Wait"),
        pytest.param(OnAgentLost.FAIL, 1, (Phase.FAILED, Reason.AGENT_LOST), id="Fail"),
    ],
)
@pytest.mark.parametrize("said_by", ["delegation", "agent"])
def test_G10_an_orphan_is_treated_as_its_policy_says(
    policy: OnAgentLost, attempt: int, expected: tuple[Phase, Reason] | None, said_by: str
) -> None:
    """onAgentLost of the delegation, else of the agent, decides; two attempts are allowed."""
    given = delegation().attempts(2).in_progress(by="s", attempt=attempt)
    if said_by == "delegation":
        assert found(given.on_lost(policy), 30, agent({"s": lost(at=0)})) == expected
    else:
        assert found(given, 30, agent({"s": lost(at=0)}, on_lost=policy)) == expected


def test_G10_a_requeued_attempt_starts_clean() -> None:
    """A new attempt has the next number and no holder, times or progress."""
    given = delegation().on_lost(OnAgentLost.REQUEUE).attempts(2).in_progress(by="s").beat(at=1)
    change = fate.decide(given.work, agent({"s": lost(at=0)}), at(30))
    assert change is not None
    assert {**FRESH_ATTEMPT, "attempt": 2, "queuedTime": to_wire(at(30))}.items() <= change.fields.items()


def test_G10_waiting_work_is_next_looked_at_when_something_can_happen() -> None:
    """An orphan that waits is left to its deadline and not looked at over and over before."""
    given = delegation().on_lost(OnAgentLost.WAIT).in_progress(by="s").due_in(3600)
    assert fate.next_due(given.work, agent({"s": lost(at=0)})) == at(3600)


@pytest.mark.parametrize("given", [OFFERED, HELD, ADDRESSED], ids=lambda g: g.name)
def test_I7_in_blind_time_nothing_is_an_orphan(given: DelegationBuilder) -> None:
    """Nothing is cancelled while we can't see."""
    assert found(given, 500, agent({"s": lost(at=0)}, blind=True)) is None


@pytest.mark.parametrize("given", [OFFERED, HELD, ADDRESSED], ids=lambda g: g.name)
def test_I7_after_blind_time_each_grace_starts_anew(given: DelegationBuilder) -> None:
    """Lost at 10 and blind until 100: due at 130, not at 40 and not at 100."""
    view = agent({"s": lost(at=10)}, sighted=100)
    assert found(given, 129.9, view) is None
    assert found(given, 130, view) == CANCELLED


@pytest.mark.parametrize(
    ("given", "now", "expected"),
    [
        pytest.param(HELD, 10, CANCELLED, id="held: at once"),
        pytest.param(ADDRESSED, 10, CANCELLED, id="addressed: at once"),
        pytest.param(OFFERED, 39.9, None, id="agent-wide: not before the grace"),
        pytest.param(OFFERED, 40, CANCELLED, id="agent-wide: at the end of the grace"),
    ],
)
def test_C7_a_goodbye_needs_no_grace_for_the_sessions_own_work(
    given: DelegationBuilder, now: float, expected: tuple[Phase, Reason] | None
) -> None:
    """A session that left is gone at once; work of the whole agent waits for the agent's grace."""
    assert found(given, now, agent({"s": lost(at=10, left=True)})) == expected


@pytest.mark.parametrize("view", [agent(exists=False), agent({"s": lost(at=0)})], ids=["deleted agent", "lost agent"])
def test_what_cannot_be_undone_asks_for_a_live_read(view: AgentView) -> None:
    """A change that rests on rows or on the Agent is decided again on a live read (DESIGN.md section 3)."""
    change = fate.decide(HELD.work, view, at(40))
    assert change is not None
    assert change.live_read
