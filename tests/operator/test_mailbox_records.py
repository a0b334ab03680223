"""observe/mailbox_records.py: what is kept of sessions and mail, and that it is never what is said."""

from dataclasses import asdict
from typing import Any

import pytest

from belay_api.agentsession import SessionPhase
from belay_api.conditions import ConditionType, set_condition
from belay_api.pendingmessage import MessagePhase, MessageType
from belay_api.times import to_wire
from belay_api.usage import Usage
from belay_operator.observe.mailbox_records import ClaimRecord, Mail, MessageRecord, OpenCall, SessionRecord, Spent

from .builders import at
from .mailbox import HOLDER, MailBuilder, SessionBuilder, mail, ref, session


def test_a_session_that_nothing_happened_in_is_idle() -> None:
    """Without a status: no turns, no calls, nobody served."""
    found = session().record
    assert (found.phase, found.turns, found.claim, found.open_calls, found.serving) == (
        SessionPhase.IDLE,
        0,
        None,
        (),
        (),
    )
    assert (found.ref, found.agent, found.parent, found.created) == (ref("s"), ref("a"), None, at(0))
    assert (found.usage, found.failed_rounds, found.last_error) == (Spent(), 0, None)


def test_a_claim_is_kept_as_it_is_compared() -> None:
    """renewTime stays text: it is the holder's clock (L18)."""
    assert session().awaiting(duration=7, renewed=5).record.claim == ClaimRecord(HOLDER, "t", to_wire(at(5)), 7)


def test_open_calls_are_kept_with_what_answers_them() -> None:
    """The delegation, or the permission, that a call waits for."""
    given = session().executing("c1").call("c2", timeout=9, at=3, delegation="d", permissionRequest="p")
    assert given.record.open_calls == (
        OpenCall("c1", "work", at(0)),
        OpenCall("c2", "work", at(3), 9, "d", "p"),
    )


def test_what_status_says_of_rounds_and_interrupts_is_kept() -> None:
    """All that decisions rest on."""
    status = {"turns": 4, "executor": "op", "lastError": {"reason": "Overloaded", "message": "m", "time": "t"}}
    found = session().interrupt_asked("b", observed="a").serving("d").failed("m", 2).saying(**status).record
    assert (found.turns, found.executor, found.last_error, found.serving) == (4, "op", "Overloaded", ("d",))
    assert (found.interrupt, found.interrupted, found.failed_message, found.failed_rounds) == ("b", "a", "uid-m", 2)


def test_usage_is_kept_small_and_given_back_whole() -> None:
    """As the contract has it."""
    usage = Usage(calls=1, input_tokens=2, output_tokens=3, cache_read_tokens=4, cache_write_tokens=5)
    assert session().saying(usage=usage.wire()).record.usage.usage == usage


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(session().under("d"), ref("d"), id="a delegation"),
        pytest.param(session().under("other", "AgentSession"), None, id="not a delegation"),
        pytest.param(session(), None, id="nobody"),
    ],
)
def test_a_session_knows_the_delegation_it_was_opened_for(given: SessionBuilder, expected: object) -> None:
    """parentRef, when it names a delegation."""
    assert given.record.parent == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(session(), SessionPhase.IDLE, id="idle"),
        pytest.param(session().executing("c"), SessionPhase.EXECUTING, id="executing"),
        pytest.param(session().awaiting(), SessionPhase.IDLE, id="claimed while idle"),
        pytest.param(
            session().executing("c").awaiting(), SessionPhase.EXECUTING, id="claimed with its responses there"
        ),
    ],
)
def test_L10_a_session_knows_where_it_was_claimed_from(given: SessionBuilder, expected: SessionPhase) -> None:
    """Open calls stay in status while their responses are with the model."""
    assert given.record.resting is expected


def test_conditions_are_kept_as_far_as_setting_one_needs() -> None:
    """The transition time moves only when the status does."""
    told = set_condition([], ConditionType.BLOCKED, True, "AgentMissing", "create it", at(0))
    found = session().saying(conditions=told).record
    again = set_condition(found.conditions, ConditionType.BLOCKED, True, "AgentMissing", "create it", at(9))
    assert again == told
    assert found.conditions_kept[0].reason == "AgentMissing"


def test_a_message_is_kept_without_what_it_says() -> None:
    """Only how much it is."""
    found = mail().saying("grüße").by("jane").bouncing().owned().record
    assert "grüße" not in str(asdict(found))
    assert (found.size, found.source_kind, found.source_name) == (7, "User", "jane")
    assert (found.type, found.phase, found.bounce_back, found.owned) == (
        MessageType.USER,
        MessagePhase.PENDING,
        True,
        True,
    )
    assert (found.session, found.tool_use_id, found.created) == (ref("s"), None, at(0))


def test_L8_a_message_keeps_its_place_when_it_is_written_to() -> None:
    """An owner reference gives it another resourceVersion; in order of creation it stays where it was."""
    first, second = mail("first"), mail("second")
    again = MessageRecord.read({**first.obj, "metadata": {**first.obj["metadata"], "resourceVersion": "99999"}})
    assert again.order > second.record.order
    assert again.in_place_of(first.record).order == first.record.order < second.record.order
    assert again.in_place_of(first.record).version == "99999"


def test_L8_mail_that_is_read_takes_the_place_it_was_first_seen_in() -> None:
    """Unless it is another message of the same name."""
    first = mail()
    seen = first.record
    later = {**first.obj, "metadata": {**first.obj["metadata"], "resourceVersion": "99999"}}
    other = {**later, "metadata": {**later["metadata"], "uid": "other"}}
    orders = [Mail.read(obj, known).record.order for obj, known in ((later, seen), (later, None), (other, seen))]
    assert orders == [seen.order, 99999, 99999]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(mail().prompt_of("d"), "d", id="a prompt"),
        pytest.param(mail().by("jane"), None, id="a user's"),
        pytest.param(mail(), None, id="nobody's"),
        pytest.param(mail().by("d", "Delegation").background(), None, id="in the background"),
        pytest.param(mail().by("d", "Delegation").answering("c"), None, id="its end, as a tool's response"),
    ],
)
def test_a_message_knows_whose_prompt_it_is(given: MailBuilder, expected: str | None) -> None:
    """Only an active message of a delegation is its prompt."""
    assert given.record.delegation == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(mail().answering("c"), True, id="nothing said: it did its work"),
        pytest.param(mail().answering("c", success=True), True, id="it did"),
        pytest.param(mail().answering("c", success=False), False, id="it did not"),
    ],
)
def test_a_response_tells_whether_the_tool_did_its_work(given: MailBuilder, expected: bool) -> None:
    """spec.success."""
    assert given.mail.success is expected


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"metadata": session().obj["metadata"], "spec": {}}, id="no agent"),
        pytest.param({**session().obj, "status": {"phase": "Odd"}}, id="unknown phase"),
        pytest.param({**session().obj, "status": {"openToolCalls": [{"id": "c"}]}}, id="half a call"),
    ],
)
def test_what_is_no_session_is_refused(broken: dict[str, Any]) -> None:
    """By KeyError or ValueError, which whoever reads many expects."""
    with pytest.raises((KeyError, ValueError)):
        SessionRecord.read(broken)
