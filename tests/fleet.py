"""Many sockets in one process, each as small as it can be: enough WebSocket to attach, listen and answer pings."""

import asyncio
import base64
import json
import os
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from belay_api.frames import CHANNEL, SUBPROTOCOL

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_MASK = b"\0\0\0\0"
"""A mask that changes nothing: allowed, and as cheap as no mask."""


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size)) + _MASK + payload
    return bytes((0x80 | opcode, 0x80 | 126)) + struct.pack("!H", size) + _MASK + payload


def read_frames(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Take every whole frame of a server out of `buffer`, as opcode and payload."""
    frames = []
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start + size:
            break
        frames.append((buffer[0] & 0x0F, bytes(buffer[start : start + size])))
        del buffer[: start + size]
    return frames


class Member(asyncio.Protocol):
    """One socket. `heard` gets each text frame; `opened` is set once the handshake is through."""

    def __init__(self, fleet: "Fleet", number: int, request: bytes) -> None:
        self.fleet = fleet
        self.number = number
        self.identifier = ""
        self._request = request
        self._buffer: bytearray | None = bytearray()
        self._upgraded = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it."""
        self.fleet.count["lost"] += 1
        self.fleet.changed()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        buffer = self._buffer or bytearray()
        buffer += data
        if not self._upgraded and not self._upgrade(buffer):
            self._buffer = buffer
            return
        for opcode, payload in read_frames(buffer):
            self._frame(opcode, payload)
        self._buffer = buffer or None

    def _upgrade(self, buffer: bytearray) -> bool:
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.fleet.count[f"http {buffer[9:12].decode()}"] += 1
        self._upgraded = True
        del buffer[: end + 4]
        self.fleet.changed()
        return True

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._write(masked(PONG, payload))
        elif opcode == TEXT:
            self.fleet.heard(self, payload)
        elif opcode == CLOSE:
            self._write(masked(CLOSE, payload[:2]))

    def _write(self, frame: bytes) -> None:
        if self.transport and not self.transport.is_closing():
            self.transport.write(frame)

    def send(self, frame: dict[str, object]) -> None:
        """Send a command of the cable."""
        self._write(masked(TEXT, json.dumps(frame).encode()))

    def perform(self, action: dict[str, object]) -> None:
        """Perform an action on its subscription."""
        self.send({"command": "message", "identifier": self.identifier, "data": json.dumps(action)})


class Fleet:
    """A set of sockets that count what they hear.

    Args:
        url: of a gateway's `/cable`, or of any WebSocket server, as http://host:port/path.
        tokens: bearer tokens, used in turn; none for a server that asks for none.
        on_message: gets each message (the JSON of a frame's `message`) of a subscription.
    """

    def __init__(
        self,
        url: str,
        tokens: Sequence[str] = (),
        on_message: Callable[[Member, dict[str, object]], None] = lambda _member, _message: None,
    ) -> None:
        self._url = urlsplit(url)
        self._tokens = tokens
        self._on_message = on_message
        self.members: list[Member] = []
        self.count: Counter[str] = Counter()
        """What was heard: HTTP answers, types of frames and messages, lost sockets."""
        self._news = asyncio.Event()

    def changed(self) -> None:
        """Something was counted."""
        self._news.set()

    async def until(self, fact: Callable[[], bool], seconds: float = 300) -> None:
        """Wait for a fact about what was counted. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not fact():
                self._news.clear()
                await self._news.wait()

    def _request(self, number: int) -> bytes:
        lines = [
            f"GET {self._url.path} HTTP/1.1",
            f"Host: {self._url.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
        if self._tokens:
            token = self._tokens[number % len(self._tokens)]
            lines += [f"Sec-WebSocket-Protocol: {SUBPROTOCOL}", f"Authorization: Bearer {token}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def dial(self, identifier: Callable[[int], dict[str, str]] | None = None) -> Member:
        """One more socket; with `identifier` it subscribes once it is welcomed."""
        number = len(self.members)
        member = Member(self, number, self._request(number))
        self.members.append(member)
        if identifier:
            member.identifier = json.dumps({"channel": CHANNEL, **identifier(number)})
        host, port = self._url.hostname, self._url.port
        assert host
        assert port
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: member, host, port)
        return member

    async def dial_many(
        self, count: int, identifier: Callable[[int], dict[str, str]] | None = None, at_once: int = 100
    ) -> None:
        """`count` more sockets, `at_once` at a time; returns when all are upgraded, or confirmed if they subscribe."""
        what = "confirm_subscription" if identifier else "http 101"
        wanted = self.count[what]
        for start in range(0, count, at_once):
            batch = min(at_once, count - start)
            await asyncio.gather(*(self.dial(identifier) for _ in range(batch)))
            wanted += batch
            await self.until(lambda wanted=wanted: self.count[what] >= wanted)  # type: ignore[misc]

    async def dial_steadily(self, count: int, identifier: Callable[[int], dict[str, str]], on_their_way: int) -> None:
        """`count` more sockets, the next as soon as fewer than so many are not confirmed yet; returns when all are."""
        before = self.count["confirm_subscription"]
        for dialed in range(count):
            await self.until(lambda n=dialed: n - self.count["confirm_subscription"] + before < on_their_way)  # type: ignore[misc]
            await self.dial(identifier)
        await self.until(lambda: self.count["confirm_subscription"] - before >= count)

    def heard(self, member: Member, payload: bytes) -> None:
        """A text frame came."""
        try:
            frame = json.loads(payload)
        except ValueError:
            frame = {}
        kind = frame.get("type") or "message"
        self.count[kind] += 1
        if kind == "welcome" and member.identifier:
            member.send({"command": "subscribe", "identifier": member.identifier})
        message = frame.get("message")
        if kind == "message" and isinstance(message, dict):
            self.count[f"message {message.get('type')}"] += 1
            self._on_message(member, message)
        self.changed()

    async def close(self) -> None:
        """Drop every socket."""
        for member in self.members:
            if member.transport:
                member.transport.abort()
        self.members.clear()
        await asyncio.sleep(0)
