"""Prompts and conversations for tests of providers."""

from typing import Any

from belay_api.sessionturn import Block
from belay_operator.drain.llm.base import Answer, LlmError, Message, Prompt, Provider


def text(words: str) -> Block:
    """Words."""
    return Block(type="Text", text=words)


def use(name: str, written: str = "{}", tool_use_id: str = "toolu_1") -> Block:
    """A call."""
    return Block(type="ToolUse", name=name, input=written, tool_use_id=tool_use_id)


def result(words: str | None, tool_use_id: str = "toolu_1", is_error: bool | None = None) -> Block:
    """What a tool said."""
    return Block(type="ToolResult", text=words, tool_use_id=tool_use_id, is_error=is_error)


def user(*blocks: Block | str) -> Message:
    """What the model is told."""
    return Message("user", [text(one) if isinstance(one, str) else one for one in blocks])


def assistant(*blocks: Block | str) -> Message:
    """What it said."""
    return Message("assistant", [text(one) if isinstance(one, str) else one for one in blocks])


def prompt(*messages: Message | str, **more: Any) -> Prompt:
    """A request to model `m`; text stands for a user message."""
    return Prompt("m", [user(one) if isinstance(one, str) else one for one in messages or ("hello",)], **more)


def unheard(_: str) -> None:
    """Nobody listens."""


async def answered(provider: Provider, *messages: Message | str, **more: Any) -> Answer:
    """What the model says."""
    return await provider.answer(prompt(*messages, **more), unheard)


async def failure(provider: Provider, *messages: Message | str, **more: Any) -> LlmError:
    """What the model fails with; it must."""
    try:
        answer = await answered(provider, *messages, **more)
    except LlmError as error:
        return error
    raise AssertionError(f"it answered: {answer}")


def words(answer: Answer) -> str:
    """All it said."""
    return "".join(block.text or "" for block in answer.blocks)
