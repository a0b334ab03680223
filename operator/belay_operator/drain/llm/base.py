"""What the drain asks of a provider, and what may come of it. Providers never retry: that is the drain's (L12).

LlmError
 ├── Passing               429, 529, 5xx, timeouts, broken connections: tried again, not before `retry_after` seconds
 ├── Unready               not tried again until somebody changes the key or the configuration
 │    ├── Unauthenticated  401, 403, or no key where one is needed (L11)
 │    └── NotConfigured    no such provider, no system prompt
 └── Rejected              any other 4xx, or an answer that makes no sense: the same request never succeeds (L10)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from belay_api.sessionturn import Block
from belay_api.usage import Usage

Hear = Callable[[str], None]


class LlmError(Exception):
    """The model gave no answer; `reason` is a SessionReason's word, the message says what was asked of whom, and what
    was said."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class Passing(LlmError):
    """Passes by itself; `retry_after` in seconds is what the provider asked for, if it did."""

    def __init__(self, message: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(message, reason)
        self.retry_after = retry_after


class Unready(LlmError):
    """Nothing can be asked of the model until people change something."""


class Unauthenticated(Unready):
    """The provider doesn't accept the key, or there is none."""


class NotConfigured(Unready):
    """The Agent names what isn't there."""


class Rejected(LlmError):
    """The same request will never succeed."""


@dataclass(frozen=True)
class ToolDefinition:
    """A tool as a model is told of it; `schema` is the JSON Schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """What one side said: role `user` or `assistant`, and blocks. Roles alternate, the first is `user`, and each
    ToolUse is followed by its ToolResult in the next message."""

    role: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Prompt:
    """One request. `timeout`: seconds from the request to the last word."""

    model: str
    messages: Sequence[Message]
    system: str | None = None
    tools: Sequence[ToolDefinition] = ()
    max_tokens: int = 8192
    timeout: float = 600.0


@dataclass(frozen=True)
class Answer:
    """What the model said: Text and ToolUse blocks; ids of tool calls may be missing (L14).

    `stop_reason` as the provider says it: `end_turn`, `tool_use`, `max_tokens`, `refusal`, …
    """

    blocks: Sequence[Block]
    stop_reason: str
    model: str
    usage: Usage


class Provider(Protocol):
    """A way to reach models. One object serves many sessions at once."""

    async def answer(self, prompt: Prompt, hear: Hear) -> Answer:
        """The model's answer; `hear` is told each piece of text as it comes. Raises LlmError."""

    async def close(self) -> None:
        """Let connections go."""
