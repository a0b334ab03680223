"""A peer without any client's library: bytes on a connection; and what a gateway counted."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from yarl import URL

from belay_api.frames import SUBPROTOCOL
from gateway.stage import Running
from waiting import SECONDS


def refusals(gateway: Running) -> dict[str, int]:
    """What was refused so far, by reason."""
    found = gateway.gateway.metrics.registry.collect()
    samples = [s for metric in found if metric.name == "belay_gateway_refusals" for s in metric.samples]
    return {s.labels["reason"]: int(s.value) for s in samples if s.name.endswith("_total") and s.value}


class Raw:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    def say(self, data: bytes) -> None:
        """Send; never waits."""
        self._writer.write(data)

    async def head(self) -> tuple[int, Mapping[str, str]]:
        """Status and headers of the next answer, whose body is read and forgotten."""
        async with asyncio.timeout(SECONDS):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            await self._reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers

    async def open_socket(self, token: str | None, *more: str) -> tuple[int, Mapping[str, str]]:
        """The request for a WebSocket, with further header lines."""
        bearer = [f"Authorization: Bearer {token}"] if token else []
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = [
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        protocol = [f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"]
        lines = ["GET /cable HTTP/1.1", f"Host: {self._host}", *upgrade, *protocol, *bearer, *more, "", ""]
        self.say("\r\n".join(lines).encode())
        return await self.head()

    def frame(self, opcode: int, payload: bytes, first_bits: int = 0x80) -> None:
        """Send one short WebSocket frame, masked with zeros."""
        assert len(payload) < 126
        self.say(bytes([first_bits | opcode, 0x80 | len(payload)]) + bytes(4) + payload)

    async def rest(self) -> bytes:
        """All that still comes until the gateway ends the connection. Raises TimeoutError when it doesn't."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def raw(gateway: Running) -> AsyncIterator[Raw]:
    """A connection to the gateway that has said nothing yet."""
    url = URL(gateway.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield Raw(reader, writer, url.authority)
    finally:
        writer.transport.abort()
