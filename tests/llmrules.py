"""What the Messages API refuses of a request, as far as Belay could get it wrong."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

_MOST_MARKS = 4

Body = Mapping[str, Any]


def refusal(body: Body) -> str | None:
    """Why the request is invalid, or None."""
    return next(_refusals(body), None)


def _refusals(body: Body) -> Iterator[str]:
    for name in ("model", "max_tokens", "messages"):
        if not body.get(name):
            yield f"{name}: Field required"
    messages = body.get("messages") or []
    yield from _order(messages)
    yield from _contents(messages)
    yield from _pairs(messages)
    yield from _tools(body)


def _order(messages: Sequence[Body]) -> Iterator[str]:
    roles = [message["role"] for message in messages]
    if roles and roles[0] != "user":
        yield 'messages: first message must use the "user" role'
    if roles and roles[-1] != "user":
        yield "messages: the conversation must end with a user message"
    for place, (before, role) in enumerate(pairwise(roles), start=1):
        if before == role:
            yield f"messages.{place}: roles must alternate"


def _contents(messages: Sequence[Body]) -> Iterator[str]:
    for place, message in enumerate(messages):
        if not message["content"]:
            yield f"messages.{place}: must have non-empty content"
        for block in _blocks(message):
            if block["type"] == "text" and not block["text"].strip():
                yield f"messages.{place}: text content blocks must contain non-whitespace text"
            if block["type"] == "tool_use" and not (block.get("id") and isinstance(block["input"], dict)):
                yield f"messages.{place}: tool_use needs an id and an object as input"


def _pairs(messages: Sequence[Body]) -> Iterator[str]:
    """Each tool_use has its tool_result in the next message, and no tool_result is without one."""
    asked: set[str] = set()
    for place, message in enumerate(messages):
        results = {block["tool_use_id"] for block in _blocks(message) if block["type"] == "tool_result"}
        if results - asked:
            yield f"messages.{place}: unexpected `tool_use_id` in `tool_result`: {sorted(results - asked)}"
        if asked - results:
            yield f"messages.{place}: `tool_use` without `tool_result` immediately after: {sorted(asked - results)}"
        asked = {block["id"] for block in _blocks(message) if block["type"] == "tool_use"}


def _tools(body: Body) -> Iterator[str]:
    blocks = [block for message in body.get("messages") or [] for block in _blocks(message)]
    if any(block["type"] == "tool_use" for block in blocks) and not body.get("tools"):
        yield "tools: Field required when there are tool blocks"
    names = [tool["name"] for tool in body.get("tools") or []]
    if len(set(names)) != len(names):
        yield "tools: Tool names must be unique"
    marked = [*blocks, *(body.get("tools") or []), *_system(body)]
    if sum("cache_control" in part for part in marked) > _MOST_MARKS:
        yield f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided"


def _system(body: Body) -> list[Body]:
    system = body.get("system")
    return system if isinstance(system, list) else []


def _blocks(message: Body) -> list[Body]:
    content = message["content"]
    return content if isinstance(content, list) else [{"type": "text", "text": content}]
