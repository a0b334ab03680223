"""What the echo provider reads from a conversation: where its script stands, and what there is to say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from belay_api.sessionturn import Block
from belay_operator.drain.llm.base import Message
from belay_operator.drain.llm.echo_script import Step, is_script, parse, prose

DELIVERED = "from_"
"""How names of calls begin that no model made."""
NOTHING = "(nothing was said)"


@dataclass(frozen=True)
class _Script:
    text: str
    answered: int
    """How many answers were given since."""


def next_step(messages: Sequence[Message]) -> Step:
    """What comes next by the script; nothing when there is none, or it's over."""
    script = _script(messages)
    if not script:
        return []
    steps = parse(script.text)
    return steps[script.answered] if script.answered < len(steps) else []


def _script(messages: Sequence[Message]) -> _Script | None:
    answered = 0
    for message in reversed(messages):
        if message.role == "assistant":
            answered += not _is_delivered(message)
            continue
        scripts = [text for text in _texts(message) if is_script(text)]
        if scripts:
            return _Script(scripts[-1], answered)
    return None


def text_to_echo(messages: Sequence[Message]) -> str:
    """The last user message: its words without script, else the tool results."""
    last = messages[-1] if messages else Message("user", ())
    said = "\n".join(filter(None, map(prose, _texts(last))))
    return said or results(messages) or NOTHING


def _texts(message: Message) -> list[str]:
    return [block.text for block in message.blocks if block.type == "Text" and block.text]


def _is_delivered(message: Message) -> bool:
    return bool(message.blocks) and all(map(_is_delivery, message.blocks))


def _is_delivery(block: Block) -> bool:
    return block.type == "ToolUse" and (block.name or "").startswith(DELIVERED)


def results(messages: Sequence[Message]) -> str:
    """What the tools that were called said, in the last message."""
    return "\n".join(_result_texts(messages))


def _result_texts(messages: Sequence[Message]) -> Iterator[str]:
    delivered = {block.tool_use_id for message in messages for block in message.blocks if _is_delivery(block)}
    for block in messages[-1].blocks if messages else ():
        if block.type == "ToolResult" and block.tool_use_id not in delivered and block.text:
            yield block.text
