"""rounds.py: what a finished call means: where an answer lands, and what a failure leads to."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belay_api.agentsession import MAX_OPEN_CALLS, OpenToolCall
from belay_api.reasons import SessionReason
from belay_api.sessionturn import MAX_ASSISTANT_BLOCKS, Block
from belay_operator.decisions.picking import Picked, pick
from belay_operator.decisions.rounds import (
    LONGEST_WAIT,
    Back,
    Bounce,
    Park,
    after_answer,
    after_failure,
    made_up_id,
    pause_after,
    wait_before,
)
from belay_operator.drain.llm.base import LlmError, NotConfigured, Passing, Rejected, Unauthenticated

from .builders import at
from .mailbox import MailBuilder, SessionBuilder, mail, session, text, use

# --- an answer ---


def told(*answer: Block, taken: Sequence[str] = (), sequence: int = 3) -> list[Block]:
    """What an answer is, as the third turn of session `s`."""
    return after_answer(session().record, answer, sequence, taken)


def ids(blocks: Sequence[Block]) -> list[str | None]:
    """Of the calls."""
    return [block.tool_use_id for block in blocks if block.type == "ToolUse"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([text("hello")], id="words"),
        pytest.param([], id="nothing"),
        pytest.param([text("let me see"), use("c"), text("and"), use("d", "reply", '{"result": 1}')], id="calls"),
    ],
)
def test_L4_an_answer_is_kept_as_it_was_said(answer: list[Block]) -> None:
    """Where nothing is missing and nothing is too much."""
    assert told(*answer) == answer


def test_L14_a_call_without_an_id_gets_one_of_its_place() -> None:
    """The same when it is made again, another in another place, turn or session."""
    found = ids(told(use(None), use(None)))
    assert found == ids(told(use(None), use(None)))
    assert found == [made_up_id("uid-s", 3, 0), made_up_id("uid-s", 3, 1)]
    others = [*ids(told(use(None), sequence=4)), made_up_id("uid-t", 3, 0), made_up_id("uid-s", 3, 1)]
    assert made_up_id("uid-s", 3, 0) not in others
    assert len(set(others)) == 3


@pytest.mark.parametrize(
    ("answer", "taken", "expected"),
    [
        pytest.param([use("a"), use("b")], [], ["a", "b"], id="both their own: they stay"),
        pytest.param([use("a"), use("a")], [], ["a", None], id="one id twice: the second call gets another"),
        pytest.param([use("a"), use("b")], ["b"], ["a", None], id="of a call of an earlier turn"),
        pytest.param([use("a"), use("a"), use("a")], ["a"], [None, None, None], id="all of them"),
    ],
)
def test_L14_no_two_calls_of_a_session_have_one_id(
    answer: list[Block], taken: list[str], expected: list[str | None]
) -> None:
    """What a call creates is named after its id: two of one id would share one response."""
    found = ids(told(*answer, taken=taken))
    assert found == [made_up_id("uid-s", 3, place) if one is None else one for place, one in enumerate(expected)]
    assert len(set(found)) == len(found)


def test_L14_arguments_are_kept_just_as_the_model_wrote_them() -> None:
    """Malformed or not: the tool says what is wrong with them."""
    assert told(use(None, "work", '{"half'))[0].input == '{"half'


def test_as_many_calls_as_a_session_can_have_open_all_run() -> None:
    """64."""
    calls = [use(f"c{n}") for n in range(MAX_OPEN_CALLS)]
    assert told(*calls) == calls


def test_calls_beyond_that_are_left_out_and_the_answer_says_so() -> None:
    """Before its first call, so that each call's result can follow."""
    calls = [use(f"c{n}") for n in range(MAX_OPEN_CALLS + 3)]
    found = told(text("here I go"), *calls, text("done"))
    note = text("[Belay: 3 tool calls were left out, at most 64 of one answer are run]")
    assert found == [text("here I go"), note, *calls[:MAX_OPEN_CALLS], text("done")]


ANSWERS = st.lists(
    st.one_of(st.just(text("x")), st.builds(use, st.sampled_from([None, "a", "b", "c"]))),
    max_size=MAX_ASSISTANT_BLOCKS - 1,
)


@given(ANSWERS, st.sets(st.sampled_from(["a", "b"])))
def test_any_answer_can_be_stored_and_run(answer: list[Block], taken: set[str]) -> None:
    """Property: each call is open, by an id of its own that the contract takes; blocks fit a turn."""
    found = told(*answer, taken=sorted(taken))
    calls = [block for block in found if block.type == "ToolUse"]
    assert len({*taken, *ids(found)}) == len(taken) + len(calls)
    assert len(calls) == min(MAX_OPEN_CALLS, len(ids(answer)))
    assert len(found) <= MAX_ASSISTANT_BLOCKS
    for call in calls:
        OpenToolCall.model_validate({"id": call.tool_use_id, "tool": call.name, "startedTime": at(0)})


# --- a failure ---

BUSY = Passing("529 from the model", SessionReason.OVERLOADED)
REFUSED = Unauthenticated("401 from the model", SessionReason.AUTHENTICATION_FAILED)
NOWHERE = NotConfigured("no such provider", SessionReason.PROVIDER_UNKNOWN)
WRONG = Rejected("400 from the model", SessionReason.REJECTED)


def after(error: LlmError, *letters: MailBuilder, given: SessionBuilder | None = None) -> Bounce | Park | Back:
    """What the round of this mail leads to when it fails."""
    record = (given or session()).record
    return after_failure(error, pick(record, [letter.mail for letter in letters]), record)


@pytest.mark.parametrize(
    "error", [BUSY, REFUSED, NOWHERE, WRONG], ids=["passing", "refused key", "no provider", "rejected"]
)
def test_L9_a_message_that_asks_for_it_is_bounced(error: LlmError) -> None:
    """At once, with the reason, whatever failed; it alone, not what rode along."""
    prompt = mail().prompt_of("d")
    found = after(error, mail().background(), prompt)
    assert found == Bounce((prompt.mail,), error.reason, error.message)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(session(), 1, id="the first time"),
        pytest.param(session().failed("m", 1), 2, id="the second time"),
        pytest.param(session().failed("m", 3), 4, id="the fourth time"),
        pytest.param(session().failed("other", 4), 1, id="another message failed before"),
    ],
)
def test_L10_a_failed_round_is_counted_for_its_message(given: SessionBuilder, expected: int) -> None:
    """All mail stays; the count starts again with another message."""
    found = after(BUSY, mail("m"), given=given)
    assert found == Back("uid-m", expected, SessionReason.OVERLOADED, "529 from the model")


def test_L10_the_fifth_failed_round_parks_the_message() -> None:
    """And the next is delivered."""
    stuck = mail("m")
    found = after(BUSY, mail().background(), stuck, mail("next"), given=session().failed("m", 4))
    why = "5 rounds failed; the last: 529 from the model"
    assert found == Park((stuck.mail,), SessionReason.KEEPS_FAILING, why)


def test_L10_what_the_model_rejects_is_parked_at_once() -> None:
    """The same request will never succeed."""
    wrong = mail()
    assert after(WRONG, wrong) == Park((wrong.mail,), SessionReason.REJECTED, "400 from the model")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(session(), 0, id="the first time"),
        pytest.param(session().failed("m", 4), 4, id="after four rounds that failed otherwise"),
        pytest.param(session().failed("other", 4), 0, id="another message failed before"),
    ],
)
def test_L11_what_people_must_mend_never_parks(given: SessionBuilder, expected: int) -> None:
    """A refused key, a provider that isn't there: no fault of the message, and it does not count."""
    for error in (REFUSED, NOWHERE):
        assert after(error, mail("m"), given=given) == Back("uid-m", expected, error.reason, error.message)


@pytest.mark.parametrize(
    ("error", "failed", "expected"),
    [
        pytest.param(WRONG, 0, "active", id="rejected: the active message first"),
        pytest.param(BUSY, 4, "active", id="five times: the active message first"),
    ],
)
def test_L10_in_a_tool_round_the_active_message_is_blamed_first(error: LlmError, failed: int, expected: str) -> None:
    """The responses are tried without it."""
    letters = [mail("response").answering("c"), mail("active")]
    given = session().executing("c").failed("active", failed)
    found = after(error, *letters, given=given)
    assert isinstance(found, Park)
    assert [each.record.ref.name for each in found.mail] == [expected]


@pytest.mark.parametrize(
    ("error", "failed", "expected"),
    [
        pytest.param(WRONG, 0, Park, id="rejected"),
        pytest.param(BUSY, 0, Back, id="passing, once"),
        pytest.param(BUSY, 4, Park, id="passing, five times"),
        pytest.param(REFUSED, 4, Back, id="a refused key"),
    ],
)
def test_L10_a_tool_round_without_an_active_message_is_parked_as_a_whole(
    error: LlmError, failed: int, expected: type
) -> None:
    """Never a part of it (L5); its first response stands for it in status."""
    letters = [mail("first").answering("b"), mail("second").answering("a"), mail().background()]
    found = after(error, *letters, given=session().executing("a", "b").failed("first", failed))
    assert isinstance(found, expected)
    if isinstance(found, Park):
        assert [each.record.ref.name for each in found.mail] == ["first", "second"]
    if isinstance(found, Back):
        assert found.failed_message == "uid-first"


def test_what_a_provider_says_is_kept_as_far_as_status_holds_it() -> None:
    """1024 characters, whatever it is part of."""
    long = Passing("x" * 5000, SessionReason.UNREACHABLE)
    found = [
        after(long, mail("m")),
        after(long, mail("m"), given=session().failed("m", 4)),
        after(long, mail().bouncing()),
    ]
    assert [type(each) for each in found] == [Back, Park, Bounce]
    assert [len(each.message) for each in found] == [1024, 1024, 1024]


def test_an_empty_round_fails_nobody() -> None:
    """There is no such call: a bug that must show."""
    with pytest.raises(IndexError):
        after_failure(BUSY, Picked(), session().record)


# --- when it is tried again ---


@pytest.mark.parametrize(
    ("attempt", "retry_after", "jitter", "expected"),
    [
        pytest.param(1, None, 0.0, 1.0, id="the first attempt failed"),
        pytest.param(2, None, 0.0, 16.0, id="the second"),
        pytest.param(3, None, 0.0, 81.0, id="the third"),
        pytest.param(4, None, 0.0, 256.0, id="the fourth"),
        pytest.param(5, None, 0.0, None, id="the fifth: no more in place"),
        pytest.param(5, 1.0, 0.0, None, id="the fifth, whatever the provider says"),
        pytest.param(3, None, 1.0, 93.15, id="15 % more"),
        pytest.param(3, None, 0.5, 87.075, id="half of that"),
        pytest.param(1, 30.0, 0.0, 30.0, id="the provider asks for more time"),
        pytest.param(1, 30.0, 1.0, 34.5, id="not all come back at that very moment"),
        pytest.param(3, 2.0, 0.0, 81.0, id="the provider asks for less"),
        pytest.param(1, 0.0, 0.0, 1.0, id="the provider asks for none"),
        pytest.param(1, LONGEST_WAIT, 0.0, LONGEST_WAIT, id="as long as anybody waits"),
        pytest.param(1, LONGEST_WAIT + 1, 0.0, None, id="longer: not in place"),
        pytest.param(1, float("inf"), 0.0, None, id="for ever"),
    ],
)
def test_L12_waits_grow_and_end(attempt: int, retry_after: float | None, jitter: float, expected: float | None) -> None:
    """About n^4 seconds, at most five attempts, never before the provider wants it."""
    assert wait_before(attempt, retry_after, jitter) == (None if expected is None else pytest.approx(expected))


@given(st.integers(1, 4), st.one_of(st.none(), st.floats(0, 700)), st.floats(0, 1))
def test_L12_no_wait_is_shorter_than_asked_or_longer_by_more_than_15_percent(
    attempt: int, retry_after: float | None, jitter: float
) -> None:
    """Property."""
    least = max(attempt**4, retry_after or 0)
    wait = wait_before(attempt, retry_after, jitter)
    assert wait is not None
    assert least <= wait <= least * 1.1500001


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        pytest.param(0, 1.0, id="a refused key counts none"),
        pytest.param(1, 1.0, id="one"),
        pytest.param(2, 16.0, id="two"),
        pytest.param(4, 256.0, id="four"),
        pytest.param(9, 625.0, id="more than are ever counted"),
    ],
)
def test_L10_a_failed_round_is_tried_again_ever_later(rounds: int, expected: float) -> None:
    """With the same jitter as attempts."""
    assert pause_after(rounds, 0.0) == expected
    assert pause_after(rounds, 1.0) == pytest.approx(expected * 1.15)
