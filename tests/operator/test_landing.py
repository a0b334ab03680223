"""landing.py: where a session stands after a turn, from the turn alone (L16, L18)."""

from typing import Any

import pytest

from belay_api.agentsession import SessionPhase
from belay_api.sessionturn import TurnOutcome
from belay_operator.decisions.landing import (
    call_wire,
    error_wire,
    landed,
    phase_after,
    prompts,
    said,
    serving_after,
    tool_calls,
)
from belay_operator.observe.mailbox_records import OpenCall

from .builders import at
from .mailbox import Json, SessionBuilder, result, session, text, turn, use

IDLE, EXECUTING = SessionPhase.IDLE, SessionPhase.EXECUTING
MESSAGE = {"uid": "u1", "name": "m1", "type": "UserMessage"}
RESPONSE = {"uid": "u2", "name": "r1", "type": "ToolResponse"}
PROMPT = {**MESSAGE, "source": {"kind": "Delegation", "name": "d"}}

WORDS = turn([text("hi")], [text("well")])
CALLS = turn([text("hi")], [text("well"), use("c"), use("e")])
SILENT = turn([text("hi")], [])


def settled(outcome: TurnOutcome, *consumed: Json, user: Any = ()) -> Json:
    """A turn that was not answered."""
    return {**turn(list(user), None, outcome), "consumed": list(consumed)}


BOUNCED = settled(TurnOutcome.BOUNCED, PROMPT)
PARKED = settled(TurnOutcome.PARKED, MESSAGE)
PARKED_ROUND = settled(TurnOutcome.PARKED, RESPONSE)
CUT = settled(TurnOutcome.INTERRUPTED, MESSAGE)
CUT_CALLS = settled(TurnOutcome.INTERRUPTED, RESPONSE, user=[result("c", "interrupted", failed=True)])
TAKEN_OUT = settled(TurnOutcome.INTERRUPTED, PROMPT)


@pytest.mark.parametrize(
    ("given", "then", "expected"),
    [
        pytest.param(session().awaiting(), WORDS, IDLE, id="words"),
        pytest.param(session().executing("x").awaiting(), WORDS, IDLE, id="words after tools"),
        pytest.param(session().awaiting(), CALLS, EXECUTING, id="calls"),
        pytest.param(session().executing("x").awaiting(), CALLS, EXECUTING, id="calls after tools"),
        pytest.param(session().awaiting(), SILENT, IDLE, id="nothing said"),
        pytest.param(session().awaiting(), BOUNCED, IDLE, id="bounced, from Idle"),
        pytest.param(session().executing("x").awaiting(), BOUNCED, EXECUTING, id="bounced: the tool round is left"),
        pytest.param(session().awaiting(), PARKED, IDLE, id="parked, from Idle"),
        pytest.param(session().executing("x").awaiting(), PARKED, EXECUTING, id="parked: the tool round is left"),
        pytest.param(session().executing("x").awaiting(), PARKED_ROUND, IDLE, id="a tool round parked"),
        pytest.param(session().awaiting(), CUT, IDLE, id="cut short, from Idle"),
        pytest.param(session().executing("c").awaiting(), CUT_CALLS, IDLE, id="open calls cut short"),
        pytest.param(session().executing("c").awaiting(), TAKEN_OUT, EXECUTING, id="a prompt taken out: calls go on"),
        pytest.param(session().awaiting(), TAKEN_OUT, IDLE, id="a prompt taken out, from Idle"),
    ],
)
def test_L16_where_a_session_stands_after_a_turn(given: SessionBuilder, then: Json, expected: SessionPhase) -> None:
    """Whoever computes it, before or after a crash."""
    assert phase_after(given.record, then) is expected
    status = landed(given.record, {**then, "sequence": 7}, [], "me", at(5))
    assert [status["phase"], status["turns"]] == [str(expected), 7]
    assert (status["executor"] == "me") is bool(tool_calls(then))
    assert (status["openToolCalls"] is not None) is (expected is EXECUTING)


@pytest.mark.parametrize(
    ("given", "then", "expected"),
    [
        pytest.param(session().serving("a"), {**WORDS, "consumed": [PROMPT]}, [], id="the end has come"),
        pytest.param(session(), {**CALLS, "consumed": [PROMPT]}, ["d"], id="a prompt enters"),
        pytest.param(
            session().executing("x").serving("a"), {**CALLS, "consumed": [PROMPT]}, ["a", "d"], id="one more enters"
        ),
        pytest.param(session().serving("d"), {**CALLS, "consumed": [PROMPT]}, ["d"], id="it is served already"),
        pytest.param(session().executing("x").serving("a"), BOUNCED, ["a"], id="what bounces never enters"),
        pytest.param(session().executing("x").serving("a"), TAKEN_OUT, ["a"], id="nor does what is taken out"),
        pytest.param(session().executing("c").serving("a"), CUT_CALLS, [], id="cut short: nobody waits any more"),
        pytest.param(session().executing("c").serving("a"), PARKED_ROUND, [], id="parked: it came to nothing"),
    ],
)
def test_who_waits_for_the_end_after_a_turn(given: SessionBuilder, then: Json, expected: list[str]) -> None:
    """Delegations whose prompts have entered the conversation, until it lands in Idle."""
    assert serving_after(given.record, then) == expected


def test_no_more_are_served_than_a_status_holds() -> None:
    """Those that were there first."""
    many = [f"d{n}" for n in range(64)]
    after = serving_after(session().executing("x").serving(*many).record, {**CALLS, "consumed": [PROMPT]})
    assert after == many


def test_L14_the_calls_of_a_turn_are_those_of_an_answer() -> None:
    """What another outcome holds was never asked for."""
    assert [block["toolUseId"] for block in tool_calls(CALLS)] == ["c", "e"]
    assert tool_calls({**CALLS, "outcome": "Interrupted"}) == []
    assert tool_calls(WORDS) == []
    assert tool_calls({"outcome": "Answered"}) == []


def test_the_words_of_an_answer_are_all_of_its_texts() -> None:
    """And nothing else."""
    assert said(turn([text("hi")], [text("one "), use("c"), text("two")])) == "one two"
    assert said({"outcome": "Bounced"}) == ""


def test_the_prompts_that_a_turn_settles() -> None:
    """Active mail of delegations; a tool's response bears the name of one, too."""
    of_tool = {**RESPONSE, "source": {"kind": "Tool", "name": "delegate"}}
    background = {**PROMPT, "type": "Background"}
    assert prompts({"consumed": [MESSAGE, PROMPT, of_tool, background]}) == ["d"]
    assert prompts({}) == []


def test_L10_an_answer_ends_what_was_failing() -> None:
    """And a return does, for the message is gone; it says why instead."""
    given = session().failed("m1", 3).saying(lastError={"reason": "x", "message": "y", "time": "2020-01-01T00:00:00Z"})
    status = landed(given.record, {**WORDS, "sequence": 1}, [], "me", at(5))
    assert [status["failedMessage"], status["failedRounds"], status["lastError"]] == [None, None, None]
    why = {"reason": "Rejected", "message": "no"}
    status = landed(given.record, {**PARKED, **why, "sequence": 1}, [], "me", at(5))
    assert [status["failedMessage"], status["failedRounds"]] == [None, None]
    assert status["lastError"] == error_wire("Rejected", "no", at(5))


def test_L4_what_a_turn_cost_is_added() -> None:
    """Nothing for one that wasn't answered."""
    given = session().spent(2).record
    usage = {"calls": 1, "inputTokens": 10}
    assert landed(given, {**WORDS, "sequence": 1, "usage": usage}, [], "me", at(0))["usage"]["calls"] == 3
    assert landed(given, {**WORDS, "sequence": 1, "usage": usage}, [], "me", at(0))["usage"]["inputTokens"] == 10
    assert landed(given, {**PARKED, "sequence": 1}, [], "me", at(0))["usage"]["calls"] == 2


def test_L6_a_round_that_is_left_keeps_its_open_calls() -> None:
    """Those of the answer before; an answer brings its own."""
    given = session().executing("x").awaiting().record
    assert [call["id"] for call in landed(given, {**BOUNCED, "sequence": 1}, [], "me", at(0))["openToolCalls"]] == ["x"]
    made = [OpenCall("c", "work", at(1), timeout=5, delegation="d", permission="p")]
    assert landed(given, {**CALLS, "sequence": 1}, made, "me", at(0))["openToolCalls"] == [call_wire(made[0])]


@pytest.mark.parametrize(
    ("given", "then", "noted"),
    [
        pytest.param(session().interrupt_asked("1"), CUT, True, id="cut short"),
        pytest.param(session().interrupt_asked("1"), WORDS, False, id="the answer was there first"),
        pytest.param(session().interrupt_asked("1"), BOUNCED, False, id="bounced"),
        pytest.param(session(), CUT, False, id="nobody asked for it"),
    ],
)
def test_L17_an_interrupt_is_noted_by_the_turn_that_does_it(given: SessionBuilder, then: Json, *, noted: bool) -> None:
    """No other: it is still to be done."""
    status = landed(given.record, {**then, "sequence": 1}, [], "me", at(0))
    assert ("observedInterruptRequest" in status) is noted
    assert not noted or status["observedInterruptRequest"] == "1"


def test_a_call_is_written_without_what_it_lacks() -> None:
    """The API server takes no null in a list."""
    assert set(call_wire(OpenCall("c", "work", at(0)))) == {"id", "tool", "startedTime"}


def test_an_error_is_written_as_far_as_there_is_room() -> None:
    """1024 characters."""
    assert len(error_wire("x", "y" * 5000, at(0))["message"]) == 1024


def test_L17_a_request_is_noted_by_the_turn_that_cut_the_round_short_and_by_no_other() -> None:
    """One that took a prompt out of the mailbox left the calls open: what is asked for is still to be done."""
    given = session().executing("c").awaiting().interrupt_asked("1").record
    taken_out = settled(TurnOutcome.INTERRUPTED, PROMPT)
    cut = settled(TurnOutcome.INTERRUPTED, PROMPT, user=[result("c", failed=True)])
    assert "observedInterruptRequest" not in landed(given, numbered(taken_out), [], "o", at(0))
    assert landed(given, numbered(cut), [], "o", at(0))["observedInterruptRequest"] == "1"


def test_L14_who_runs_the_open_calls_changes_with_an_answer_only() -> None:
    """Another may finish a turn that leaves them open: what may have run is not run again by that."""
    given = session().executing("c").awaiting().saying(executor="first").record
    assert landed(given, numbered(PARKED), [], "second", at(0))["executor"] == "first"
    assert landed(given, numbered(CALLS), [OpenCall("c", "work", at(0))], "second", at(0))["executor"] == "second"


def numbered(given: Json) -> Json:
    """The turn as the next of its session."""
    return {**given, "sequence": 1}
