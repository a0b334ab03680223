"""What a peer says, until it is gone: bounded and read here, and carried out in its order (DESIGN.md section 6).

Nothing here waits for the API server, so that a peer's signs of life are heard at once: commands go to a lane, and
messages to confirmed subscriptions are handed on directly.
"""

from typing import Protocol

from aiohttp import WSMessage, WSMsgType, web

from belay_api.frames import Command, DisconnectReason
from belay_api.messages import Error, ErrorCode
from belay_api.reasons import SubscriptionReason
from belay_gateway.auth import User
from belay_gateway.bucket import Bucket
from belay_gateway.lanes import Lane
from belay_gateway.metrics import Metrics
from belay_gateway.refusals import Why
from belay_gateway.subscription import Subscription
from belay_gateway.wire import Malformed, parse_command, ref_in
from belay_kube.clock import Clock
from belay_kube.logs import about

_QUEUED_COMMANDS = 64
_BURST = 5


class Heard(Protocol):
    """The connection, as far as what is heard goes to it."""

    user: User

    @property
    def is_closing(self) -> bool:
        """Whether nothing that the peer says counts any more."""

    def subscription(self, identifier: str) -> Subscription | None:
        """A confirmed one."""

    async def subscribe(self, identifier: str) -> None:
        """Make it, and confirm or reject it."""

    def unsubscribe(self, identifier: str) -> None:
        """End it as the peer asks."""

    def refuse(self, identifier: str, why: Why, error: Error) -> None:
        """Answer to one subscription with an error."""

    def turn_away(self, why: Why, reason: DisconnectReason, message: str = "", *, reconnect: bool = False) -> None:
        """Close."""

    async def pong(self, data: bytes) -> None:
        """Answer the peer's ping."""


class Hearing:
    """Hears one peer."""

    __slots__ = ("_asked", "_bucket", "_clock", "_commands", "_connection", "_metrics", "_ws", "heard_at")

    def __init__(
        self, connection: Heard, ws: web.WebSocketResponse, clock: Clock, metrics: Metrics, frames_per_second: float
    ) -> None:
        self._connection = connection
        self._ws = ws
        self._clock = clock
        self._metrics = metrics
        self._commands: Lane[Command] = Lane(self._carry_out, _QUEUED_COMMANDS)
        self._bucket = Bucket(clock, frames_per_second, frames_per_second * _BURST)
        self._asked: dict[str, Command] = {}
        """The subscribes that are not answered yet, by identifier."""
        self.heard_at = clock.monotonic()
        """Monotonic time of the last byte."""

    async def until_gone(self) -> SubscriptionReason:
        """Hear the peer until it is gone; why it went."""
        while True:
            message = await self._ws.receive()
            self.heard_at = self._clock.monotonic()
            match message.type:
                case WSMsgType.CLOSE:
                    return SubscriptionReason.CLOSED
                case WSMsgType.CLOSING | WSMsgType.CLOSED | WSMsgType.ERROR:
                    return SubscriptionReason.CONNECTION_LOST
            if not self._connection.is_closing:
                await self._hear(message)

    async def _hear(self, message: WSMessage) -> None:
        if not self._bucket.take():
            self._connection.turn_away(Why.FLOOD, DisconnectReason.FLOOD, reconnect=True)
            return
        match message.type:
            case WSMsgType.TEXT:
                self._text(message.data)
            case WSMsgType.BINARY:
                self._connection.turn_away(Why.BINARY, DisconnectReason.PROTOCOL, "frames are text: JSON, not binary")
            case WSMsgType.PING:
                await self._connection.pong(message.data)

    def _text(self, text: str) -> None:
        try:
            command = parse_command(text)
        except Malformed as error:
            self._count("malformed")
            if error.identifier is None:
                self._connection.turn_away(Why.MALFORMED, DisconnectReason.PROTOCOL, error.message)
            else:
                self._connection.refuse(error.identifier, Why.MALFORMED, Error(code=error.code, message=error.message))
            return
        self._count(command.command)
        subscription = self._connection.subscription(command.identifier)
        if command.command == "message" and subscription and self._commands.idle:
            subscription.receive(command.data)
        elif not self._is_asked_again(command) and not self._commands.put(command):
            self._connection.turn_away(Why.FLOOD, DisconnectReason.FLOOD, reconnect=True)

    def _is_asked_again(self, command: Command) -> bool:
        """Clients ask again while a subscribe is slow; one answer is for all: a second one is a stray to some."""
        if command.command == "unsubscribe":
            self._asked.pop(command.identifier, None)
        elif command.command == "subscribe":
            return self._asked.setdefault(command.identifier, command) is not command
        return False

    async def _carry_out(self, command: Command) -> None:
        if not self._connection.is_closing:
            with about(user=self._connection.user.name):
                await self._obey(command)

    async def _obey(self, command: Command) -> None:
        if command.command == "subscribe":
            try:
                await self._connection.subscribe(command.identifier)
            finally:
                if self._asked.get(command.identifier) is command:
                    del self._asked[command.identifier]
            return
        subscription = self._connection.subscription(command.identifier)
        if subscription is None:
            sentence, ref = "not subscribed: subscribe first", ref_in(command.data)
            error = Error(code=ErrorCode.NOT_FOUND, message=sentence, ref=ref)
            self._connection.refuse(command.identifier, Why.NOT_SUBSCRIBED, error)
        elif command.command == "message":
            subscription.receive(command.data)
        else:
            self._connection.unsubscribe(command.identifier)

    async def finish(self, seconds: float) -> None:
        """Wait until all commands are carried out, at most `seconds`."""
        await self._commands.finish(seconds)

    def _count(self, kind: str) -> None:
        self._metrics.frames_in.labels(kind).inc()
