"""window.py: which rounds a model is still told of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belay_api.sessionturn import Block, TurnOutcome
from belay_operator.decisions.conversation import Turn, messages
from belay_operator.decisions.window import fit, rounds

from .mailbox import result, text, turn, use

OVERHEAD = 64
"""Bytes that a block takes beside its text."""


def words(size: int) -> Block:
    """Text that counts as so many tokens."""
    return text("x" * (4 * size - OVERHEAD))


def answered(size: int) -> Turn:
    """A round of one turn, that counts as so many tokens, 32 at least."""
    return turn([words(size - 16)], [text("")])


def test_all_is_kept_while_it_fits() -> None:
    """To the last token."""
    turns = [answered(100), answered(100)]
    assert fit(turns, [words(50)], limit_tokens=250) == turns


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(350, 3, id="all fit"),
        pytest.param(349, 2, id="one token short: the oldest round is left out"),
        pytest.param(250, 2, id="two fit exactly"),
        pytest.param(150, 1, id="one fits"),
        pytest.param(149, 0, id="none does"),
        pytest.param(10, 0, id="not even this round: it is told all the same"),
    ],
)
def test_the_oldest_rounds_are_left_out_first(limit: int, expected: int) -> None:
    """As many as it takes."""
    turns = [answered(100), answered(100), answered(100)]
    assert fit(turns, [words(50)], limit_tokens=limit) == turns[3 - expected :]


@pytest.mark.parametrize(
    ("system", "tools", "expected"),
    [
        pytest.param(0, 0, 2, id="neither"),
        pytest.param(4, 0, 1, id="the system prompt"),
        pytest.param(0, 4, 1, id="tools"),
        pytest.param(396, 8, 0, id="both"),
    ],
)
def test_system_prompt_and_tools_take_their_part(system: int, tools: int, expected: int) -> None:
    """In bytes, four a token."""
    turns = [answered(100), answered(100)]
    assert len(fit(turns, [words(50)], system, tools, 250)) == expected


def test_without_a_limit_of_its_own_a_model_is_told_150000_tokens() -> None:
    """The contract's default."""
    turns = [answered(50), answered(100)]
    others = 4 * (150_000 - 200)
    assert fit(turns, [words(50)], others) == turns
    assert fit(turns, [words(50)], others + 4) == turns[1:]


def test_bytes_count_not_characters() -> None:
    """UTF-8: what is written in other scripts takes more."""
    turns = [turn([text("\u4e16" * 100)], [text("")])]
    assert fit(turns, [], limit_tokens=107) == turns
    assert fit(turns, [], limit_tokens=106) == []


def test_arguments_of_calls_count() -> None:
    """And names, and ids."""
    turns = [turn([text("")], [use("abcd", "work", "x" * 64)]), turn([result("abcd", "")], [text("")])]
    needed = (4 * OVERHEAD + 64 + 4 + 4 + 4) // 4
    assert len(fit([*turns, answered(100)], [], limit_tokens=needed + 100)) == 3
    assert len(fit([*turns, answered(100)], [], limit_tokens=needed + 99)) == 1


def test_a_round_is_never_split() -> None:
    """Its calls and their results go together, however many turns it took."""
    turns = [
        turn([words(50)], [use("a")]),
        turn([result("a")], [use("b")]),
        turn([result("b")], [text("done")]),
        answered(50),
    ]
    for limit in range(60, 400, 10):
        assert fit(turns, [words(50)], limit_tokens=limit) in (turns, turns[3:], [])


def test_the_round_under_way_is_never_left_out() -> None:
    """Its open calls are what is answered now."""
    turns = [answered(100), turn([words(500)], [use("a")]), turn([result("a")], [use("b")])]
    assert fit(turns, [result("b")], limit_tokens=10) == turns[1:]


BOUNCED, PARKED, INTERRUPTED = TurnOutcome.BOUNCED, TurnOutcome.PARKED, TurnOutcome.INTERRUPTED


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        pytest.param([], [0], id="nothing yet"),
        pytest.param([answered(32)], [1, 0], id="answered in words"),
        pytest.param([turn([text("hi")], [use("a")])], [1], id="a call is open"),
        pytest.param(
            [turn([text("hi")], [use("a")]), turn([result("a")], [text("x")])], [2, 0], id="a call was answered"
        ),
        pytest.param(
            [turn([text("hi")], [use("a")]), turn([result("a")], None, INTERRUPTED)], [2, 0], id="it was interrupted"
        ),
        pytest.param(
            [turn([text("hi")], [use("a")]), turn([text("x")], None, BOUNCED), turn([result("a")], [text("y")])],
            [3, 0],
            id="a message was bounced in between",
        ),
        pytest.param([turn([text("x")], None, PARKED), answered(32)], [2, 0], id="a message was parked before"),
    ],
)
def test_a_round_ends_where_the_session_lands_in_idle(turns: list[Turn], expected: list[int]) -> None:
    """What was bounced or parked ends none."""
    assert [len(each) for each in rounds(turns)] == expected


@pytest.mark.parametrize("outcome", [BOUNCED, PARKED])
def test_turns_that_do_not_enter_the_conversation_take_nothing(outcome: TurnOutcome) -> None:
    """However long what was returned is."""
    turns = [turn([words(9_000)], None, outcome), answered(100)]
    assert fit(turns, [], limit_tokens=100) == turns


SIZES = st.integers(0, 400)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Turn], list[Block]]:
    """Turns as the drain makes them, and the round after them."""
    turns: list[Turn] = []
    open_calls: list[str] = []
    for number in range(draw(st.integers(0, 10))):
        heard = [*(result(call) for call in open_calls), text("x" * draw(SIZES))]
        outcome = draw(st.sampled_from([TurnOutcome.ANSWERED, TurnOutcome.ANSWERED, *TurnOutcome]))
        said: list[Block] = []
        if outcome is TurnOutcome.ANSWERED:
            open_calls = [f"c{number}-{n}" for n in range(draw(st.integers(0, 2)))]
            said = [text("x" * draw(SIZES)), *(use(call) for call in open_calls)]
        elif outcome is TurnOutcome.INTERRUPTED:
            heard, open_calls = [result(call) for call in open_calls], []
        turns.append(turn(heard, said, outcome))
    return turns, [*(result(call) for call in open_calls), text("go on")]


@given(histories(), st.integers(1, 2000))
def test_what_is_kept_is_the_end_of_the_history_in_whole_rounds(
    history: tuple[list[Turn], list[Block]], limit: int
) -> None:
    """Property: no call loses its result, the round under way stays, and no more is left out than needed."""
    turns, present = history
    kept = fit(turns, present, limit_tokens=limit)
    split = rounds(turns)
    endings = [[each for part in split[start:] for each in part] for start in range(len(split))]
    assert kept in endings
    told = [block for message in messages(kept, present) for block in message.blocks]
    assert not any(block.is_error for block in told), "a call was torn from its result"
    longer = endings[max(0, endings.index(kept) - 1)]
    assert longer == kept or fit(longer, present, limit_tokens=limit) == kept


@given(histories(), st.integers(1, 2000), st.integers(0, 2000))
def test_a_wider_window_never_keeps_less(history: tuple[list[Turn], list[Block]], limit: int, more: int) -> None:
    """Property: what fits still fits."""
    turns, present = history
    assert len(fit(turns, present, limit_tokens=limit)) <= len(fit(turns, present, limit_tokens=limit + more))


def parked(kind: str) -> Turn:
    """A turn that put a message of this type aside."""
    return {**turn([], None, TurnOutcome.PARKED), "consumed": [{"uid": "u", "name": "m", "type": kind}]}


def test_L10_a_round_whose_responses_were_parked_is_over_and_may_be_left_out() -> None:
    """However long it was: nothing can complete it, and a later message must not be told of it again."""
    long = [turn([words(500)], [use("c")]), parked("ToolResponse")]
    assert fit(long, [words(50)], limit_tokens=100) == []


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(turn([], None, TurnOutcome.INTERRUPTED), id="a prompt that was taken out"),
        pytest.param(parked("UserMessage"), id="a message that was parked"),
    ],
)
def test_L17_what_closes_no_call_ends_no_round(between: Turn) -> None:
    """The calls are open still, so what made them stays, whatever its size."""
    turns = [turn([words(500)], [use("c")]), between]
    assert fit(turns, [result("c")], limit_tokens=100) == turns
