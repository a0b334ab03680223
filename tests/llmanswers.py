"""What a test tells `llmserver` to do with a request; each is one behaviour, and `LlmServer.will` queues them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from llmstream import Stream

Behaviour = Callable[[Stream], Awaitable[None]]

_GIANT_PIECE = "word after word after word, and on and on"
_TOKENS_OF_GIANT_PIECE = 10


@dataclass(frozen=True)
class Call:
    """A tool call; `arguments` as an object, or as the text that is sent for it, however malformed."""

    name: str
    arguments: Mapping[str, Any] | str
    tool_use_id: str | None = "toolu_1"

    @property
    def written(self) -> str:
        """The arguments as they are sent."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


def says(*pieces: str, stop_reason: str = "end_turn") -> Behaviour:
    """Words, each piece in an event of its own. `stop_reason` may be `max_tokens` or `refusal` as well."""

    async def behave(stream: Stream) -> None:
        await stream.open()
        await stream.text(*pieces)
        await stream.close(stop_reason)

    return behave


def says_nothing() -> Behaviour:
    """An answer without any block, as models give after tool results."""

    async def behave(stream: Stream) -> None:
        await stream.open()
        await stream.close("end_turn")

    return behave


def calls(*made: Call, text: str = "", stop_reason: str = "tool_use") -> Behaviour:
    """Tool calls, after words if there are any."""

    async def behave(stream: Stream) -> None:
        await stream.open()
        if text:
            await stream.text(text)
        for call in made:
            await stream.call(call.name, call.written, call.tool_use_id)
        await stream.close(stop_reason)

    return behave


def decides(choose: Callable[[Mapping[str, Any]], Behaviour]) -> Behaviour:
    """Whatever `choose` makes of the request's body."""

    async def behave(stream: Stream) -> None:
        await choose(stream.body)(stream)

    return behave


def fails(
    status: int, kind: str = "api_error", message: str = "as the test says", retry_after: str | None = None
) -> Behaviour:
    """An HTTP error, as the API words it."""

    async def behave(stream: Stream) -> None:
        headers = {} if retry_after is None else {"retry-after": retry_after}
        await stream.respond(web.json_response(_error(kind, message), status=status, headers=headers))

    return behave


def responds(status: int, text: str, headers: Mapping[str, str]) -> Behaviour:
    """What no Messages API would say."""

    async def behave(stream: Stream) -> None:
        await stream.respond(web.Response(status=status, text=text, headers=headers))

    return behave


def says_for_ever(status: int, piece: str, headers: Mapping[str, str]) -> Behaviour:
    """The same again and again, as fast as it is read."""

    async def behave(stream: Stream) -> None:
        await stream.flood(status, piece.encode(), headers)

    return behave


def errs(kind: str, message: str = "as the test says", after: str = "half") -> Behaviour:
    """An error within the stream, after some words."""

    async def behave(stream: Stream) -> None:
        await _half(stream, after)
        await stream.event(**_error(kind, message) | {"kind": "error"})
        await stream.end()

    return behave


def hangs() -> Behaviour:
    """Never a word."""
    return Stream.hang


def falls_silent(after: str = "half") -> Behaviour:
    """Some words, then never another."""

    async def behave(stream: Stream) -> None:
        await _half(stream, after)
        await stream.hang()

    return behave


def pings_for_ever() -> Behaviour:
    """Alive, and never done."""

    async def behave(stream: Stream) -> None:
        await stream.open()
        while True:
            await stream.event("ping")
            await asyncio.sleep(0)

    return behave


def cuts(after: str = "half") -> Behaviour:
    """Some words, then the connection breaks."""

    async def behave(stream: Stream) -> None:
        await _half(stream, after)
        await stream.cut()

    return behave


def ends_early(after: str = "half") -> Behaviour:
    """Some words, then the stream ends in good order, though the answer isn't over."""

    async def behave(stream: Stream) -> None:
        await _half(stream, after)
        await stream.end()

    return behave


def thinks(text: str) -> Behaviour:
    """Words after a thought, and after a block and an event of kinds that nobody knows."""

    async def behave(stream: Stream) -> None:
        await stream.open()
        await stream.begin_block({"type": "thinking", "thinking": "", "signature": ""})
        await stream.delta({"type": "thinking_delta", "thinking": "a thought"})
        await stream.end_block()
        await stream.begin_block({"type": "of_tomorrow", "text": "unheard"})
        await stream.delta({"type": "text_delta", "text": "of"})
        await stream.end_block()
        await stream.event("event_of_tomorrow", index=0)
        await stream.text(text)
        await stream.close("end_turn")

    return behave


def streams(written: str) -> Behaviour:
    """Any text in place of events."""

    async def behave(stream: Stream) -> None:
        await stream.open()
        await stream.raw(written)
        await stream.end()

    return behave


def giant(tokens: int = 200_000) -> Behaviour:
    """An answer of about so many tokens."""
    return says(*[_GIANT_PIECE] * (tokens // _TOKENS_OF_GIANT_PIECE))


class Slowly:
    """Words that come as the test releases them, one piece each time."""

    def __init__(self, *pieces: str) -> None:
        self._pieces = pieces
        self._released = asyncio.Semaphore(0)
        self.begun = asyncio.Event()

    def release(self, pieces: int = 1) -> None:
        """Let so many more pieces go; the answer ends with the last."""
        for _ in range(pieces):
            self._released.release()

    async def __call__(self, stream: Stream) -> None:
        """Be the behaviour."""
        await stream.open()
        await stream.begin_block({"type": "text", "text": ""})
        self.begun.set()
        for piece in self._pieces:
            await self._released.acquire()
            await stream.piece(piece)
        await stream.end_block()
        await stream.close("end_turn")


async def _half(stream: Stream, text: str) -> None:
    await stream.open()
    await stream.begin_block({"type": "text", "text": ""})
    await stream.piece(text)


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}
