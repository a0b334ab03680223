"""One connection: Action Cable's wire protocol (`actioncable-v1-json`), whoever speaks it (DESIGN.md section 6).

What the peer says is heard in hearing.py; here are the subscriptions, what they say, and the end. Whatever a peer sends
ends at most its own socket.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from belay_api.frames import (
    CableFrame,
    ConfirmSubscription,
    DisconnectReason,
    Frame,
    Identifier,
    RejectSubscription,
    Welcome,
)
from belay_api.messages import Error, ErrorCode
from belay_api.reasons import SubscriptionReason
from belay_gateway.auth import Bearer, User
from belay_gateway.backlog import Backlog, Shared
from belay_gateway.closing import close_code, disconnect_frame, lost_by
from belay_gateway.hearing import Hearing
from belay_gateway.lanes import Outbox
from belay_gateway.metrics import Metrics
from belay_gateway.refusals import Why
from belay_gateway.settings import Settings
from belay_gateway.subscription import Rejected, Subscription
from belay_gateway.tasks import Tasks
from belay_gateway.wire import Malformed, parse_identifier, text_of
from belay_kube.clock import Clock
from belay_kube.errors import KubeError

_LEAVE_SECONDS = 5.0

Subscribe = Callable[["Connection", str, Identifier], Awaitable[Subscription]]


@dataclass(frozen=True)
class Cable:
    """What every connection of one gateway shares."""

    clock: Clock
    settings: Settings
    metrics: Metrics
    tasks: Tasks
    subscribe: Subscribe
    """Makes the subscription an identifier asks for. Raises Rejected, KubeError."""
    backlog: Backlog


class Connection:
    """One open socket of one user."""

    __slots__ = (
        "_cable",
        "_closing",
        "_ended",
        "_hearing",
        "_outbox",
        "_port",
        "_subscriptions",
        "_ws",
        "bearer",
        "json_pinged",
        "review_at",
        "reviewed_at",
        "reviewing",
        "user",
        "ws_pinged",
    )

    def __init__(
        self,
        cable: Cable,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        user: User,
        bearer: Bearer,
        review_in: float,
    ) -> None:
        self._cable = cable
        self._ws = ws
        self.user = user
        self.bearer = bearer
        settings, now = cable.settings, cable.clock.monotonic()
        self._outbox = Outbox(ws, transport, cable.backlog, self._overflowed)
        self._hearing = Hearing(self, ws, cable.clock, cable.metrics, settings.max_frames_per_second)
        self._subscriptions: dict[str, Subscription] = {}
        self.json_pinged = self.ws_pinged = self.reviewed_at = now
        self.review_at = now + review_in
        self.reviewing = False
        self._port: int | None = transport.get_extra_info("peername")[1] if transport else None
        self._closing: asyncio.Task[None] | None = None
        self._ended = False

    # --- the peer's side ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Speak with the peer until one side ends it."""
        self._put(Welcome())
        lost = SubscriptionReason.CONNECTION_LOST
        try:
            lost = await self._hearing.until_gone()
        finally:
            await self._leave(lost)

    def turn_away(self, why: Why, reason: DisconnectReason, message: str = "", *, reconnect: bool = False) -> None:
        """Close because of what the peer did."""
        self._cable.metrics.refusals.count(why)
        self.disconnect(reason, reconnect=reconnect, message=message)

    async def subscribe(self, text: str) -> None:
        """Make the subscription that an identifier asks for, and confirm or reject it."""
        if text in self._subscriptions:
            self._put(ConfirmSubscription(identifier=text))  # the peer didn't hear it the first time
            return
        try:
            subscription = await self._subscription(text)
        except Rejected as refused:
            self._cable.metrics.subscribes.labels(str(refused.code)).inc()
            self._cable.metrics.refusals.subscribe(refused.code)
            self._reject(text, str(refused.code), refused.message)
            return
        if self._ended or self._closing:
            subscription.end(SubscriptionReason.CONNECTION_LOST)
            return
        self._cable.metrics.subscribes.labels("confirmed").inc()
        self._subscriptions[text] = subscription
        self._put(ConfirmSubscription(identifier=text))
        subscription.confirmed()

    async def _subscription(self, text: str) -> Subscription:
        if len(self._subscriptions) >= self._cable.settings.max_subscriptions_per_socket:
            most = self._cable.settings.max_subscriptions_per_socket
            raise Rejected(ErrorCode.TOO_LARGE, f"at most {most} subscriptions on one socket: open another")
        try:
            return await self._cable.subscribe(self, text, parse_identifier(text))
        except Malformed as error:
            raise Rejected(error.code, error.message) from None
        except KubeError as error:
            sentence = f"the API server can't be asked now, try again: {error.message}"
            raise Rejected(ErrorCode.UNAVAILABLE, sentence[:500]) from None

    def subscription(self, identifier: str) -> Subscription | None:
        """A confirmed one."""
        return self._subscriptions.get(identifier)

    def unsubscribe(self, identifier: str) -> None:
        """End a subscription as its peer asks."""
        self._drop(identifier, SubscriptionReason.UNSUBSCRIBED)

    # --- the gateway's side ------------------------------------------------------------------------------------

    def say(self, identifier: str, message: Frame, sent: Callable[[], None] | None = None) -> None:
        """Queue a message for one subscription."""
        wire = message.wire()
        self._cable.metrics.frames_out.labels(wire["type"]).inc()
        self._outbox.put(text_of({"identifier": identifier, "message": wire}), sent)

    def refuse(self, identifier: str, why: Why, error: Error) -> None:
        """Answer with an error that no channel counts."""
        self._cable.metrics.refusals.count(why)
        self.say(identifier, error)

    def say_shared(self, identifier: str, shared: Shared) -> None:
        """Queue a message that many are told."""
        self._cable.metrics.frames_out.labels(shared.kind).inc()
        self._outbox.put_shared(identifier, shared)

    def disconnect(self, reason: DisconnectReason, *, reconnect: bool, message: str = "") -> None:
        """Tell the peer why, and close; its subscriptions end now."""
        if self._closing or self._ended:
            return
        self._cable.metrics.disconnects.labels(str(reason)).inc()
        self._closing = self._cable.tasks.spawn(self._close(reason, reconnect, message), "close of a socket")
        self._end_all(lost_by(reason))

    def leave(self, identifier: str, why: SubscriptionReason) -> None:
        """End one subscription that asked for it, and the socket with the last one."""
        self._drop(identifier, why)
        if not self._subscriptions:
            self.disconnect(DisconnectReason.REMOTE, reconnect=False)

    def end(self, identifier: str, reason: DisconnectReason, message: str, *, reconnect: bool) -> None:
        """End one subscription and say why; the socket too if it has no other, or if this one is to come back: no
        client's library subscribes again to what was rejected, but all do after a reconnect."""
        is_last = not self._subscriptions.keys() - {identifier} or identifier not in self._subscriptions
        if reconnect or is_last:
            self.disconnect(reason, reconnect=reconnect, message=message)
            return
        self._drop(identifier, lost_by(reason))
        self._reject(identifier, str(reason), message)

    def has_room(self) -> bool:
        """Whether less than half of what may wait for the peer does."""
        return self._outbox.has_room

    @property
    def port(self) -> int | None:
        """The peer's own port, by which it can be told from others of its address."""
        return self._port

    @property
    def is_closing(self) -> bool:
        """Whether somebody is closing it."""
        return self._closing is not None

    @property
    def is_open(self) -> bool:
        """Whether nobody is closing it."""
        return self._closing is None and not self._ended

    def heard_at(self) -> float:
        """Monotonic time of the last byte heard."""
        return self._hearing.heard_at

    def stale_after(self) -> float:
        """Seconds of silence after which this peer is lost: what its agents ask for."""
        asked = [seconds for s in self._subscriptions.values() if (seconds := s.stale_after()) is not None]
        return min(asked, default=float(self._cable.settings.stale_after_seconds))

    def review_soon(self) -> None:
        """Review the right to be here at the next turn."""
        self.review_at = self._cable.clock.monotonic()

    async def no_longer_allowed(self, user: User) -> list[str]:
        """The subscriptions of this socket that `user` may not have any more. Raises KubeError."""
        subscriptions = tuple(self._subscriptions.items())
        return [identifier for identifier, s in subscriptions if not await s.still_allowed(user)]

    async def ping_json(self, text: str) -> None:
        """The cable's ping, unless the peer has not yet taken what was sent before."""
        await self._outbox.write_at_once(lambda: self._ws.send_str(text))

    async def ping(self) -> None:
        """The WebSocket's ping, which any peer answers by itself."""
        await self._outbox.write_at_once(self._ws.ping)

    async def pong(self, data: bytes) -> None:
        """The answer to a ping of the peer."""
        await self._outbox.write_at_once(lambda: self._ws.pong(data))

    def _put(self, frame: CableFrame) -> None:
        self._cable.metrics.frames_out.labels(frame.type).inc()
        self._outbox.put(text_of(frame.wire()))

    def _reject(self, identifier: str, reason: str, message: str) -> None:
        self._put(RejectSubscription(identifier=identifier, reason=reason, message=message))

    def _overflowed(self) -> None:
        if self.is_open:
            self.turn_away(Why.SLOW_CONSUMER, DisconnectReason.SLOW, reconnect=True)

    def _drop(self, identifier: str, why: SubscriptionReason) -> None:
        subscription = self._subscriptions.pop(identifier, None)
        if subscription:
            subscription.end(why)

    def _end_all(self, why: SubscriptionReason) -> None:
        for identifier in tuple(self._subscriptions):
            self._drop(identifier, why)

    async def _close(self, reason: DisconnectReason, reconnect: bool, message: str) -> None:
        self._outbox.end_with(disconnect_frame(reason, reconnect, message), drop=reason == DisconnectReason.SLOW)
        try:
            async with asyncio.timeout(self._cable.settings.close_seconds):
                await self._outbox.flushed()
                await self._ws.close(code=close_code(reason), message=reason.encode())
        except TimeoutError:
            self._cut_off()

    def _cut_off(self) -> None:
        self._cable.metrics.refusals.count(Why.CLOSE_TIMEOUT)
        self._outbox.abort()

    def _cut_off_unread(self) -> None:
        if self._outbox.unsent:
            self._cut_off()

    async def _leave(self, lost: SubscriptionReason) -> None:
        await self._hearing.finish(0 if self._closing else _LEAVE_SECONDS)
        self._ended = True
        self._end_all(lost)
        if self._closing:
            await asyncio.wait({self._closing})
        self._outbox.stop()
        if self._outbox.unsent:
            # A connection closes once all is sent: one whose peer doesn't read never would.
            asyncio.get_running_loop().call_later(self._cable.settings.close_seconds, self._cut_off_unread)
