"""Which streams are read to their end: those whose events end, and which end themselves."""

from collections.abc import AsyncIterator, Iterable

import httpx2
import pytest

from belay_operator.drain.llm.bounded import MOST_LINES, MOST_OF_EVENT, MOST_OF_STREAM, bound

PIECE = b"x" * 65536
EVENT = b"data: " + PIECE + b"\n\n"


class Body(httpx2.AsyncByteStream):
    """What comes, chunk by chunk."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


async def read(chunks: Iterable[bytes]) -> int:
    """How many bytes of an answer could be read."""
    request = httpx2.Request("POST", "http://host")
    response = httpx2.Response(200, stream=Body(chunks), request=request)
    await bound(response)
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
    return size


def many(chunk: bytes, size: int) -> list[bytes]:
    """One chunk again and again, `size` bytes in all."""
    return [chunk] * (size // len(chunk))


WHOLE = {
    "nothing": [],
    "many events": many(EVENT, 20 * MOST_OF_EVENT),
    "the longest event": many(PIECE, MOST_OF_EVENT),
    "its end in two chunks": [*many(PIECE, MOST_OF_EVENT)[1:], b"\n", b"\n", *many(PIECE, MOST_OF_EVENT)],
    "its end in four chunks": [*many(PIECE, MOST_OF_EVENT)[1:], b"\r", b"\n", b"\r", b"\n", PIECE, b"\n\n"],
    "ends of the other kind": [*many(PIECE, MOST_OF_EVENT)[1:], b"\r\r", *many(PIECE, MOST_OF_EVENT)],
    "short lines of many events": [b"a\n\n"] * (2 * MOST_LINES),
    "many events in one chunk": [b"a\n\n" * (2 * MOST_LINES)],
}


@pytest.mark.parametrize("chunks", WHOLE.values(), ids=WHOLE)
async def test_fault_20_what_ends_is_read(chunks: list[bytes]) -> None:
    """All of it, whichever way it was cut on its way."""
    assert await read(chunks) == sum(map(len, chunks))


BROKEN = {
    "an event one byte too long": [*many(PIECE, MOST_OF_EVENT), b"x"],
    "after others": [EVENT, *many(PIECE, MOST_OF_EVENT), b"x"],
    "after others in one chunk": [EVENT + b"x", *many(PIECE, MOST_OF_EVENT)],
    "ends far apart": [b"\n", *many(PIECE, MOST_OF_EVENT), b"\n"],
    "too many lines": [b"a\n"] * (MOST_LINES + 1),
    "too many lines of the other kind": [b"a\r"] * (MOST_LINES + 1),
    "too many lines in one chunk": [b"\n\n" + b"a\n" * (MOST_LINES + 1)],
    "too much": [*many(EVENT, MOST_OF_STREAM), EVENT],
}


@pytest.mark.parametrize("chunks", BROKEN.values(), ids=BROKEN)
async def test_fault_20_what_does_not_end_breaks(chunks: list[bytes]) -> None:
    """As a connection does."""
    with pytest.raises(httpx2.RemoteProtocolError, match="more than any answer has"):
        await read(chunks)
