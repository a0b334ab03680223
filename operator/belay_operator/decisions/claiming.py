"""Whether a session's mailbox may be drained now: an ordered chain of hindrances, the first one wins (L1 to L7, L18).

A dead holder's session is claimed in any case: what it left half done is finished, also where no answer may be had.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from belay_api.agent import Runtime
from belay_api.agentsession import SessionPhase
from belay_api.pendingmessage import MessageType
from belay_api.reasons import SessionReason, agent_missing, agent_suspended
from belay_api.session_words import calls_exhausted, calls_open, claimed, not_a_model
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord
from belay_operator.observe.records import AgentRecord

Pickable = Callable[[MessageRecord], bool]
"""Whether an active message may be read now: a Delegation's prompt only once that is InProgress."""


@dataclass(frozen=True)
class NotYet:
    """It may not; with a `reason` mail waits for somebody to do something, which condition Blocked says."""

    reason: SessionReason | None = None
    message: str = ""
    until: float | None = None
    """Seconds after which it is worth asking again; None: something must happen first."""


@dataclass(frozen=True)
class Claimable:
    """It may be claimed."""

    takeover: bool = False
    """Its holder died: the turn it may have made comes first (L16, L18)."""
    hindrance: NotYet | None = None
    """Of a takeover: why no answer may be asked for; it is released as soon as what was left is finished."""


Verdict = Claimable | NotYet


def any_message(message: MessageRecord) -> bool:
    """Where nothing holds prompts back."""
    return message.active


def verdict(
    session: SessionRecord | None,
    mail: Sequence[MessageRecord],
    agent: AgentRecord | None,
    claim_age: float | None = None,
    blocked: NotYet | None = None,
    pickable: Pickable = any_message,
) -> Verdict:
    """Whether `session` may be claimed; nothing is written of it otherwise, but for condition Blocked.

    `claim_age`: seconds since its claim moved, by the observer's clock; None: not seen yet. `blocked`: what else stands
    against a call, such as a refused key (L11) or the wait after a failed round (L10).
    """
    if session is None or session.leaving:
        return NotYet()
    if session.phase is SessionPhase.AWAITING:
        return _held(session, claim_age) or Claimable(takeover=True, hindrance=hindrance(session, agent, blocked))
    return without_work(session, mail, pickable) or hindrance(session, agent, blocked) or Claimable()


def _held(session: SessionRecord, claim_age: float | None) -> NotYet | None:
    """L3: somebody's claim is alive, for all that we saw of it (L18)."""
    claim = session.claim
    if claim is None:
        return None
    left = claim.duration - (claim_age or 0.0)
    return NotYet(message=claimed(claim.holder), until=left) if left > 0 else None


def without_work(session: SessionRecord, mail: Sequence[MessageRecord], pickable: Pickable) -> NotYet | None:
    """An open round lacks a response (L6), or there is nothing but background mail, or none (L2, L7)."""
    if session.open_calls:
        missing = len(unanswered(session, mail))
        return NotYet(message=calls_open(missing)) if missing else None
    works = any(message.pending and message.active and pickable(message) for message in mail)
    return None if works else NotYet()


def unanswered(session: SessionRecord, mail: Sequence[MessageRecord]) -> list[str]:
    """Ids of the open calls that have no response in the mailbox."""
    responses = {m.tool_use_id for m in mail if m.pending and m.type is MessageType.TOOL_RESPONSE}
    return [call.id for call in session.open_calls if call.id not in responses]


def hindrance(session: SessionRecord, agent: AgentRecord | None, blocked: NotYet | None = None) -> NotYet | None:
    """Why no answer may be asked for, though there is work."""
    ref = session.agent
    if agent is None:
        return NotYet(SessionReason.AGENT_MISSING, agent_missing(ref.name, ref.namespace))
    if agent.runtime is not Runtime.MODEL:
        return NotYet(SessionReason.NOT_A_MODEL, not_a_model(ref.name))
    if agent.suspended:
        return NotYet(SessionReason.AGENT_SUSPENDED, agent_suspended(ref.name))
    if agent.max_calls is not None and session.usage.calls >= agent.max_calls:
        return NotYet(SessionReason.CALLS_EXHAUSTED, calls_exhausted(session.usage.calls, agent.max_calls))
    return blocked
