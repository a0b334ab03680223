"""interrupts.py: when a round is cut short, and what its open calls are answered then."""

import pytest

from belay_api.pendingmessage import MAX_CONTENT_BYTES
from belay_operator.decisions.cutting import stored_bytes
from belay_operator.decisions.interrupts import interrupt_wanted, interrupted_blocks, is_asked_for
from belay_operator.decisions.picking import ROUND_BYTES, responses_of

from .mailbox import MailBuilder, SessionBuilder, mail, result, session


def asked(given: SessionBuilder, *ended: str) -> bool:
    """Whether the round is to be cut short."""
    return interrupt_wanted(given.record, ended.__contains__)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(session().awaiting(), False, id="nobody asks"),
        pytest.param(session().awaiting().interrupt_asked("1"), True, id="asked, Awaiting"),
        pytest.param(session().executing("c").interrupt_asked("1"), True, id="asked, Executing"),
        pytest.param(session().interrupt_asked("1"), True, id="asked, Idle: to be taken note of"),
        pytest.param(session().awaiting().interrupt_asked("1", observed="1"), False, id="done already"),
        pytest.param(session().awaiting().interrupt_asked("2", observed="1"), True, id="asked once more"),
        pytest.param(
            session().awaiting().interrupt_asked("1", observed="2"),
            True,
            id="values have no order",
        ),
    ],
)
def test_L17_an_interrupt_is_done_once_for_each_value(given: SessionBuilder, expected: bool) -> None:
    """Whatever the session does."""
    assert asked(given) is expected
    assert is_asked_for(given.record) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(session().executing("c").serving("d"), True, id="the only one it served"),
        pytest.param(session().executing("c").serving("d", "e"), True, id="both that it served"),
        pytest.param(session().executing("c").awaiting().serving("d"), True, id="while its round is with the model"),
        pytest.param(session().executing("c").serving("d", "live"), False, id="another is still served"),
        pytest.param(session().executing("c").serving("live"), False, id="the only one is live"),
        pytest.param(session().executing("c"), False, id="it serves none"),
    ],
)
def test_L17_work_stops_when_every_delegation_it_is_for_has_ended(given: SessionBuilder, expected: bool) -> None:
    """Cancelled, or past its deadline: `d` and `e` have ended. That is no interruptRequest."""
    assert asked(given, "d", "e") is expected
    assert not is_asked_for(given.record)


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        pytest.param(
            [], [result("a", "interrupted", failed=True), result("b", "interrupted", failed=True)], id="none came"
        ),
        pytest.param(
            [mail().answering("b").saying("42")],
            [result("a", "interrupted", failed=True), result("b", "42")],
            id="one came: it is told, in its place",
        ),
        pytest.param(
            [mail().answering("b").saying("42"), mail().answering("a", success=False).saying("no")],
            [result("a", "no", failed=True), result("b", "42")],
            id="both came",
        ),
        pytest.param(
            [mail().answering("x"), mail().answering("a").saying("1"), mail().answering("a").saying("2")],
            [result("a", "1"), result("b", "interrupted", failed=True)],
            id="the first counts, and one of no open call doesn't",
        ),
    ],
)
def test_L17_every_open_call_is_answered(letters: list[MailBuilder], expected: list[object]) -> None:
    """By its response if it came, else as interrupted; whatever order the list has."""
    given = session().executing("a", "b").record
    came = [letter.mail for letter in letters]
    assert interrupted_blocks(given, responses_of(given, came)) == expected
    assert interrupted_blocks(given, responses_of(given, came[::-1])) == expected


def test_L17_without_open_calls_an_interrupted_turn_tells_nothing() -> None:
    """Its messages are settled all the same."""
    assert interrupted_blocks(session().awaiting().record, []) == []


def test_L17_an_interrupted_turn_can_be_stored_however_much_came() -> None:
    """Cut as any round is."""
    calls = [f"c{n}" for n in range(64)]
    came = [mail().answering(call).saying("<" * MAX_CONTENT_BYTES).mail for call in calls]
    blocks = interrupted_blocks(session().executing(*calls).record, came)
    assert len(blocks) == 64
    assert sum(stored_bytes(block.text or "") for block in blocks) <= ROUND_BYTES
