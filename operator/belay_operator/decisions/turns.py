"""Turns as they are made: one for every outcome that changes a message's fate (DESIGN.md section 5). Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from belay_api.pendingmessage import SessionRef
from belay_api.reasons import SessionReason
from belay_api.session_words import interrupted_by_ends, interrupted_by_request
from belay_api.sessionturn import Block, SessionTurnSpec, TurnOutcome
from belay_operator.decisions import picking, rounds
from belay_operator.decisions.interrupts import interrupted_blocks, is_asked_for
from belay_operator.decisions.picking import Picked
from belay_operator.drain.llm.base import Answer
from belay_operator.observe.mailbox_records import Mail, MessageRecord, SessionRecord

_MOST_TAKEN_OUT = 96
"""Beside them a turn has room for the responses of a whole round."""


@dataclass(frozen=True)
class Span:
    """When a half-step began and was over."""

    started: datetime
    completed: datetime


def answered(
    session: SessionRecord, picked: Picked, user: Sequence[Block], said: Sequence[Block], answer: Answer, span: Span
) -> SessionTurnSpec:
    """What the model said (`said`: with the ids of its calls filled in) to what it was told (L4)."""
    return SessionTurnSpec(
        session_ref=SessionRef(name=session.ref.name),
        sequence=session.turns + 1,
        outcome=TurnOutcome.ANSWERED,
        user=list(user),
        assistant=list(said),
        consumed=picked.consumed,
        model=answer.model,
        usage=answer.usage.model_copy(update={"calls": 1}),
        stop_reason=answer.stop_reason,
        started_time=span.started,
        completed_time=span.completed,
    )


def returned(session: SessionRecord, verdict: rounds.Bounce | rounds.Park, span: Span) -> SessionTurnSpec:
    """Mail that can't be answered: back to its sender (L9), or put aside (L10)."""
    outcome = TurnOutcome.BOUNCED if isinstance(verdict, rounds.Bounce) else TurnOutcome.PARKED
    return _settled(session, outcome, verdict.reason, verdict.message, [m.record for m in verdict.mail], span)


def interrupted(
    session: SessionRecord,
    mail: Sequence[Mail],
    dead: Iterable[MessageRecord],
    lost: frozenset[str],
    active: MessageRecord | None,
    span: Span,
) -> SessionTurnSpec:
    """A round that was cut short (L17): the open calls are answered, what they were answered with (among `mail`) and
    the message under way are settled, and so are `dead` prompts; `lost`: delegations that ended, by name."""
    responses = picking.responses_of(session, mail)
    settled = {m.record.uid: m.record for m in responses}
    if active:
        settled[active.uid] = active
    settled |= {record.uid: record for record in dead}
    reason, why = _why(session, lost)
    made = _settled(session, TurnOutcome.INTERRUPTED, reason, why, list(settled.values()), span)
    return made.model_copy(update={"user": interrupted_blocks(session, responses) or None})


def taken_out(session: SessionRecord, dead: Sequence[MessageRecord], span: Span) -> SessionTurnSpec:
    """Prompts whose delegations have ended before they were read; what the session is at goes on."""
    why = interrupted_by_ends(record.delegation for record in dead if record.delegation)
    return _settled(session, TurnOutcome.INTERRUPTED, SessionReason.DELEGATION_ENDED, why, dead, span)


def abandoned(mail: Iterable[MessageRecord], lost: frozenset[str]) -> list[MessageRecord]:
    """The prompts in a mailbox that nobody waits for, as many as one turn takes out."""
    return [message for message in mail if message.pending and message.delegation in lost][:_MOST_TAKEN_OUT]


def _why(session: SessionRecord, lost: frozenset[str]) -> tuple[SessionReason, str]:
    if is_asked_for(session):
        return SessionReason.INTERRUPTED, interrupted_by_request()
    return SessionReason.DELEGATION_ENDED, interrupted_by_ends(lost)


def _settled(
    session: SessionRecord,
    outcome: TurnOutcome,
    reason: str,
    message: str,
    records: Sequence[MessageRecord],
    span: Span,
) -> SessionTurnSpec:
    return SessionTurnSpec(
        session_ref=SessionRef(name=session.ref.name),
        sequence=session.turns + 1,
        outcome=outcome,
        reason=reason,
        message=message[:1024],
        consumed=[picking.consumed(record) for record in records],
        started_time=span.started,
        completed_time=span.completed,
    )
