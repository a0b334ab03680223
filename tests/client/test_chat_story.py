"""What `belay chat` makes of turns, and of text that grows (pure)."""

import io
from typing import Any

import pytest
from rich.console import Console

from belay_client.chat_screen import Plain, screen
from belay_client.chat_story import End, Line, Now, Story, Tone, Verdict
from belay_client.chat_words import clean, more, short
from belay_kube.client import Json
from client.played_drain import call, result, text

MINE = {"uid": "mine", "name": "m1", "type": "UserMessage"}
OTHERS = {"uid": "other", "name": "m2", "type": "UserMessage", "source": {"kind": "User", "name": "pat"}}
RESPONSE = {"uid": "r", "name": "r1", "type": "ToolResponse"}


def story() -> Story:
    """The story of message `mine`."""
    meta = {"name": "s", "namespace": "ns", "uid": "s-uid"}
    session = {"metadata": meta, "spec": {"agentRef": {"name": "m"}}}
    return Story(session, {"metadata": {"name": "m1", "uid": "mine"}, "spec": {}})


def turn(number: int, outcome: str = "Answered", consumed: tuple[Json, ...] = (), **spec: Any) -> Json:
    """One turn."""
    return {"spec": {"sequence": number, "outcome": outcome, "consumed": list(consumed), **spec}}


CALLS = turn(1, consumed=(MINE,), assistant=[text("let me ask"), call("u1")])
ANSWER = turn(2, consumed=(RESPONSE,), user=[result("u1", "ok")], assistant=[text("a"), text("b")])
WHY: dict[str, Any] = {"reason": "R", "message": "because"}


@pytest.mark.parametrize(
    ("turns", "verdict"),
    [
        ([], None),
        ([turn(1, consumed=(OTHERS,), assistant=[text("to pat")])], None),
        ([CALLS], None),
        ([CALLS, ANSWER], Verdict(End.ANSWERED, "ab")),
        ([ANSWER, CALLS], Verdict(End.ANSWERED, "ab")),
        ([CALLS, turn(2, "Bounced", (OTHERS,), **WHY)], None),
        ([CALLS, turn(2, "Interrupted", (OTHERS,), **WHY)], None),
        ([CALLS, turn(2, "Parked", (RESPONSE,), **WHY)], Verdict(End.RETURNED, "Parked (R): because")),
        (
            [CALLS, turn(2, "Interrupted", user=[result("u1", "interrupted", failed=True)], **WHY)],
            Verdict(End.INTERRUPTED, "Interrupted (R): because"),
        ),
        ([turn(1, "Bounced", (MINE,), **WHY)], Verdict(End.RETURNED, "Bounced (R): because")),
        ([turn(1, "Parked", (MINE,))], Verdict(End.RETURNED, "Parked")),
        ([turn(1, "Interrupted", (MINE,))], Verdict(End.INTERRUPTED, "Interrupted")),
        ([turn(1, "Interrupted", (OTHERS,)), turn(2, consumed=(MINE,))], Verdict(End.ANSWERED, "")),
    ],
    ids=[
        "nothing yet",
        "another's answer",
        "calls",
        "answer after calls",
        "answer heard of first",
        "another's message bounced meanwhile",
        "another's prompt taken out meanwhile",
        "L10 its tool responses parked",
        "L17 its calls interrupted",
        "L9 bounced",
        "L10 parked",
        "L17 interrupted before an answer",
        "an answer without words",
    ],
)
def test_L9_L10_L17_how_it_ends(turns: list[Json], verdict: Verdict | None) -> None:
    """Judged over all turns by their numbers, in whatever order they are heard of."""
    told = story()
    for heard in turns:
        told.turn(heard)
    assert told.verdict() == verdict


def test_L7_background_mail_is_told_by_its_sender() -> None:
    """It comes as a call of a tool named after the sender."""
    heard = [call("mail_1", "from_ci"), result("mail_1", "build 7 is red")]
    lines = story().turn(turn(1, consumed=(MINE,), user=heard, assistant=[call("u1", "reply", "x" * 300)]))
    assert lines == [
        Line(Tone.RESPONSE, "from_ci says: build 7 is red"),
        Line(Tone.CALL, f"calls reply {'x' * 200}…"),
        Line(Tone.TURN, "turn 1: Answered"),
    ]


def test_L8_anothers_turn_is_told_as_such() -> None:
    """With what was said to them: the conversation is one."""
    lines = story().turn(turn(1, consumed=(OTHERS,), assistant=[text("hello pat")]))
    words = ["turn 1 is about a message of User pat", "hello pat", "turn 1: Answered"]
    assert [line.text for line in lines] == words


def test_L5_a_response_is_told_once() -> None:
    """As mail, and not again in the turn that reads it; what failed is said to have failed."""
    told = story()
    told.turn(CALLS)
    spec = {"type": "ToolResponse", "toolUseId": "u1", "content": "no\nroom", "success": False}
    assert told.message({"spec": spec}) == [Line(Tone.RESPONSE, "delegate failed: no room")]
    assert [line.tone for line in told.turn(ANSWER)] == [Tone.TURN]


def test_L10_L11_L14_what_stands_is_told_once() -> None:
    """A permission, a delegation, an error, a condition; the condition again when it was false meanwhile."""
    calls = [
        {"id": "u1", "tool": "delegate", "delegation": "d1"},
        {"id": "u2", "tool": "delegate", "delegation": "d2", "permissionRequest": "p2"},
    ]
    blocked = {"type": "Blocked", "status": "True", "reason": "CallsExhausted", "message": "raise it"}
    status = {
        "phase": "Executing",
        "openToolCalls": calls,
        "lastError": {"reason": "R", "message": "m", "time": "t"},
        "conditions": [blocked],
    }
    told = story()
    assert [line.text for line in told.session({"status": status})] == [
        "delegate is d1: belay why d1 -n ns",
        "delegate waits for permission: belay approve p2 -n ns, or belay deny",
        "no answer (R): m",
        "Blocked (CallsExhausted): raise it",
    ]
    assert told.session({"status": status}) == []
    assert told.now == Now("waits for delegate")
    assert told.session({"status": status | {"conditions": [blocked | {"status": "False"}]}}) == []
    assert len(told.session({"status": status})) == 1


@pytest.mark.parametrize(
    ("before", "now", "piece"),
    [
        ("", "Once", "Once"),
        ("Once", "Once upon", " upon"),
        ("Once upon", "upon a time", " a time"),
        ("Once", "Once", ""),
        ("Once", "", ""),
        ("abc", "xyz", "xyz"),
    ],
    ids=["begins", "grows", "its end moves on", "stands", "is over", "nothing in common"],
)
def test_what_grows_is_told_as_far_as_it_says_more(before: str, now: str, piece: str) -> None:
    """Only the end of the text is known at each time."""
    assert more(before, now) == piece


def test_plain_lines_grow(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for what came, nothing for what stands."""
    plain = Plain()
    for progress in ("Once", "Once", "Once upon\na", None, "Anew"):
        plain.show(Now("answers", progress))
    assert capsys.readouterr().err.splitlines() == ["… Once", "…  upon a", "… Anew"]


def test_a_terminal_has_news_above_a_live_line() -> None:
    """Both there, and no markup or control characters of a model's in it."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, highlight=False, markup=False)
    with screen("m", console) as live:
        live.show(Now("answers", "Once [bold]upon\x07"))
        live.tell(Line(Tone.CALL, "calls delegate {}"))
    shown = out.getvalue()
    assert "calls delegate {}" in shown
    assert "\x07" not in shown


def test_words_do_not_steer_the_terminal() -> None:
    """Lines and tabs stay where a text has several lines; elsewhere there is one."""
    assert clean("a\tb\nc\x1b[2J\r") == "a\tb\nc [2J "
    assert short("a\nb\x1b") == "a b "
