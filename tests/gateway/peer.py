"""The other end of a socket, as raw as the wire: it says what it is told to say and remembers all it hears."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from belay_api.frames import CHANNEL, SUBPROTOCOL
from waiting import SECONDS, eventually

Frame = dict[str, Any]


def identifier(**named: str | None) -> str:
    """The text of an identifier, e.g. `identifier(agent_id="ns/a", session_id="s1")`."""
    return json.dumps({"channel": CHANNEL, **{key: value for key, value in named.items() if value is not None}})


class Peer:
    """A client that hides nothing and helps with nothing."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, *, deaf: bool = False) -> None:
        self.ws = ws
        self.frames: list[Frame] = []
        self.close_code: int | None = None
        self._refs = itertools.count(1)
        self._reading = None if deaf else asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        async for message in self.ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                self.frames.append(json.loads(message.data))
        self.close_code = self.ws.close_code

    async def stop(self) -> None:
        """End the reading."""
        if self._reading:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading

    # --- saying ------------------------------------------------------------------------------------------------

    async def send(self, **frame: Any) -> None:
        """Send one frame."""
        await self.ws.send_str(json.dumps(frame))

    async def subscribe(self, agent_id: str, session_id: str | None = None, **more: str) -> Frame:
        """Subscribe and return the `attached` message. Fails when it is rejected."""
        text = identifier(agent_id=agent_id, session_id=session_id, **more)
        answer = await self.asks(text)
        assert answer["type"] == "confirm_subscription", answer
        return await self.hears("attached", of=text)

    async def asks(self, text: str) -> Frame:
        """Subscribe to an identifier and return the confirmation or the rejection."""
        seen = len(self.frames)
        await self.send(command="subscribe", identifier=text)
        kinds = ("confirm_subscription", "reject_subscription")
        return await self._first(lambda f: f.get("type") in kinds and f["identifier"] == text, seen)

    async def act(self, text: str, action: str, **fields: Any) -> Frame:
        """Do an action and return its ack or error."""
        ref = f"r{next(self._refs)}"
        await self.start(text, action, ref=ref, **fields)
        return await self._message(lambda m: m.get("ref") == ref, text)

    async def start(self, text: str, action: str, **fields: Any) -> None:
        """Send an action without waiting for its answer."""
        await self.send(command="message", identifier=text, data=json.dumps({"action": action, **fields}))

    # --- hearing -----------------------------------------------------------------------------------------------

    async def hears(self, kind: str, of: str | None = None, **fields: Any) -> Frame:
        """The first message of this type with these fields, heard already or to come."""
        return await self._message(
            lambda m: m.get("type") == kind and all(m.get(key) == value for key, value in fields.items()), of
        )

    def heard(self, kind: str, **fields: Any) -> list[Frame]:
        """The messages of this type with these fields heard so far."""
        messages = [f["message"] for f in self.frames if isinstance(f.get("message"), dict)]
        return [m for m in messages if m.get("type") == kind and all(m.get(k) == v for k, v in fields.items())]

    async def disconnected(self, timeout: float = SECONDS) -> Frame:
        """The `disconnect` frame, once the socket is closed too."""
        frame = await self._first(lambda f: f.get("type") == "disconnect", 0, timeout)
        await eventually(lambda: self.ws.closed, timeout)
        return frame

    async def _message(self, matches: Any, of: str | None) -> Frame:
        def wanted(frame: Frame) -> bool:
            mine = of is None or frame.get("identifier") == of
            return mine and isinstance(frame.get("message"), dict) and bool(matches(frame["message"]))

        message: Frame = (await self._first(wanted, 0))["message"]
        return message

    async def _first(self, matches: Any, start: int, timeout: float = SECONDS) -> Frame:
        def look() -> list[Frame]:
            return [frame for frame in self.frames[start:] if matches(frame)]

        try:
            return (await eventually(look, timeout))[0]
        except AssertionError:
            raise AssertionError(f"not heard; heard were {self.frames[-20:]}, closed: {self.ws.closed}") from None


class Dialer:
    """Opens sockets to one gateway."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http
        self._peers: list[Peer] = []
        self._answering: set[int] = set()

    async def dial(self, token: str | None, *, deaf: bool = False, autoping: bool = True, **more: Any) -> Peer:
        """An open socket; `deaf` never reads, without `autoping` it answers no pings."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers.update(more.pop("headers", {}))
        protocols = more.pop("protocols", (SUBPROTOCOL,))
        ws = await self.http.ws_connect(
            f"{self.url}/cable", headers=headers, protocols=protocols, autoping=autoping, max_msg_size=0, **more
        )
        peer = Peer(ws, deaf=deaf)
        self._peers.append(peer)
        if autoping and not deaf and ws._response.connection and ws._response.connection.transport:
            self._answering.add(ws._response.connection.transport.get_extra_info("sockname")[1])
        return peer

    def answering_ports(self) -> set[int]:
        """The local ports of the peers that answer pings."""
        return self._answering

    async def hang_up(self) -> None:
        """Close all."""
        for peer in self._peers:
            await peer.stop()
            if peer.ws._response.connection:
                peer.ws._response.close()


@asynccontextmanager
async def dialer(url: str) -> AsyncIterator[Dialer]:
    """A dialer whose sockets are gone at the end."""
    async with aiohttp.ClientSession() as http:
        dialing = Dialer(url, http)
        try:
            yield dialing
        finally:
            await dialing.hang_up()


def cut(peer: Peer) -> None:
    """Break the connection off, without a close frame."""
    connection = peer.ws._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.abort()
