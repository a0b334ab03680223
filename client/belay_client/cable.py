"""One connection to a gateway: the socket and Action Cable's protocol on it, nothing about work.

connect ──▶ welcome ──▶ subscribe ──▶ confirm_subscription ──▶ messages … ──▶ broken off (Unreachable) | ended
"""

import asyncio
import json
from typing import Any, Self

import aiohttp
import structlog
from pydantic import ValidationError

from belay_api.actions import Action
from belay_api.frames import MAX_FRAME_BYTES, PING_SECONDS, SUBPROTOCOL, Command, DisconnectReason, ServerFrame
from belay_api.messages import MESSAGES, AnyMessage, ErrorCode
from belay_api.messages import Error as ErrorFrame
from belay_client.errors import Rejected, ResultTooLarge, Unreachable, ended_by, unauthorized
from belay_kube.clock import Clock

log = structlog.get_logger(__name__)

SILENCE_SECONDS = 4 * PING_SECONDS
"""Without any frame for so long, four pings, the connection is taken for dead."""
HANDSHAKE_SECONDS = 10.0
ATTACH_SECONDS = 30.0
"""How long the subscription's confirmation is waited for, and from there the answer to `resume`."""
ANSWER_SECONDS = 60.0
"""How long an action's answer is waited for on one connection. Pings set the pace at which these two are looked at."""
_MAX_INBOUND_BYTES = 4 << 20
"""A prompt of 64 KiB with all its inputs, escaped as JSON, is less."""
_RETRIED_CODES = frozenset({ErrorCode.UNAVAILABLE, DisconnectReason.LEASE_LOST, DisconnectReason.SERVER_RESTART})


class Cable:
    """An open socket; `receive` and `send` raise Unreachable when it breaks and ChannelEnded when it is over."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, gateway: str, identifier: str, clock: Clock) -> None:
        self._socket = socket
        self._gateway = gateway
        self._identifier = identifier
        self._clock = clock

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, url: str, token: str, identifier: str, clock: Clock) -> Self:
        """Connect and subscribe. Raises Unreachable, Unauthorized, Rejected."""
        cable = cls(await _upgrade(http, url, token), url, identifier, clock)
        try:
            await cable._subscribe()
        except BaseException:
            await cable.close()
            raise
        return cable

    async def close(self) -> None:
        """Close the socket; nobody is told anything."""
        await self._socket.close()

    async def send(self, action: Action) -> None:
        """Send one action. Raises ResultTooLarge, before anything is sent, when it does not fit a frame."""
        await self._transmit(encode(self._identifier, action))

    async def receive(self) -> AnyMessage | None:
        """The next message to this subscription; None for any other sign of life, pings above all."""
        frame = await self._frame()
        if frame.type is None and frame.identifier == self._identifier:
            return read_message(frame.message)
        return None

    async def _subscribe(self) -> None:
        until = self._clock.monotonic() + ATTACH_SECONDS
        await self._expect("welcome", until)
        command = Command(command="subscribe", identifier=self._identifier)
        await self._transmit(json.dumps(command.wire(), ensure_ascii=False))
        await self._expect("confirm_subscription", until)

    async def _expect(self, kind: str, until: float) -> None:
        while (await self._frame()).type != kind:
            if self._clock.monotonic() >= until:
                raise Unreachable(f"the gateway at {self._gateway} sent no {kind} within {ATTACH_SECONDS:.0f} seconds")

    async def _transmit(self, text: str) -> None:
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"the connection to {self._gateway} broke off") from error

    async def _frame(self) -> ServerFrame:
        """The next frame of the cable's; pings are some, they show that the other side lives."""
        while True:
            text = await self._text()
            try:
                frame = ServerFrame.model_validate(json.loads(text))
            except (ValueError, RecursionError):
                log.warning("frame passed over: not one of the cable's", start=text[:80])
                continue
            self._raise_for(frame)
            return frame

    def _raise_for(self, frame: ServerFrame) -> None:
        if frame.type == "disconnect":
            if frame.reconnect is False:
                raise ended_by(frame.reason or "", self._gateway)
            why = frame.reason or "no reason given"
            raise Unreachable(f"the gateway at {self._gateway} closed the connection ({why})")
        if frame.type == "reject_subscription":
            said = str(frame.message or f"the gateway refused the subscription ({frame.reason or 'no reason given'})")
            if frame.reason in _RETRIED_CODES:
                raise Unreachable(said)
            raise Rejected(frame.reason or "", said)

    async def _text(self) -> str:
        """The text of the next frame. Raises Unreachable at the end, and after SILENCE_SECONDS without one."""
        receive = asyncio.ensure_future(self._socket.receive())
        silence = asyncio.ensure_future(self._clock.sleep(SILENCE_SECONDS))
        try:
            await asyncio.wait({receive, silence}, return_when=asyncio.FIRST_COMPLETED)
            if not receive.done():
                raise Unreachable(f"the gateway at {self._gateway} fell silent for {SILENCE_SECONDS} seconds")
            frame = receive.result()
        except (aiohttp.ClientError, OSError) as error:
            # Of a process that was frozen: the answer to a ping that waited meets a connection that is gone.
            raise Unreachable(f"the connection to {self._gateway} broke off") from error
        finally:
            receive.cancel()
            silence.cancel()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise Unreachable(f"the connection to {self._gateway} broke off")
        return str(frame.data)


async def _upgrade(http: aiohttp.ClientSession, url: str, token: str) -> aiohttp.ClientWebSocketResponse:
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            socket = await http.ws_connect(
                url, protocols=(SUBPROTOCOL,), headers=headers, max_msg_size=_MAX_INBOUND_BYTES, compress=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            )  # fmt: skip
    except aiohttp.WSServerHandshakeError as error:
        if error.status in (401, 403):
            raise unauthorized(url) from error
        raise Unreachable(f"the gateway at {url} answered HTTP {error.status} {error.message}".rstrip()) from error
    except TimeoutError as error:
        raise Unreachable(f"the gateway at {url} did not answer within {HANDSHAKE_SECONDS:.0f} seconds") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unreachable(f"no gateway can be reached at {url} ({error})") from error
    if socket.protocol != SUBPROTOCOL:
        await socket.close()
        raise Unreachable(f"the server at {url} does not speak {SUBPROTOCOL}: is it a Belay gateway?")
    return socket


def encode(identifier: str, action: Action) -> str:
    """The text frame of one action. Raises ResultTooLarge when the gateway would not take it."""
    data = json.dumps(action.wire(), ensure_ascii=False)
    command = Command(command="message", identifier=identifier, data=data)
    text = json.dumps(command.wire(), ensure_ascii=False)
    if len(text.encode()) > MAX_FRAME_BYTES:
        raise ResultTooLarge(
            f"it takes a frame of more than {MAX_FRAME_BYTES >> 10} KiB: write it elsewhere and reply with its URI"
        )
    return text


def read_message(raw: Any) -> AnyMessage | None:
    """The message, also from a newer gateway that knows more fields; None when it is of no known kind.

    An answer that can't be read is still an answer: it becomes an error with its `ref`.
    """
    try:
        return MESSAGES.validate_python(raw)
    except ValidationError as error:
        unknown = {str(e["loc"][1]) for e in error.errors() if e["type"] == "extra_forbidden" and len(e["loc"]) == 2}
        if unknown and isinstance(raw, dict):
            return read_message({key: value for key, value in raw.items() if key not in unknown})
    log.warning("message passed over: not one of the protocol's", start=str(raw)[:80])
    if isinstance(raw, dict) and isinstance(raw.get("ref"), str | int):
        return ErrorFrame(ref=raw["ref"], code=ErrorCode.INVALID, message="the gateway's answer can't be read")
    return None
