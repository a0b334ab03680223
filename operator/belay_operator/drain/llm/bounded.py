"""Answers of servers that nobody vouches for, bounded before anything is made of them: spec.model.baseURL is anyone's.

An error's body ends after MOST_OF_ERROR bytes: its status says what to do. A stream breaks with httpx2's error when an
event has no end within MOST_OF_EVENT bytes and MOST_LINES lines, or the whole none within MOST_OF_STREAM. Nothing is
uncompressed, so that these are the bytes that are kept.
"""

from collections.abc import AsyncIterator

import httpx2

NO_COMPRESSION = {"accept-encoding": "identity"}
"""What is asked of the server, so that it may be insisted on."""

MOST_OF_ERROR = 64 * 1024
MOST_OF_EVENT = 1024 * 1024
"""More than twice what is kept of a whole answer."""
MOST_LINES = 1024
"""Of one event, which has two; the SDK copies what it has of an event at each line."""
MOST_OF_STREAM = 64 * 1024 * 1024
"""An answer in single letters, each in an event of its own, stays below it."""

_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")
_LONGEST_END = 4


async def bound(response: httpx2.Response) -> None:
    """Hook of a client: bound what can be read of a response. Raises DecodingError for a compressed answer."""
    compressed = response.headers.get("content-encoding", "identity").lower() != "identity"
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        raise TypeError(f"the body of {response} isn't read asynchronously")
    if not response.is_success:
        response.stream = _Beginning(response.stream, 0 if compressed else MOST_OF_ERROR)
    elif compressed:
        raise httpx2.DecodingError("its answer is compressed, which wasn't asked for", request=response.request)
    else:
        response.stream = _Events(response.stream, response.request)


class _Beginning(httpx2.AsyncByteStream):
    """The first bytes of a body; the rest isn't there."""

    def __init__(self, whole: httpx2.AsyncByteStream, most: int) -> None:
        self._whole = whole
        self._left = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if not self._left:
            return
        async for chunk in self._whole:
            yield chunk[: self._left]
            self._left -= min(len(chunk), self._left)
            if not self._left:
                return

    async def aclose(self) -> None:
        await self._whole.aclose()


class _Events(httpx2.AsyncByteStream):
    """A stream of events, as long as each ends and all of them do."""

    def __init__(self, whole: httpx2.AsyncByteStream, request: httpx2.Request) -> None:
        self._whole = whole
        self._request = request
        self._bytes = self._open = self._lines = 0
        self._last = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._whole:
            self._count(chunk)
            if self._open > MOST_OF_EVENT or self._lines > MOST_LINES or self._bytes > MOST_OF_STREAM:
                raise httpx2.RemoteProtocolError("it says more than any answer has", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._whole.aclose()

    def _count(self, chunk: bytes) -> None:
        seen = self._last + chunk
        end = max(seen.rfind(one) + len(one) if one in seen else 0 for one in _ENDS)
        if end:
            self._open = self._lines = 0
        begun = seen[end:] if end else chunk
        self._open += len(begun)
        self._lines += begun.count(b"\n") + begun.count(b"\r")
        self._bytes += len(chunk)
        self._last = seen[end:][1 - _LONGEST_END :]
