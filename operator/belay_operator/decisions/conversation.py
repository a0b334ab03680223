"""What a model is told: the turns so far, then this round; always whole, whatever happened in between.

Mail is not to be trusted, so whose words are whose shows in the structure, which no content can imitate:

- a user's message, and a delegation's prompt, is plain text of role `user`;
- a tool's response is a ToolResult of the call it answers;
- background mail is a ToolResult of a call that the model never made, of a tool named after the sender (L7);
- a subagent's message is text between two marks that name the sender and a number nobody could know when writing it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from belay_api.names import short_hash
from belay_api.pendingmessage import MessageType
from belay_api.session_words import blank, interrupted, mail_first
from belay_api.sessionturn import MAX_BLOCK_BYTES, Block, TurnOutcome
from belay_operator.decisions.cutting import cut
from belay_operator.decisions.picking import Picked
from belay_operator.drain.llm.base import Message
from belay_operator.observe.mailbox_records import Mail, MessageRecord

SENDER_PREFIX = "from_"
_NAME_CHARS = 64
_MARK_BYTES = 1024
"""Room for the two marks around a subagent's message."""
_USER, _ASSISTANT = "user", "assistant"
Turn = Mapping[str, Any]
"""The specification of a SessionTurn, in wire form."""
Said = tuple[str, Block]
"""Who said it: a role; and what."""

# --- this round ---


def user_blocks(picked: Picked) -> list[Block]:
    """A round as a turn keeps it: tool responses, background mail as pairs, the active message (L5, L7)."""
    responses = [tool_result(mail, picked.most) for mail in picked.responses]
    background = [block for mail in picked.background for block in _pair(mail, picked.most)]
    return [*responses, *background, *([_active(picked.active, picked.most)] if picked.active else [])]


def tool_result(mail: Mail, most: int) -> Block:
    """The response to an open call."""
    failed = None if mail.success else True
    text = cut(mail.content, most)
    return Block(type="ToolResult", tool_use_id=mail.record.tool_use_id, text=text, is_error=failed)


def no_result(tool_use_id: str, why: str) -> Block:
    """What a call is answered that has no response of its own."""
    return Block(type="ToolResult", tool_use_id=tool_use_id, text=why, is_error=True)


def sender_tool(message: MessageRecord) -> str:
    """The name under which a sender's background mail comes: `from_<sender>`."""
    sender = re.sub(r"[^A-Za-z0-9_-]", "_", message.source_name or "unknown")
    return f"{SENDER_PREFIX}{sender}"[:_NAME_CHARS]


def _pair(mail: Mail, most: int) -> tuple[Block, Block]:
    """Background mail: a call named after the sender, and its result."""
    call = f"mail_{short_hash(mail.record.uid)}"
    use = Block(type="ToolUse", tool_use_id=call, name=sender_tool(mail.record), input="{}")
    return use, Block(type="ToolResult", tool_use_id=call, text=cut(mail.content, most))


def _active(mail: Mail, most: int) -> Block:
    """The active message as text; models refuse blank text."""
    if mail.record.type is MessageType.SUBAGENT:
        return Block(type="Text", text=_marked(mail, most))
    return Block(type="Text", text=cut(mail.content, most) if mail.content.strip() else blank())


def _marked(mail: Mail, most: int) -> str:
    """A subagent's words between two marks; the number in them is made of the message's uid."""
    number = short_hash(mail.record.uid)
    sender = f"{mail.record.source_kind or 'unknown'} {(mail.record.source_name or '')[:_NAME_CHARS]}".strip()
    text = cut(mail.content, max(most - _MARK_BYTES, _MARK_BYTES), MAX_BLOCK_BYTES - _MARK_BYTES)
    return f"[message {number} from {sender}]\n{text}\n[end of message {number}]"


# --- all rounds ---


def messages(turns: Sequence[Turn], present: Sequence[Block] = ()) -> list[Message]:
    """The conversation that `turns` are, and `present`, the blocks of this round: roles alternate, the first is `user`,
    and each ToolUse has its ToolResult at the head of the next message, an "interrupted" one where there is no other.

    Answered turns enter, and of Interrupted ones the tool results; ids are unique, the first of two alike counts.
    """
    whole = _grouped(_paired(_grouped(_unique(_said(turns, present)))))
    if whole and whole[0].role == _ASSISTANT:
        whole.insert(0, Message(_USER, [Block(type="Text", text=mail_first())]))
    return whole


def sender_tools(conversation: Iterable[Message]) -> list[str]:
    """Names of the `from_<sender>` tools in a conversation, which providers want defined like any other."""
    blocks = (block for message in conversation for block in message.blocks)
    return sorted({b.name for b in blocks if b.type == "ToolUse" and b.name and b.name.startswith(SENDER_PREFIX)})


def used_ids(turns: Iterable[Turn]) -> set[str]:
    """Ids of all tool calls so far: no later one may be the same (L14)."""
    blocks = (block for turn in turns for block in (*(turn.get("user") or ()), *(turn.get("assistant") or ())))
    return {block["toolUseId"] for block in blocks if block["type"] == "ToolUse"}


def _said(turns: Iterable[Turn], present: Iterable[Block]) -> Iterator[Said]:
    """All that counts, in order. The calls of background mail are the model's side of the conversation."""
    for turn in turns:
        if turn["outcome"] == TurnOutcome.ANSWERED:
            yield from _heard(_blocks(turn, "user"))
            yield from ((_ASSISTANT, block) for block in _blocks(turn, "assistant"))
        elif turn["outcome"] == TurnOutcome.INTERRUPTED:
            yield from ((_USER, block) for block in _blocks(turn, "user") if block.type == "ToolResult")
    yield from _heard(present)


def _blocks(turn: Turn, side: str) -> Iterator[Block]:
    return (Block.model_validate(block) for block in turn.get(side) or ())


def _heard(blocks: Iterable[Block]) -> Iterator[Said]:
    return ((_ASSISTANT if block.type == "ToolUse" else _USER, block) for block in blocks)


def _unique(said: Iterable[Said]) -> Iterator[Said]:
    """Without blank text, and without calls whose id was there before."""
    seen: set[str | None] = set()
    for role, block in said:
        if block.type == "ToolUse":
            if block.tool_use_id in seen:
                continue
            seen.add(block.tool_use_id)
        if block.type != "Text" or (block.text or "").strip():
            yield role, block


def _grouped(said: Iterable[Said]) -> list[Message]:
    """Neighbours of one role are one message."""
    groups = groupby(said, key=itemgetter(0))
    return [Message(role, [block for _, block in group]) for role, group in groups]


def _paired(conversation: Iterable[Message]) -> Iterator[Said]:
    """Each call followed by its result, each result after its call; those of no call are left out."""
    open_calls: list[str] = []
    for message in conversation:
        blocks = message.blocks if message.role == _ASSISTANT else _answers(open_calls, message.blocks)
        yield from ((message.role, block) for block in blocks)
        open_calls = [b.tool_use_id for b in blocks if b.type == "ToolUse" and b.tool_use_id]
    yield from ((_USER, block) for block in _answers(open_calls, ()))


def _answers(open_calls: Iterable[str], blocks: Sequence[Block]) -> list[Block]:
    """The results of `open_calls`, then all of `blocks` that is no result."""
    results: dict[str | None, Block] = {}
    for block in blocks:
        if block.type == "ToolResult":
            results.setdefault(block.tool_use_id, block)
    paired = [results.get(call) or no_result(call, interrupted()) for call in open_calls]
    return [*paired, *(block for block in blocks if block.type != "ToolResult")]
