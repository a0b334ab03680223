"""What a Model agent's session makes of the delegations it works on: taken, beating, answered, failed (DESIGN.md 5).

The operator is the holder here, so it draws the arrows that a gateway draws for a socket. Each function decides on one
delegation as it was read; what isn't the session's any more is left alone, so all of it can be done twice.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from belay_api import handover_words as words
from belay_api.agentsession import SessionPhase
from belay_api.conditions import ConditionType, condition_is_true, set_condition
from belay_api.delegation import MAX_TEXT_BYTES
from belay_api.ending import ended_by_others
from belay_api.names import prompt_message_name, turn_name
from belay_api.reasons import Reason, model_answered, model_took
from belay_api.sessionturn import TurnOutcome
from belay_api.times import to_wire
from belay_api.transitions import HELD, Phase
from belay_operator.decisions.cutting import clean
from belay_operator.decisions.landing import phase_after, prompts, said, tool_calls
from belay_operator.decisions.retry import next_attempt
from belay_operator.decisions.view import Change
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord
from belay_operator.observe.records import Work

Json = dict[str, Any]
PROGRESS_SECONDS = 5.0
"""Least time between two writes of changed progress."""
_SHOWN_CHARS = 512
_MESSAGE_CHARS = 1024
_COMPLETE = frozenset({"end_turn", "stop_sequence"})
"""Stop reasons of a whole answer; any other but a refusal is said with it."""
_REFUSAL = "refusal"


# --- the prompt ---


def content(prompt: str, inputs: Mapping[str, str]) -> str:
    """What the model is told of a delegation, at most 64 KiB of UTF-8: the prompt, and the inputs as one line of JSON
    each, between `<inputs>` and `</inputs>` on lines of their own, which no line of an input can be.

    Inputs that don't fit are left out from the end, and that is said. A prompt that fills everything is cut for that.
    """
    prompt, lines = clean(prompt), [clean(f"{_quoted(name)}: {_quoted(value)}") for name, value in inputs.items()]
    for kept in range(len(lines), -1, -1):
        text = prompt + _block(lines[:kept], len(lines))
        if len(text.encode()) <= MAX_TEXT_BYTES:
            return text
    note = _block([], len(lines))
    return _begin(prompt, MAX_TEXT_BYTES - len(note.encode())) + note


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _block(lines: list[str], number: int) -> str:
    if not number:
        return ""
    note = [words.inputs_left_out(number - len(lines), number)] if len(lines) < number else []
    return "\n".join(["\n", "<inputs>", *lines, *note, "</inputs>"])


def _begin(text: str, size: int) -> str:
    """As much of `text` as `size` bytes hold."""
    return text.encode()[: max(0, size)].decode(errors="ignore")


# --- whose it is ---


def holds(session: SessionRecord, work: Work) -> bool:
    """Whether `work` is in the hands of this session."""
    return (
        work.agent == session.agent
        and work.holder == session.ref.name
        and work.phase in HELD
        and work.handed_back is None
    )


def prompt_name(session: SessionRecord, work: Work) -> str:
    """The message that brings the prompt of its present attempt."""
    return prompt_message_name(session.uid, work.uid, work.attempt)


# --- its course ---


def is_at_work(session: SessionRecord) -> bool:
    """Whether what it serves is worked on. Once the model is asked nothing blocks it, though its condition says so
    until the answer proves it."""
    if session.phase is SessionPhase.EXECUTING:
        return not condition_is_true(session.conditions, ConditionType.BLOCKED)
    return session.phase is SessionPhase.AWAITING


def took(session: str, now: datetime) -> Change:
    """Its prompt is in the mailbox. No beat: what waits there is not at work yet."""
    fields = {"sessionId": session, "acceptedTime": to_wire(now)}
    return Change(Phase.IN_PROGRESS, Reason.ACCEPTED, model_took(session), fields)


@dataclass(frozen=True)
class Beat:
    """A beat to be written now, if any; and when the next one is due."""

    change: Change | None
    due: datetime


def beat(work: Work, session: str, progress: str | None, told: str | None, now: datetime, threshold: int) -> Beat:
    """What a session at work says of `work`: `progress` is how far it is, `told` what was written of that before."""
    last = work.beat or work.dispatched or now
    period = timedelta(seconds=threshold / 4)
    changed = progress is not None and progress != told
    soonest = last + timedelta(seconds=PROGRESS_SECONDS) if changed else last + period
    due = min(soonest, last + period)
    if now < due and work.phase is not Phase.STUCK:
        return Beat(None, due)
    fields: Json = {"lastHeartbeatTime": to_wire(now)}
    if changed and progress is not None:
        fields["progress"] = {"percent": None, "message": progress[-_MESSAGE_CHARS:]}
    reason, message = Reason.ACCEPTED, model_took(session)
    if work.phase is Phase.STUCK:
        reason, message = Reason.RESUMED, words.beats_again(session)
    return Beat(Change(Phase.IN_PROGRESS, reason, message, fields), now + period)


def may_be_with(session: SessionRecord, work: Work, prompt: MessageRecord | None) -> bool:
    """Whether a session works on `work` or will, `prompt` being what is in its mailbox. While it is Awaiting nothing
    can be told: between a turn and the release the prompt is read, and `serving` doesn't say so yet."""
    if session.phase is SessionPhase.AWAITING or work.ref.name in session.serving:
        return True
    return prompt is not None and prompt.pending


# --- its end ---


def concerned(session: SessionRecord, turn: Mapping[str, Any]) -> list[str]:
    """The delegations that a turn ends, by name: whose prompts it settles, and all that are served if nothing more is
    to come. An answer that calls tools ends none."""
    if tool_calls(turn):
        return []
    served = session.serving if phase_after(session, turn) is SessionPhase.IDLE else ()
    return list(dict.fromkeys([*served, *prompts(turn)]))


def end(work: Work, session: SessionRecord, turn: Mapping[str, Any], now: datetime) -> Change | None:
    """What a turn that concerns `work` makes of it. What a person interrupts is not tried again (L17)."""
    match turn["outcome"]:
        case TurnOutcome.ANSWERED:
            return answered(work, session, turn)
        case TurnOutcome.INTERRUPTED:
            return failed(work, session, turn.get("message") or "", now, again=False)
        case _:
            return failed(work, session, turn.get("message") or "", now)


def answered(work: Work, session: SessionRecord, turn: Mapping[str, Any]) -> Change | None:
    """The end of `work` by the final answer of its session (D8)."""
    if not holds(session, work):
        return None
    stop = turn.get("stopReason")
    if stop == _REFUSAL:
        message = words.refused_in(session.ref.name, said(turn)[:_SHOWN_CHARS])
        return Change(Phase.FAILED, Reason.MODEL_REFUSED, message)
    message = model_answered(session.ref.name) + (words.incomplete(stop) if stop and stop not in _COMPLETE else "")
    result = {"text": result_text(said(turn), session, turn["sequence"])}
    return Change(Phase.COMPLETED, Reason.COMPLETED, message, {"result": result})


def result_text(text: str, session: SessionRecord, sequence: int) -> str:
    """The words of an answer as a result holds them: 64 KiB, and where the rest is."""
    text = clean(text)
    size = len(text.encode())
    if size <= MAX_TEXT_BYTES:
        return text
    note = words.answer_cut(size, turn_name(session.ref.name, sequence), session.ref.namespace)
    return _begin(text, MAX_TEXT_BYTES - len(note.encode())) + note


def failed(work: Work, session: SessionRecord, why: str, now: datetime, *, again: bool = True) -> Change | None:
    """Its session came to nothing: the next attempt, where `spec.retry` allows one and `again`, else Failed."""
    if not holds(session, work):
        return None
    why = why or words.came_to_nothing(session.ref.name)
    if again and work.tries.may_follow(Reason.MODEL_FAILED):
        return next_attempt(work, Reason.MODEL_FAILED, why, now)
    return Change(Phase.FAILED, Reason.MODEL_FAILED, why[:_MESSAGE_CHARS])


def stopped(status: Mapping[str, Any], session: str, now: datetime) -> list[Json] | None:
    """The conditions of work that others ended, once its session works on it no more; None: nothing is to be proven
    (D9)."""
    conditions = list(status.get("conditions") or [])
    owed = ended_by_others(status) and status.get("sessionId") == session
    if not owed or condition_is_true(conditions, ConditionType.CANCEL_ACKNOWLEDGED):
        return None
    for kind, reason, message in (
        (ConditionType.CANCEL_DELIVERED, "Delivered", words.told_to(session)),
        (ConditionType.CANCEL_ACKNOWLEDGED, "Acknowledged", words.stopped_in(session)),
    ):
        conditions = set_condition(conditions, kind, True, reason, message, now)
    return conditions
