"""decisions/rows.py: a row is kept, marked Expired or Disconnected, or removed (P3, P6, P7, G7)."""

import pytest

from belay_api.agent import Runtime
from belay_api.agentsubscription import SubscriptionPhase
from belay_api.reasons import SubscriptionReason
from belay_operator.decisions import rows
from belay_operator.decisions.rows import Keep, Mark, Remove, RowFacts
from belay_operator.decisions.view import AgentView, SessionView

from .builders import agent, at, live, lost, row

EXPIRED = Mark(SubscriptionPhase.EXPIRED, SubscriptionReason.STALE)
SHUT_DOWN = Mark(SubscriptionPhase.DISCONNECTED, SubscriptionReason.GATEWAY_SHUTDOWN)
HERE = agent({"s": live()})


def attached(stale_in: float, *, released: bool = False) -> RowFacts:
    """A Live row."""
    return RowFacts(row(), stale_in=stale_in, released=released, holds_work=False)


def dead(phase: SubscriptionPhase | None = SubscriptionPhase.DISCONNECTED, *, holds_work: bool = False) -> RowFacts:
    """A row whose session was lost at 10."""
    return RowFacts(row(phase=phase, lost=10), stale_in=-1, released=False, holds_work=holds_work)


def view(session: SessionView, *, blind: bool = False) -> AgentView:
    """The agent with this one session."""
    return agent({"s": session}, blind=blind)


@pytest.mark.parametrize(
    ("facts", "view", "expected"),
    [
        pytest.param(attached(0.1), HERE, Keep(0.1), id="P3 alive: look again when it may be stale"),
        pytest.param(attached(0), HERE, EXPIRED, id="P3 stale"),
        pytest.param(attached(-100), view(live(), blind=True), Keep(), id="I7 blind: nothing is stale"),
        pytest.param(attached(30, released=True), HERE, SHUT_DOWN, id="P7 its gateway ended on purpose"),
        pytest.param(attached(-1, released=True), HERE, SHUT_DOWN, id="P7 shut down before stale"),
        pytest.param(attached(0), agent(exists=False), EXPIRED, id="P3 also without an agent"),
        pytest.param(attached(1), agent(runtime=Runtime.MODEL), Keep(1), id="G7 a Model agent's, while live"),
    ],
)
def test_a_live_row(facts: RowFacts, view: AgentView, expected: Mark | Keep) -> None:
    """A Live row is kept, or marked with why it isn't live any more."""
    assert rows.fate(facts, view, at(0)) == expected


@pytest.mark.parametrize(
    ("facts", "now", "expected"),
    [
        pytest.param(dead(), 39, Keep(1), id="within the grace: until its end"),
        pytest.param(dead(), 40, Remove, id="P6 after the grace"),
        pytest.param(dead(SubscriptionPhase.EXPIRED), 40, Remove, id="P6 expired, after the grace"),
        pytest.param(dead(holds_work=True), 40, Keep(), id="its work is not dealt with yet"),
    ],
)
def test_P6_a_dead_row_goes_once_its_session_is_gone(facts: RowFacts, now: float, expected: object) -> None:
    """Lost at 10, gone at 40."""
    found = rows.fate(facts, view(lost(at=10)), at(now))
    assert isinstance(found, Remove) if expected is Remove else found == expected


def test_C7_the_row_of_a_session_that_left_goes_at_once() -> None:
    """A goodbye has no grace."""
    assert isinstance(rows.fate(dead(), view(lost(at=10, left=True)), at(10)), Remove)


@pytest.mark.parametrize(
    "view", [agent(exists=False), agent(runtime=Runtime.MODEL)], ids=["agent deleted", "runtime Model"]
)
def test_G7_dead_rows_of_agents_without_presence_are_removed(view: AgentView) -> None:
    """Nothing waits for such a session."""
    assert isinstance(rows.fate(dead(holds_work=True), view, at(11)), Remove)


def test_I7_in_blind_time_no_row_is_removed() -> None:
    """Not even one that is long dead."""
    assert rows.fate(dead(), view(lost(at=10), blind=True), at(1000)) == Keep()


@pytest.mark.parametrize(
    ("stale_in", "view", "expected"),
    [
        pytest.param(45, HERE, Keep(45), id="just made"),
        pytest.param(45, agent(exists=False), Keep(45), id="just made, its agent not yet seen"),
        pytest.param(0, HERE, Remove, id="its gateway died"),
    ],
)
def test_a_row_that_never_came_to_life_is_aged_as_a_lease_never_renewed(
    stale_in: float, view: AgentView, expected: object
) -> None:
    """A gateway creates a row and then makes it Live: it isn't taken away in between, whatever clocks say."""
    found = rows.fate(RowFacts(row(phase=None), stale_in, released=False, holds_work=False), view, at(10_000))
    assert isinstance(found, Remove) if expected is Remove else found == expected
