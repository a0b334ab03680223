"""When a round is cut short, and what its open calls are answered then (L17)."""

from collections.abc import Callable, Sequence

from belay_api.session_words import interrupted
from belay_api.sessionturn import Block
from belay_operator.decisions.conversation import no_result, tool_result
from belay_operator.decisions.cutting import level, stored_bytes
from belay_operator.decisions.picking import ROUND_BYTES
from belay_operator.observe.mailbox_records import Mail, SessionRecord


def is_asked_for(session: SessionRecord) -> bool:
    """Whether spec.interruptRequest has a value that was not acted on: each is, once."""
    return session.interrupt is not None and session.interrupt != session.interrupted


def interrupt_wanted(session: SessionRecord, ended: Callable[[str], bool]) -> bool:
    """Whether the round is to be cut short: somebody asks for it, or all that it was for has `ended` otherwise."""
    return is_asked_for(session) or (bool(session.serving) and all(map(ended, session.serving)))


def interrupted_blocks(session: SessionRecord, responses: Sequence[Mail]) -> list[Block]:
    """One ToolResult for each open call: its own response if that came, else that it was interrupted."""
    came = {mail.record.tool_use_id: mail for mail in responses}
    most = level([stored_bytes(mail.content) for mail in responses], ROUND_BYTES)
    return [
        tool_result(came[call.id], most) if call.id in came else no_result(call.id, interrupted())
        for call in session.open_calls
    ]
