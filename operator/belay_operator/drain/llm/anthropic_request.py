"""A prompt as the Messages API takes it; what it refuses, blank words and empty messages, is left out.

Prompt caching has three marks: after the tools, after the system prompt, and after the conversation, so that the next
half-step reads from the cache all that this one sent.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from belay_api.sessionturn import Block
from belay_operator.drain.llm.base import Message, Prompt, ToolDefinition

MALFORMED = "_malformed"
"""Under this name arguments that are no JSON object are shown to the model that wrote them."""

_MARK = {"type": "ephemeral"}
_NOT_TO_CALL = "Its results are delivered without a call. Never call it."


def to_request(prompt: Prompt) -> dict[str, Any]:
    """What `messages.create` is called with."""
    asked: dict[str, Any] = {
        "model": prompt.model,
        "max_tokens": prompt.max_tokens,
        "messages": _marked_conversation(list(_messages(prompt.messages))),
    }
    if prompt.system and prompt.system.strip():
        asked["system"] = _marked([{"type": "text", "text": prompt.system}])
    return asked | _tools(prompt)


def _tools(prompt: Prompt) -> dict[str, Any]:
    """The tools. Where there are none, those that the conversation calls are declared, since the API takes no call
    without tools; the model may not call them."""
    if prompt.tools:
        return {"tools": _marked([_tool(tool) for tool in prompt.tools])}
    called = sorted({block.name for block in _blocks(prompt.messages) if block.type == "ToolUse" and block.name})
    if not called:
        return {}
    declared = [_tool(ToolDefinition(name, _NOT_TO_CALL, {"type": "object"})) for name in called]
    return {"tools": _marked(declared), "tool_choice": {"type": "none"}}


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": dict(tool.schema)}


def _blocks(messages: Iterable[Message]) -> Iterator[Block]:
    return (block for message in messages for block in message.blocks)


def _messages(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        content = [part for block in message.blocks if (part := _part(block))]
        if content:
            yield {"role": message.role, "content": content}


def _part(block: Block) -> dict[str, Any] | None:
    if block.type == "ToolUse":
        return {"type": "tool_use", "id": block.tool_use_id, "name": block.name, "input": parsed(block.input)}
    text = block.text if block.text and block.text.strip() else None
    if block.type == "ToolResult":
        content = {"content": [{"type": "text", "text": text}]} if text else {}
        failed = {"is_error": True} if block.is_error else {}
        return {"type": "tool_result", "tool_use_id": block.tool_use_id} | content | failed
    return {"type": "text", "text": text} if text else None


def parsed(written: str | None) -> dict[str, Any]:
    """Arguments as an object; what is none, or is nothing that JSON or UTF-8 can carry (NaN, half a surrogate pair), is
    shown as it was written."""
    try:
        value = json.loads(written or "{}")
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {MALFORMED: written}


def _marked(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, to be cached up to its end."""
    return [*parts[:-1], parts[-1] | {"cache_control": _MARK}]


def _marked_conversation(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not messages:
        return messages
    last = messages[-1]
    return [*messages[:-1], last | {"content": _marked(last["content"])}]
