"""One answer of the Messages API as it goes over the wire: events of a stream, in the order the API sends them."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

USAGE = {"input_tokens": 10, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 20, "output_tokens": 1}
"""What each answer says at its start; the output is counted again at the end."""
_HEADERS = {"content-type": "text/event-stream; charset=utf-8"}
_PIECE = 12
_BYTES_OF_A_TOKEN = 4


class Stream:
    """Writes one answer to one request; `body` is what was asked."""

    def __init__(self, request: web.Request, body: Mapping[str, Any], closing: asyncio.Event) -> None:
        self.body = body
        self._request = request
        self._closing = closing
        self.response: web.StreamResponse = web.StreamResponse(
            headers={"content-type": "text/event-stream; charset=utf-8"}
        )
        self._blocks = 0
        self._size = 0

    async def respond(self, response: web.Response) -> None:
        """Answer with something else than a stream."""
        self.response = response

    async def flood(self, status: int, piece: bytes, headers: Mapping[str, str]) -> None:
        """A body that never ends."""
        self.response = web.StreamResponse(status=status, headers=headers)
        await self.response.prepare(self._request)
        while True:
            await self.response.write(piece)

    async def open(self) -> None:
        """The answer begins."""
        await self.response.prepare(self._request)
        message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
        message |= {"model": f"{self.body['model']}-served", "stop_reason": None, "stop_sequence": None, "usage": USAGE}
        await self.event("message_start", message=message)
        await self.event("ping")

    async def event(self, kind: str, **data: Any) -> None:
        """One event."""
        written = json.dumps({"type": kind} | data)
        await self.response.write(f"event: {kind}\ndata: {written}\n\n".encode())

    async def raw(self, written: str) -> None:
        """Anything."""
        await self.response.write(written.encode())

    async def text(self, *pieces: str) -> None:
        """A block of words, each piece in an event of its own."""
        await self.begin_block({"type": "text", "text": ""})
        for piece in pieces:
            await self.piece(piece)
        await self.end_block()

    async def call(self, name: str, written: str, tool_use_id: str | None) -> None:
        """A block that calls a tool, its arguments in pieces; without an id when that is None."""
        block: dict[str, Any] = {"type": "tool_use", "name": name, "input": {}}
        await self.begin_block(block if tool_use_id is None else block | {"id": tool_use_id})
        for start in range(0, len(written), _PIECE):
            await self.delta({"type": "input_json_delta", "partial_json": written[start : start + _PIECE]})
        await self.end_block()

    async def begin_block(self, block: Mapping[str, Any]) -> None:
        """A block of whatever kind."""
        await self.event("content_block_start", index=self._blocks, content_block=block)

    async def piece(self, text: str) -> None:
        """More words of the block."""
        self._size += len(text.encode(errors="replace"))
        await self.delta({"type": "text_delta", "text": text})

    async def delta(self, delta: Mapping[str, Any]) -> None:
        """More of the block."""
        await self.event("content_block_delta", index=self._blocks, delta=delta)

    async def end_block(self) -> None:
        """The block is over."""
        await self.event("content_block_stop", index=self._blocks)
        self._blocks += 1

    async def close(self, stop_reason: str) -> None:
        """The answer is over."""
        usage = {"output_tokens": self._size // _BYTES_OF_A_TOKEN + 1}
        await self.event("message_delta", delta={"stop_reason": stop_reason, "stop_sequence": None}, usage=usage)
        await self.event("message_stop")
        await self.response.write_eof()

    async def end(self) -> None:
        """The stream ends in good order, whether or not the answer is over."""
        await self.response.write_eof()

    async def cut(self) -> None:
        """The connection breaks, after what was written."""
        if self._request.transport:
            self._request.transport.close()

    async def hang(self) -> None:
        """Nothing more comes, until the server goes down or the client has gone."""
        await self._closing.wait()
