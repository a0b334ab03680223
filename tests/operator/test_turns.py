"""turns.py: what is written of a half-step, one turn for each outcome."""

from belay_api.pendingmessage import MessagePhase
from belay_api.sessionturn import SessionTurnSpec, TurnOutcome
from belay_api.usage import Usage
from belay_operator.decisions import turns
from belay_operator.decisions.picking import pick
from belay_operator.decisions.rounds import Bounce, Park
from belay_operator.decisions.turns import Span
from belay_operator.drain.llm.base import Answer

from .builders import at
from .mailbox import mail, session, text

SPAN = Span(at(1), at(2))
NOBODY: frozenset[str] = frozenset()
LOST = frozenset({"gone"})


def names(made: SessionTurnSpec) -> list[str]:
    """The messages that a turn settles."""
    return [message.name for message in made.consumed or ()]


def test_L4_an_answer_is_the_next_turn_and_lists_what_it_read() -> None:
    """One call, whatever the provider counted."""
    given = session().saying(turns=6).record
    picked = pick(given, [mail("m1").mail])
    answer = Answer([text("well")], "end_turn", "model-1", Usage(calls=9, input_tokens=3))
    made = turns.answered(given, picked, [text("hi")], [text("well")], answer, SPAN)
    assert [made.sequence, made.outcome, names(made)] == [7, TurnOutcome.ANSWERED, ["m1"]]
    assert [made.usage, made.model, made.stop_reason] == [Usage(calls=1, input_tokens=3), "model-1", "end_turn"]
    assert [made.user, made.assistant] == [[text("hi")], [text("well")]]
    assert [made.started_time, made.completed_time] == [at(1), at(2)]


def test_L9_L10_what_is_returned_is_a_turn_without_words() -> None:
    """Bounced or Parked, with the reason."""
    given, letter = session().record, mail("m1").mail
    bounced = turns.returned(given, Bounce((letter,), "Rejected", "no"), SPAN)
    parked = turns.returned(given, Park((letter,), "KeepsFailing", "n" * 5000), SPAN)
    assert [bounced.outcome, bounced.reason, bounced.message] == [TurnOutcome.BOUNCED, "Rejected", "no"]
    assert [parked.outcome, parked.reason, len(parked.message or "")] == [TurnOutcome.PARKED, "KeepsFailing", 1024]
    for made in (bounced, parked):
        assert [names(made), made.user, made.assistant, made.usage] == [["m1"], None, None, None]


def test_L17_an_interrupted_round_settles_what_was_under_way() -> None:
    """The responses that came, the active message, and prompts that nobody waits for; the rest stays."""
    given = session().executing("c1", "c2").awaiting().interrupt_asked("1").record
    came, active, dead, later = mail("r").answering("c1"), mail("a"), mail("p").prompt_of("gone"), mail("later")
    letters = [letter.mail for letter in (came, active, dead, later)]
    taken = turns.abandoned([m.record for m in letters], LOST)
    made = turns.interrupted(given, letters, taken, LOST, active.record, SPAN)
    assert [made.outcome, made.reason, names(made)] == [TurnOutcome.INTERRUPTED, "Interrupted", ["r", "a", "p"]]
    assert [block.tool_use_id for block in made.user or ()] == ["c1", "c2"]


def test_L17_without_anything_under_way_an_interrupted_turn_settles_nothing() -> None:
    """An Idle session's mail stays where it is."""
    made = turns.interrupted(session().interrupt_asked("1").record, [mail("m").mail], (), NOBODY, None, SPAN)
    assert [names(made), made.user] == [[], None]


def test_L17_a_prompt_that_was_being_answered_is_settled_once() -> None:
    """It is active, and nobody waits for it."""
    dead = mail("p").prompt_of("gone")
    made = turns.interrupted(session().awaiting().record, [dead.mail], [dead.record], LOST, dead.record, SPAN)
    assert [names(made), made.reason] == [["p"], "DelegationEnded"]
    assert "gone" in (made.message or "")


def test_L17_prompts_are_taken_out_and_open_calls_left_alone() -> None:
    """No ToolResult: where the session stands doesn't change."""
    given = session().executing("c").record
    dead = [mail("p").prompt_of("gone").record, mail("q").prompt_of("too").record]
    made = turns.taken_out(given, dead, SPAN)
    assert [made.outcome, made.reason, names(made), made.user] == [
        TurnOutcome.INTERRUPTED,
        "DelegationEnded",
        ["p", "q"],
        None,
    ]
    assert "gone, too" in (made.message or "")


def test_L17_what_nobody_waits_for_is_pending_and_a_prompt() -> None:
    """A user's message that bears the name is none; returned mail is settled already."""
    letters = [
        mail("p").prompt_of("gone"),
        mail("live").prompt_of("live"),
        mail("user").by("gone"),
        mail("back").prompt_of("gone").returned(MessagePhase.BOUNCED),
    ]
    found = turns.abandoned([letter.record for letter in letters], LOST)
    assert [record.ref.name for record in found] == ["p"]
