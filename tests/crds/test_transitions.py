"""The phase table against DESIGN.md section 5, pair by pair, and the rows' table against section 3."""

import itertools

import pytest

from belay_api.agentsubscription import ROW_ARROWS, SubscriptionPhase
from belay_api.transitions import ARROWS, LIVE, TERMINAL, Phase, Writer, allowed, phase_of
from crds_cases import EXPECTED, EXPECTED_ROWS, PHASES
from crds_cases import TERMINAL as TERMINAL_WORDS

PAIRS = list(itertools.product(PHASES, PHASES))
IDS = [f"{source}-to-{target}" for source, target in PAIRS]


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=IDS)
def test_D1_each_pair_of_phases_is_allowed_or_refused(source: str, target: str) -> None:
    """Anyone, the operator and the gateway each draw exactly the arrows of DESIGN.md."""
    by = EXPECTED[source, target]
    assert allowed(Phase(source), Phase(target)) == bool(by)
    assert {str(writer) for writer in Writer if allowed(Phase(source), Phase(target), writer)} == by


def test_D1_every_phase_is_in_the_table() -> None:
    """A phase that is added must be given its arrows."""
    assert {str(phase) for phase in Phase} == set(PHASES)
    assert {str(phase) for phase in TERMINAL} == set(TERMINAL_WORDS)
    assert set(Phase) == LIVE | TERMINAL


def test_D1_no_arrow_leaves_a_terminal_phase() -> None:
    """Completed, Failed and Cancelled are absorbing for every writer."""
    assert not [arrow for arrows in ARROWS.values() for arrow in arrows if arrow.source in TERMINAL]


def test_D1_nothing_returns_to_pending() -> None:
    """Pending is where a delegation begins, and only that."""
    assert not [arrow for arrows in ARROWS.values() for arrow in arrows if arrow.target == Phase.PENDING]


@pytest.mark.parametrize("phase", PHASES)
def test_D2_the_same_phase_again_is_no_arrow(phase: str) -> None:
    """The same phase is written again by both writers while it isn't terminal; a terminal one needs no write at all."""
    same = [allowed(Phase(phase), Phase(phase), writer) for writer in Writer]
    assert same == [phase not in TERMINAL_WORDS] * 2


def test_an_object_without_a_phase_is_pending() -> None:
    """No phase and an empty one count as Pending; a word that is no phase is an error."""
    assert phase_of(None) == phase_of("") == Phase.PENDING
    with pytest.raises(ValueError, match="Nonsense"):
        phase_of("Nonsense")


@pytest.mark.parametrize(("source", "target"), EXPECTED_ROWS, ids=[f"{s}-to-{t}" for s, t in EXPECTED_ROWS])
def test_each_pair_of_row_phases_has_its_writers(source: str, target: str) -> None:
    """A gateway makes, renews and disconnects rows; the operator expires them."""
    known = None if source == "-" else SubscriptionPhase(source)
    drawn = {str(w) for w, table in ROW_ARROWS.items() if SubscriptionPhase(target) in table.get(known, ())}
    assert drawn == EXPECTED_ROWS[source, target]
