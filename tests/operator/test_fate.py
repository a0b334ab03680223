"""decisions/fate.py: the order of the chain, deadlines, cancels and silence; orphans have a file of their own."""

import pytest

from belay_api.reasons import Reason
from belay_api.transitions import LIVE, Phase
from belay_operator.decisions import fate
from belay_operator.decisions.view import AgentView, Change

from .builders import DelegationBuilder, agent, at, delegation, live, lost

HERE = agent({"s": live()})
GONE = agent({"s": lost(at=0)})
DAY = 24 * 3600


def found(given: DelegationBuilder, now: float, view: AgentView = HERE) -> tuple[Phase, Reason] | None:
    """Phase and reason of what is decided, or None."""
    change = fate.decide(given.work, view, at(now))
    return (change.target, change.reason) if change else None


def decided(given: DelegationBuilder, now: float, view: AgentView = HERE) -> Change:
    """What is decided; something must be."""
    change = fate.decide(given.work, view, at(now))
    assert change is not None
    return change


def silent_since(beat: float) -> DelegationBuilder:
    """Work in progress that beat once."""
    return delegation().in_progress(by="s").beat(at=beat)


@pytest.mark.parametrize(
    ("given", "view", "expected"),
    [
        pytest.param(silent_since(0).due_in(700), HERE, Reason.DEADLINE_EXCEEDED, id="deadline before silence"),
        pytest.param(silent_since(0).due_in(700), GONE, Reason.DEADLINE_EXCEEDED, id="deadline before lost agent"),
        pytest.param(
            silent_since(0).due_in(700).cancel_asked(), HERE, Reason.DEADLINE_EXCEEDED, id="deadline before cancel"
        ),
        pytest.param(silent_since(0).cancel_asked(), GONE, Reason.CANCELLED, id="cancel before lost agent"),
        pytest.param(silent_since(0), agent(exists=False), Reason.AGENT_DELETED, id="deleted before silence"),
        pytest.param(silent_since(0), GONE, Reason.AGENT_OFFLINE, id="lost agent before silence"),
        pytest.param(silent_since(0), HERE, Reason.NO_HEARTBEAT, id="silence alone"),
    ],
)
def test_S2_the_first_finding_of_the_chain_wins(given: DelegationBuilder, view: AgentView, expected: Reason) -> None:
    """When several things are true of a delegation at 700 s, the deadline comes first, then the rest in order."""
    assert decided(given, 700, view).reason is expected


def test_S2_deadline_says_who_failed_it() -> None:
    """Overdue work is Failed with the sweeper's sentence."""
    change = decided(silent_since(0).due_in(700), 700)
    assert (change.target, change.message) == (Phase.FAILED, "deadline exceeded by sweeper")


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_S1_the_deadline_is_for_every_unfinished_phase(phase: Phase) -> None:
    """Pending, Queued, Dispatched, InProgress and Stuck work all end at the deadline."""
    given = {
        Phase.PENDING: delegation(),
        Phase.QUEUED: delegation().queued(at=0),
        Phase.DISPATCHED: delegation().dispatched(at=0),
        Phase.IN_PROGRESS: delegation().in_progress(by="s"),
        Phase.STUCK: delegation().in_progress(by="s").beat(at=0).stuck(),
    }[phase].due_in(60)
    assert found(given, 59.9) is None
    assert found(given, 60) == (Phase.FAILED, Reason.DEADLINE_EXCEEDED)


def test_S1_deadline_acts_in_blind_time() -> None:
    """A deadline is an absolute fact: not seeing the agents does not hold it up."""
    assert found(delegation().dispatched(at=0).due_in(60), 60, agent(blind=True)) == (
        Phase.FAILED,
        Reason.DEADLINE_EXCEEDED,
    )


def test_S11_a_beating_agent_still_fails_at_its_deadline() -> None:
    """A wedged agent that beats for ever ends at the default deadline of 6 hours."""
    assert found(silent_since(6 * 3600 - 1), 6 * 3600) == (Phase.FAILED, Reason.DEADLINE_EXCEEDED)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        pytest.param(600, None, id="at 600 s not yet"),
        pytest.param(600.999, None, id="600.999 s are 600 whole seconds"),
        pytest.param(601, "no heartbeat for 601s", id="at 601 s"),
        pytest.param(660.5, "no heartbeat for 660s", id="whole seconds in the message"),
    ],
)
def test_S3_a_beat_older_than_the_threshold_is_stuck(now: float, message: str | None) -> None:
    """Older than 600 s is Stuck and says for how long; as old as that is not yet."""
    change = fate.decide(silent_since(0).work, HERE, at(now))
    assert (change.message if change else None) == message
    assert change is None or change.target is Phase.STUCK


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(delegation().in_progress(by="s"), id="accepted, never beaten"),
        pytest.param(delegation().queued(at=0), id="queued"),
        pytest.param(delegation(), id="new"),
        pytest.param(silent_since(0).stuck(), id="stuck already"),
    ],
)
def test_S4_without_a_beat_in_progress_nothing_is_stuck(given: DelegationBuilder) -> None:
    """Never beaten, never started or Stuck already: left to the deadline."""
    assert found(given.due_in(DAY), DAY - 1) is None


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(agent({"s": live()}, blind=True), None, id="blind"),
        pytest.param(agent({"s": live()}, sighted=600), None, id="within the flush period"),
        pytest.param(agent({"s": live()}, sighted=550), Reason.NO_HEARTBEAT, id="a flush period later"),
    ],
)
def test_S3_blind_time_excuses_silence_for_a_flush_period(view: AgentView, expected: Reason | None) -> None:
    """After blind time a beat may be on its way: nothing is Stuck for a quarter of the threshold (150 s)."""
    change = fate.decide(silent_since(0).work, view, at(700))
    assert (change.reason if change else None) is expected


def test_S5_a_delegations_own_threshold_counts() -> None:
    """Its own threshold stands over the agent's."""
    given = silent_since(0).stuck_after(10)
    assert found(given, 10) is None
    assert decided(given, 11).message == "no heartbeat for 11s"


@pytest.mark.parametrize(
    ("now", "view", "expected"),
    [
        pytest.param(599, HERE, None, id="before the threshold"),
        pytest.param(600, HERE, (Phase.QUEUED, Reason.NOT_ACCEPTED), id="at the threshold"),
        pytest.param(600, agent({"s": live()}, blind=True), None, id="blind"),
        pytest.param(700, agent({"s": live()}, sighted=200), None, id="blind until 200: anew from there"),
    ],
)
def test_D7_an_offer_nobody_takes_goes_back(now: float, view: AgentView, expected: tuple[Phase, Reason] | None) -> None:
    """An offer without a sign of life for the threshold frees its slot, same attempt."""
    assert found(delegation().dispatched(at=0), now, view) == expected


@pytest.mark.parametrize(
    ("given", "due"),
    [
        pytest.param(delegation().due_in(60), 60, id="deadline"),
        pytest.param(silent_since(10), 611, id="silence"),
        pytest.param(delegation().dispatched(at=5), 605, id="offer"),
        pytest.param(delegation().queued(at=5), 6 * 3600, id="queue: only the deadline"),
    ],
)
def test_next_look_is_when_something_may_be_due(given: DelegationBuilder, due: float) -> None:
    """The time queue is set to the first moment at which the chain may find something."""
    assert fate.next_due(given.work, HERE) == at(due)


def test_next_look_at_held_work_of_a_lost_agent_is_the_end_of_its_grace() -> None:
    """Work of an agent lost at 10 is looked at again at 40."""
    assert fate.next_due(delegation().dispatched(at=0).work, agent({"s": lost(at=10)})) == at(40)
