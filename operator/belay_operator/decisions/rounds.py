"""What a finished call of a model means for its session: what it said, or what a failure leads to (L9 to L12, L14)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from belay_api.agentsession import MAX_OPEN_CALLS
from belay_api.names import short_hash
from belay_api.reasons import SessionReason
from belay_api.session_words import calls_left_out, gives_up
from belay_api.sessionturn import Block
from belay_operator.decisions.picking import Picked
from belay_operator.drain.llm.base import LlmError, Rejected, Unready
from belay_operator.observe.mailbox_records import Mail, SessionRecord

MOST_ATTEMPTS = 5
"""Of one call, in place (L12)."""
MOST_FAILED_ROUNDS = 5
"""Of the same message, in a row (L10)."""
LONGEST_WAIT = 900.0
"""Seconds; whoever asks for a longer wait gets the message back, and the claim with it."""
_JITTER = 0.15
_MESSAGE_CHARS = 1024

# --- an answer ---


def after_answer(
    session: SessionRecord, answer: Sequence[Block], sequence: int, taken: Collection[str] | None = ()
) -> list[Block]:
    """What `answer` is as turn `sequence`: no more calls than may be open, each with an id of its own. `taken`:
    `conversation.used_ids` of the turns before; None: not known, so that no id of the model's is kept."""
    return identified(session.uid, sequence, _bounded(answer), taken)


def identified(
    session_uid: str, sequence: int, blocks: Sequence[Block], taken: Collection[str] | None = ()
) -> list[Block]:
    """`blocks`, where a call without an id, or with that of another call, has one made of its place: the same whenever
    it is made again (L14)."""
    seen, made = set(taken or ()), []
    for index, block in enumerate(blocks):
        doubtful = taken is None or not block.tool_use_id or block.tool_use_id in seen
        if block.type == "ToolUse" and doubtful:
            block = block.model_copy(update={"tool_use_id": made_up_id(session_uid, sequence, index)})
        if block.type == "ToolUse" and block.tool_use_id:
            seen.add(block.tool_use_id)
        made.append(block)
    return made


def made_up_id(session_uid: str, sequence: int, index: int) -> str:
    """The id of a call that a model gave none."""
    return f"toolu_{short_hash(session_uid, str(sequence), str(index))}"


def _bounded(answer: Sequence[Block]) -> list[Block]:
    """`answer` without the calls that are more than a session can have open; it says so before its first call."""
    places = [index for index, block in enumerate(answer) if block.type == "ToolUse"]
    surplus = set(places[MAX_OPEN_CALLS:])
    if not surplus:
        return list(answer)
    kept = [block for index, block in enumerate(answer) if index not in surplus]
    note = Block(type="Text", text=calls_left_out(len(surplus), MAX_OPEN_CALLS))
    return [*kept[: places[0]], note, *kept[places[0] :]]


# --- a failure ---


@dataclass(frozen=True)
class Bounce:
    """The active message goes back to its sender: a Bounced turn (L9)."""

    mail: tuple[Mail, ...]
    reason: str
    message: str


@dataclass(frozen=True)
class Park:
    """What can't be answered is put aside: a Parked turn. Responses only when no active message rode along; nothing
    completes their round any more, so the session is Idle then (L10)."""

    mail: tuple[Mail, ...]
    reason: str
    message: str


@dataclass(frozen=True)
class Back:
    """The session goes back to where it was claimed from, all mail stays, and it is tried again (L10)."""

    failed_message: str
    """Uid of what failed, for status."""
    failed_rounds: int
    reason: str
    message: str


def after_failure(error: LlmError, picked: Picked, session: SessionRecord) -> Bounce | Park | Back:
    """What a round that was not answered leads to; `picked` isn't empty. The active message is blamed first, so that
    what rode along is tried without it."""
    message = error.message[:_MESSAGE_CHARS]
    blamed = (picked.active,) if picked.active else picked.responses
    if picked.active and picked.active.record.bounce_back:
        return Bounce(blamed, error.reason, message)
    if isinstance(error, Rejected):
        return Park(blamed, error.reason, message)
    uid = blamed[0].record.uid
    failed = session.failed_rounds if session.failed_message == uid else 0
    if isinstance(error, Unready):
        return Back(uid, failed, error.reason, message)
    if failed + 1 >= MOST_FAILED_ROUNDS:
        why = gives_up(failed + 1, error.message)[:_MESSAGE_CHARS]
        return Park(blamed, SessionReason.KEEPS_FAILING, why)
    return Back(uid, failed + 1, error.reason, message)


def wait_before(attempt: int, retry_after: float | None, jitter: float) -> float | None:
    """Seconds between failed attempt number `attempt`, from 1, and the next one: n^4 and up to 15 % more, never before
    the provider wants it; None: it is not tried again in place (L12). `jitter`: 0 to 1."""
    if attempt >= MOST_ATTEMPTS:
        return None
    wait = max(float(attempt**4), retry_after or 0.0) * (1 + _JITTER * jitter)
    return wait if wait <= LONGEST_WAIT else None


def pause_after(failed_rounds: int, jitter: float) -> float:
    """Seconds before a mailbox is drained again after so many failed rounds in a row (L10): as between attempts."""
    return float(min(max(failed_rounds, 1), MOST_FAILED_ROUNDS) ** 4) * (1 + _JITTER * jitter)
