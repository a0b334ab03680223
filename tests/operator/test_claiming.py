"""claiming.py: whether a mailbox may be drained now, and what stands against it."""

from collections.abc import Sequence

import pytest

from belay_api.pendingmessage import MessagePhase
from belay_api.reasons import SessionReason
from belay_operator.decisions.claiming import Claimable, NotYet, Verdict, any_message, unanswered, verdict
from belay_operator.observe.mailbox_records import MessageRecord
from belay_operator.observe.records import AgentRecord

from .mailbox import HOLDER, MailBuilder, SessionBuilder, mail, model_agent, session

AGENT = model_agent()
PROMPT = mail("prompt").prompt_of("d")


def judged(given: SessionBuilder, *letters: MailBuilder, age: float | None = None) -> Verdict:
    """What is decided on a session and its mail, its agent being well."""
    return verdict(given.record, [letter.record for letter in letters], AGENT, age)


def is_claimable(found: Verdict) -> bool:
    """Whether it may be claimed."""
    return isinstance(found, Claimable)


def test_L1_a_missing_session_is_nothing_to_claim() -> None:
    """Its mail waits, nobody is told off."""
    assert verdict(None, [mail().record], AGENT) == NotYet()


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        pytest.param([mail()], True, id="a user's message (L4)"),
        pytest.param([mail().subagent()], True, id="a subagent's message"),
        pytest.param([PROMPT], True, id="a delegation's prompt"),
        pytest.param([mail().background(), mail()], True, id="background mail and a message (L7)"),
        pytest.param([], False, id="no mail (L2)"),
        pytest.param([mail().background(), mail().background()], False, id="background mail alone (L7)"),
        pytest.param([mail().returned(MessagePhase.BOUNCED)], False, id="only what was bounced (L9)"),
        pytest.param([mail().returned(MessagePhase.PARKED)], False, id="only what was parked (L10)"),
        pytest.param([mail().answering("c")], False, id="only a response to nothing (L15)"),
    ],
)
def test_L7_an_idle_session_is_claimed_for_active_mail_alone(letters: Sequence[MailBuilder], expected: bool) -> None:
    """A verdict without work says nothing that anybody would have to do something about."""
    found = judged(session(), *letters)
    assert is_claimable(found) is expected
    assert expected or found == NotYet()


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        pytest.param([mail().answering("a"), mail().answering("b")], True, id="all are there"),
        pytest.param([mail().answering("b"), mail().answering("x"), mail().answering("a")], True, id="in any order"),
        pytest.param([mail().answering("a")], False, id="one is missing"),
        pytest.param([mail().answering("a"), mail().answering("a")], False, id="one came twice, the other is missing"),
        pytest.param([mail().answering("a"), mail()], False, id="a user's message does not make up for it"),
        pytest.param([mail()], False, id="none, and a user's message"),
        pytest.param(
            [mail().answering("a"), mail().answering("b").returned(MessagePhase.PARKED)], False, id="one was put aside"
        ),
    ],
)
def test_L6_an_open_round_is_claimed_once_every_call_has_its_response(
    letters: Sequence[MailBuilder], expected: bool
) -> None:
    """Whatever else is in the mailbox."""
    assert is_claimable(judged(session().executing("a", "b"), *letters)) is expected


def test_L6_an_open_round_says_how_many_responses_it_lacks() -> None:
    """Without a reason: nobody has to do anything but wait."""
    assert judged(session().executing("a", "b", "c"), mail().answering("b")) == NotYet(
        message="2 tool calls have no response yet"
    )
    lacking = unanswered(session().executing("a", "b").record, [mail().answering("b").record])
    assert lacking == ["a"]


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        pytest.param([mail()], True, id="a user's message"),
        pytest.param([], False, id="no mail"),
    ],
)
def test_a_session_that_executes_nothing_is_taken_for_idle(letters: Sequence[MailBuilder], expected: bool) -> None:
    """Else it would be drained for nothing, again and again."""
    assert is_claimable(judged(session().executing(), *letters)) is expected


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        pytest.param(None, NotYet(message=f"{HOLDER} drains it", until=30), id="never seen before"),
        pytest.param(0.0, NotYet(message=f"{HOLDER} drains it", until=30), id="just renewed"),
        pytest.param(29.5, NotYet(message=f"{HOLDER} drains it", until=0.5), id="almost over"),
        pytest.param(30.0, Claimable(takeover=True), id="over"),
        pytest.param(300.0, Claimable(takeover=True), id="long over"),
    ],
)
def test_L18_a_claim_is_taken_over_when_we_saw_it_stand_still_long_enough(age: float | None, expected: Verdict) -> None:
    """And before that nothing is changed (L3), however old its renewTime looks."""
    assert judged(session().awaiting(duration=30, renewed=-99_999), mail(), age=age) == expected


@pytest.mark.parametrize(
    "letters",
    [
        pytest.param([], id="an empty mailbox (L2)"),
        pytest.param([mail().background()], id="background mail"),
        pytest.param([mail()], id="the message it was claimed for"),
    ],
)
def test_L16_a_dead_holders_session_is_taken_over_whatever_its_mailbox_holds(letters: Sequence[MailBuilder]) -> None:
    """The mail may be gone because its turn was made; what is left of that is finished."""
    assert judged(session().awaiting(), *letters, age=31) == Claimable(takeover=True)
    assert judged(session().executing("c").awaiting(), *letters, age=31) == Claimable(takeover=True)


def test_L16_a_dead_holders_session_is_finished_even_where_no_answer_may_be_asked_for() -> None:
    """The agent was suspended meanwhile: the turn that was made still counts, and no other is."""
    found = verdict(session().awaiting().record, [], model_agent(suspended=True), 31)
    assert isinstance(found, Claimable)
    assert found.hindrance is not None
    assert found.hindrance.reason is SessionReason.AGENT_SUSPENDED


@pytest.mark.parametrize(
    ("agent", "given", "expected"),
    [
        pytest.param(None, session(), SessionReason.AGENT_MISSING, id="there is no agent"),
        pytest.param(model_agent(runtime="Channel"), session(), SessionReason.NOT_A_MODEL, id="it is no model"),
        pytest.param(model_agent(suspended=True), session(), SessionReason.AGENT_SUSPENDED, id="it is suspended"),
        pytest.param(model_agent(most_calls=3), session().spent(3), SessionReason.CALLS_EXHAUSTED, id="all is spent"),
        pytest.param(
            model_agent(most_calls=3), session().spent(9), SessionReason.CALLS_EXHAUSTED, id="the cap was cut"
        ),
        pytest.param(model_agent(most_calls=3), session().spent(2), None, id="one answer is left"),
        pytest.param(model_agent(), session().spent(10_000), None, id="there is no cap"),
    ],
)
def test_mail_waits_with_a_reason_while_its_agent_may_not_answer(
    agent: AgentRecord | None, given: SessionBuilder, expected: SessionReason | None
) -> None:
    """The reason is that of condition Blocked; without mail there is none."""
    found = verdict(given.record, [mail().record], agent)
    assert (found.reason if isinstance(found, NotYet) else None) is expected
    assert verdict(given.record, [], agent) == NotYet()


def test_the_cap_says_what_to_do() -> None:
    """With both numbers."""
    found = verdict(session().spent(3).record, [mail().record], model_agent(most_calls=3))
    assert isinstance(found, NotYet)
    assert "3 answers were given and 3 are allowed: raise model.maxCallsPerSession" in found.message


def test_an_open_round_waits_for_its_agent_too() -> None:
    """Suspended is suspended: no answer is asked for."""
    found = verdict(session().executing("c").record, [mail().answering("c").record], model_agent(suspended=True))
    assert isinstance(found, NotYet)
    assert found.reason is SessionReason.AGENT_SUSPENDED


def test_L11_a_refused_key_holds_mail_back() -> None:
    """As does anything else that the caller knows to stand against a call; what the agent lacks is said first."""
    refused = NotYet(SessionReason.AUTHENTICATION_FAILED, "401")
    letters = [mail().record]
    assert verdict(session().record, letters, AGENT, blocked=refused) == refused
    assert verdict(session().record, [], AGENT, blocked=refused) == NotYet()
    first = verdict(session().record, letters, None, blocked=refused)
    assert isinstance(first, NotYet)
    assert first.reason is SessionReason.AGENT_MISSING


def test_L10_the_pause_after_a_failed_round_holds_mail_back_until_it_is_over() -> None:
    """The time is the caller's, and handed on."""
    paused = NotYet(until=16.0)
    assert verdict(session().record, [mail().record], AGENT, blocked=paused) == paused


def not_prompts(message: MessageRecord) -> bool:
    """As long as the delegation isn't InProgress."""
    return message.delegation is None


def test_a_prompt_whose_delegation_is_not_in_progress_starts_nothing() -> None:
    """A crash in between could run it twice; other mail is not held up by it."""
    held = verdict(session().record, [PROMPT.record], AGENT, pickable=not_prompts)
    assert held == NotYet()
    assert is_claimable(verdict(session().record, [PROMPT.record, mail().record], AGENT, pickable=not_prompts))


def test_where_nothing_is_held_back_any_active_message_is_picked() -> None:
    """And no other."""
    assert [any_message(m.record) for m in (PROMPT, mail(), mail().background())] == [True, True, False]
