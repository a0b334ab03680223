"""picking.py: what of a mailbox makes the next round, in which order, and what waits."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belay_api.agentsession import MAX_OPEN_CALLS, MAX_SERVING
from belay_api.pendingmessage import MAX_CONTENT_BYTES, MessagePhase, MessageType, Source
from belay_api.sessionturn import MAX_CONSUMED, MAX_USER_BLOCKS, SessionTurnSpec
from belay_operator.decisions.conversation import user_blocks
from belay_operator.decisions.cutting import stored_bytes
from belay_operator.decisions.picking import ROUND_BYTES, Picked, candidates, pick, responses_of
from belay_operator.observe.mailbox_records import Mail, MessageRecord

from .mailbox import MailBuilder, SessionBuilder, mail, session

LONG = "x" * MAX_CONTENT_BYTES
ROOM_FOR_BLOCKS = 16 * 1024


def picked(given: SessionBuilder, *letters: MailBuilder) -> Picked:
    """What is picked for a session."""
    return pick(given.record, [letter.mail for letter in letters])


def names(letters: Sequence[Mail]) -> list[str]:
    """Names only, for a readable comparison."""
    return [letter.record.ref.name for letter in letters]


def test_L2_an_empty_mailbox_makes_no_round() -> None:
    """Nothing is called."""
    assert picked(session()) == Picked()
    assert picked(session()).mail == ()


def test_L8_the_oldest_active_message_rides_along_and_the_next_waits() -> None:
    """In order of creation, however the list is ordered; users' and subagents' alike."""
    first, second, third = mail("first").subagent(), mail("second"), mail("third")
    found = picked(session(), third, first, second)
    assert names(found.mail) == ["first"]


def test_L7_background_mail_enters_with_an_active_message_and_before_it() -> None:
    """All of it, in order of creation, also what came later than the active message."""
    early, active, late = mail("early").background(), mail("active"), mail("late").background()
    found = picked(session(), late, active, early)
    assert names(found.mail) == ["early", "late", "active"]


def test_L7_background_mail_alone_makes_no_round() -> None:
    """It stays in the mailbox."""
    assert picked(session(), mail().background(), mail().background()).mail == ()


def test_L5_a_complete_tool_round_takes_all_its_responses_in_order_of_creation() -> None:
    """With background mail, then one active message."""
    letters = [
        mail("active"),
        mail("b's").answering("b"),
        mail("aside").background(),
        mail("a's").answering("a"),
        mail("next"),
    ]
    found = picked(session().executing("a", "b"), *reversed(letters))
    assert names(found.mail) == ["b's", "a's", "aside", "active"]


def test_L5_a_tool_round_needs_no_active_message() -> None:
    """Its responses are work enough, for background mail too (L7)."""
    found = picked(session().executing("a"), mail("aside").background(), mail("a's").answering("a"))
    assert (names(found.mail), found.active) == (["a's", "aside"], None)


@pytest.mark.parametrize(
    "letters",
    [
        pytest.param([mail().answering("a")], id="one of two responses"),
        pytest.param([mail().answering("a"), mail(), mail().background()], id="with a user's message and background"),
        pytest.param([mail()], id="no response, a user's message"),
        pytest.param([mail().answering("a"), mail().answering("b").returned(MessagePhase.PARKED)], id="one was parked"),
    ],
)
def test_L5_never_a_part_of_a_tool_round(letters: Sequence[MailBuilder]) -> None:
    """It may have been claimed by somebody who saw a response that is gone."""
    assert picked(session().executing("a", "b"), *letters).mail == ()


def test_L18_whoever_takes_over_picks_the_round_of_the_calls_that_are_still_open() -> None:
    """They stay in status while their responses are Awaiting the model."""
    found = picked(session().executing("a").awaiting(), mail("a's").answering("a"), mail("active"))
    assert names(found.mail) == ["a's", "active"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(session().executing("a"), ["first"], id="one call open"),
        pytest.param(session().executing("a", "x"), ["first", "other"], id="both calls open"),
        pytest.param(session().executing("a", "b"), ["first"], id="the round is incomplete"),
        pytest.param(session(), [], id="idle"),
    ],
)
def test_L15_a_call_has_one_response_and_a_response_to_nothing_is_none(
    given: SessionBuilder, expected: list[str]
) -> None:
    """The first counts, whatever order the list has; one to an unknown call is never told."""
    letters = [mail("first").answering("a").mail, mail("second").answering("a").mail, mail("other").answering("x").mail]
    assert names(responses_of(given.record, letters[::-1])) == expected
    in_round = [] if given.record.open_calls and len(expected) < len(given.record.open_calls) else expected
    assert names(pick(given.record, letters[::-1]).mail) == in_round


def test_L9_mail_that_was_settled_is_not_picked_again() -> None:
    """Bounced and Parked mail stays to be seen, and is read by nobody."""
    settled = [mail().returned(phase) for phase in (MessagePhase.BOUNCED, MessagePhase.PARKED)]
    aside = mail().background().returned(MessagePhase.PARKED)
    assert names(picked(session(), *settled, aside, mail("next")).mail) == ["next"]


def test_a_prompt_that_may_not_be_read_yet_holds_up_nothing() -> None:
    """Its delegation isn't InProgress: the next active message goes first."""
    letters = [mail("prompt").prompt_of("d").mail, mail("next").mail]

    def not_prompts(message: MessageRecord) -> bool:
        return message.delegation is None

    assert names(pick(session().record, letters, not_prompts).mail) == ["next"]
    assert names(pick(session().record, letters).mail) == ["prompt"]
    assert pick(session().record, letters[:1], not_prompts).mail == ()


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        pytest.param(MAX_SERVING - 1, "prompt", id="room for one more"),
        pytest.param(MAX_SERVING, "next", id="full"),
    ],
)
def test_one_delegation_more_than_a_session_can_serve_waits(served: int, expected: str) -> None:
    """Other mail passes it."""
    given = session().serving(*(f"d{n}" for n in range(served)))
    assert names(picked(given, mail("prompt").prompt_of("new"), mail("next")).mail) == [expected]


def test_a_delegation_that_is_served_already_may_say_more_when_all_are() -> None:
    """It takes no other place."""
    given = session().serving(*(f"d{n}" for n in range(MAX_SERVING)))
    assert names(picked(given, mail("again").prompt_of("d3")).mail) == ["again"]


def test_a_round_lists_what_it_settles_as_a_turn_does() -> None:
    """With type and sender."""
    letters = [mail("r").answering("a").by("d", "Delegation"), mail("b").background(), mail("u").by("jane")]
    found = picked(session().executing("a"), *letters).consumed
    assert [(c.uid, c.name, str(c.type)) for c in found] == [
        ("uid-r", "r", "ToolResponse"),
        ("uid-b", "b", "Background"),
        ("uid-u", "u", "UserMessage"),
    ]
    assert [c.source for c in found] == [Source(kind="Delegation", name="d"), None, Source(kind="User", name="jane")]


# --- a round fits into a turn ---


def test_contents_that_fit_stay_whole() -> None:
    """Up to the bound of a message, each."""
    found = picked(session().executing("a"), mail().answering("a").saying(LONG), mail().saying(LONG))
    assert [block.text for block in user_blocks(found)] == [LONG, LONG]


def test_contents_that_do_not_fit_are_cut_to_one_level_and_short_ones_stay_whole() -> None:
    """With a visible note."""
    calls = [f"c{n}" for n in range(MAX_OPEN_CALLS)]
    short = mail().answering("c0").saying("short")
    letters = [short, *(mail().answering(call).saying(LONG) for call in calls[1:]), mail().saying("go on")]
    found = picked(session().executing(*calls), *letters)
    said = [block.text or "" for block in user_blocks(found)]
    assert (said[0], said[-1]) == ("short", "go on")
    assert len({len(text) for text in said[1:-1]}) == 1
    assert all("[cut by Belay: " in text for text in said[1:-1])
    assert ROUND_BYTES * 0.95 < sum(map(stored_bytes, said)) <= ROUND_BYTES


def test_background_mail_that_does_not_fit_waits_for_the_next_round_whole() -> None:
    """In order: nothing overtakes."""
    asides = [mail(f"aside{n}").background().saying(LONG) for n in range(9)]
    found = picked(session(), *asides, mail("short").background().saying("x"), mail("active").saying(LONG))
    assert names(found.background) == [f"aside{n}" for n in range(7)]
    assert all("cut by Belay" not in (block.text or "") for block in user_blocks(found))


def test_background_mail_is_not_starved_by_long_responses() -> None:
    """One enters with every round, cut like the others."""
    calls = [f"c{n}" for n in range(9)]
    letters = [mail().answering(call).saying(LONG) for call in calls]
    found = picked(session().executing(*calls), *letters, mail("aside").background(), mail("later").background())
    assert names(found.background) == ["aside"]


@pytest.mark.parametrize("calls", [0, 1, MAX_OPEN_CALLS])
def test_a_round_has_no_more_blocks_and_messages_than_a_turn_holds(calls: int) -> None:
    """Background mail beyond it waits."""
    open_calls = [f"c{n}" for n in range(calls)]
    letters = [*(mail().answering(call) for call in open_calls), *(mail().background() for _ in range(200)), mail()]
    found = picked(session().executing(*open_calls), *letters)
    blocks = user_blocks(found)
    assert MAX_USER_BLOCKS - 1 <= len(blocks) <= MAX_USER_BLOCKS
    assert len(found.consumed) <= MAX_CONSUMED
    assert found.active is not None


CONTENTS = st.sampled_from(["", "short", "<" * 3000, "\u00fc" * 32768, LONG])


@given(st.lists(CONTENTS, max_size=12), st.lists(CONTENTS, max_size=12), CONTENTS)
def test_any_round_makes_a_turn_that_can_be_stored(responses: list[str], asides: list[str], active: str) -> None:
    """Property: its blocks are valid, and within the budget but for what blocks take themselves."""
    calls = [f"c{n}" for n in range(len(responses))]
    answers = [mail().answering(call).saying(said) for call, said in zip(calls, responses, strict=True)]
    letters = [*answers, *(mail().background().saying(said) for said in asides), mail().subagent().saying(active)]
    found = picked(session().executing(*calls), *letters)
    spec = {"sessionRef": {"name": "s"}, "sequence": 1, "outcome": "Answered"}
    made = SessionTurnSpec.model_validate({**spec, "user": user_blocks(found), "consumed": found.consumed})
    assert stored_bytes(made.model_dump_json(include={"user"})) <= 2 * ROUND_BYTES
    assert sum(stored_bytes(block.text or "") for block in made.user or ()) <= ROUND_BYTES + ROOM_FOR_BLOCKS


def test_I6_a_flooded_mailbox_is_never_read_whole() -> None:
    """Of thousands of messages those are chosen that one round can be made of, without knowing what they say."""
    flood = [mail(f"b{number}").background().saying("x" * 60_000).record for number in range(2000)]
    flood += [mail(f"u{number}").record for number in range(2000)]
    flood += [mail(f"t{number}").answering("c1").record for number in range(2000)]
    chosen = candidates(session().executing("c1", "c2").record, flood)
    assert [message.ref.name for message in chosen if message.type is not MessageType.BACKGROUND] == ["u0", "t0"]
    assert len(chosen) <= 12


def test_L5_what_is_chosen_is_picked() -> None:
    """Reading only the candidates changes nothing of the round."""
    letters = [mail("u1"), mail("b").background(), mail("t").answering("c1"), mail("u2"), mail("t2").answering("c1")]
    given = session().executing("c1").record
    chosen = {record.uid for record in candidates(given, [letter.record for letter in letters])}
    some = [letter.mail for letter in letters if letter.record.uid in chosen]
    assert pick(given, some) == pick(given, [letter.mail for letter in letters])
