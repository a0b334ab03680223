"""One session of an agent, across any number of connections.

connect ──▶ attached ──▶ resume (all that is held) ──▶ verdicts ──▶ actions, offers, cancels … ──▶ broken off: again
"""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import aiohttp
import structlog
from pydantic import ValidationError

from belay_api.actions import Accept, Action, Cancelled, Heartbeat, ProgressMade
from belay_api.frames import CHANNEL, Identifier
from belay_api.messages import (
    Ack,
    AnyMessage,
    Attached,
    Broadcast,
    Cancel,
    Dispatch,
    ErrorCode,
    PermissionDecision,
    Revoked,
)
from belay_api.messages import Error as ErrorFrame
from belay_api.names import parse_ref
from belay_client.backoff import Backoff
from belay_client.cable import ANSWER_SECONDS, ATTACH_SECONDS, Cable
from belay_client.calls import Calls
from belay_client.endpoint import Token, read_token
from belay_client.errors import ChannelError, Refused, Unreachable, UsageError, WorkOver
from belay_client.held import RESUME_REF, Held
from belay_client.inbox import Inbox
from belay_client.offers import Offers
from belay_client.permissions import Permissions
from belay_kube.clock import Clock

log = structlog.get_logger(__name__)

STEADY_SECONDS = 30.0
"""A connection that held for so long starts the backoff anew."""
_WAITED_OUT = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.RATE_LIMITED})
"""Answers that another try may change."""


@dataclass(frozen=True)
class Pauses:
    """How long to wait before trying again."""

    clock: Clock
    backoff: Backoff
    chance: Callable[[], float] = random.random

    async def after(self, failures: int) -> float:
        """Wait out so many failures in a row; returns for how many seconds."""
        seconds = self.backoff.delay(failures, self.chance())
        await self.clock.sleep(seconds)
        return seconds


class Session:
    """Keeps itself attached while `run` runs; what is held, offered and unanswered outlives each connection."""

    def __init__(
        self, url: str, agent: str, token: Token, session_id: str | None, pauses: Pauses, *, keep_trying: bool
    ) -> None:
        self.id = session_id
        self.calls, self.held, self.offers = Calls(pauses.clock), Held(), Offers()
        self.permissions = Permissions()
        self.broadcasts: Inbox[Broadcast] = Inbox()
        self.attached = asyncio.Event()
        """Set once the first resume was answered."""
        self.leaving = False
        """Set when a broken connection is to be the last."""
        self._url = url
        self._agent = agent
        self._token = token
        self._pauses = self._reconnects = pauses
        self._keep_trying = keep_trying
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> NoReturn:
        """Attach, and again whenever the connection breaks. Raises ChannelEnded; before it was ever attached also
        UsageError for the token and, unless told to keep trying, Unreachable."""
        async with aiohttp.ClientSession() as http:
            try:
                await self._keep_attached(http)
            finally:
                await self._abandon()

    async def insist(self, action: Action) -> Ack:
        """Carry out an action, tried again for as long as the gateway answers that it can't write, or not so fast."""
        failures = 0
        while True:
            try:
                return await self.calls.call(action)
            except Refused as error:
                if error.code not in _WAITED_OUT:
                    raise
                failures += 1
                log.warning("gateway can't carry it out now", action=type(action).__name__, error=str(error))
                await self._pauses.after(failures)

    async def replay(self) -> None:
        """Ask again for the decisions on all that is open."""
        for action in self.permissions.replays():
            await self.insist(action)

    def end(self, error: Exception) -> None:
        """The session is over: everyone who waits for something of it is told, and held work is to stop."""
        self.calls.end(error)
        self.offers.end(error)
        self.permissions.decisions.end(error)
        self.broadcasts.end(error)
        self.held.lose_all(str(error))

    def acknowledge(self, name: str, attempt: int) -> None:
        """Nothing of a cancelled attempt runs here: say so, beside everything else."""
        self.spawn(self.insist(Cancelled(name=name, attempt=attempt)))

    def spawn(self, sending: Coroutine[Any, Any, Any]) -> None:
        """Do it beside everything else; a reader must never wait for a peer that doesn't read."""
        task = asyncio.create_task(_quietly(sending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_attached(self, http: aiohttp.ClientSession) -> NoReturn:
        failures, clock = 0, self._pauses.clock
        while True:
            began = clock.monotonic()
            try:
                await self._connection(http)
            except Unreachable as error:
                if self.leaving or not (self._keep_trying or self.attached.is_set()):
                    raise
                failures = 1 if clock.monotonic() - began >= STEADY_SECONDS else failures + 1
                log.warning("not connected", why=str(error), failures=failures)
            await self._reconnects.after(failures)

    async def _connection(self, http: aiohttp.ClientSession) -> NoReturn:
        """Serve one connection until it breaks. Raises Unreachable, ChannelEnded, UsageError."""
        token, identifier = self._current_token(), identifier_text(self._agent, self.id)
        cable = await Cable.open(http, self._url, token, identifier, self._pauses.clock)
        attached_by = self._pauses.clock.monotonic() + ATTACH_SECONDS
        try:
            while True:
                message = await cable.receive()
                if message is not None:
                    self._handle(cable, message)
                self._check_answers(attached_by)
        finally:
            self.calls.close()
            self.offers.clear()
            await cable.close()

    def _check_answers(self, attached_by: float) -> None:
        """A gateway that only pings is no better than none. Raises Unreachable."""
        if not self.calls.connected and self._pauses.clock.monotonic() >= attached_by:
            raise Unreachable(f"the gateway did not resume the session within {ATTACH_SECONDS:.0f} seconds")
        late = self.calls.overdue()
        if late is not None:
            raise Unreachable(f"the gateway did not answer {late} within {ANSWER_SECONDS:.0f} seconds")

    def _current_token(self) -> str:
        try:
            return read_token(self._token)
        except UsageError as error:
            if not self.attached.is_set():
                raise
            raise Unreachable(str(error)) from error

    def _handle(self, cable: Cable, message: AnyMessage) -> None:
        match message:
            case Attached():
                self.id = message.session
                self._reconnects = replace(self._pauses, backoff=self._pauses.backoff.within(message.grace_seconds))
                self.spawn(cable.send(self.held.resume()))
            case Ack() | ErrorFrame() if message.ref == RESUME_REF:
                self._resumed(cable, message)
            case Ack() | ErrorFrame():
                self.calls.answer(message)
            case Dispatch() if not self.held.is_accepted((message.name, message.attempt)):
                self.offers.add(message)
            case Revoked():
                self.offers.revoke((message.name, message.attempt))
            case Cancel():
                self._cancel(message)
            case PermissionDecision():
                self.permissions.decided(message)
            case Broadcast():
                self.broadcasts.add(message)

    def _resumed(self, cable: Cable, answer: Ack | ErrorFrame) -> None:
        """Stop what was taken away, then send again what was never answered.

        A result is sent again whatever the verdict was: the server knows best whether it still counts.
        """
        if isinstance(answer, ErrorFrame):
            raise Unreachable(f"the gateway could not resume the session: {answer.message} ({answer.code})")
        ended = self.held.judge(answer.held or ())
        self.calls.drop(
            lambda action: (
                isinstance(action, Accept | Heartbeat | ProgressMade) and (action.name, action.attempt) in ended
            ),
            WorkOver("it ended while this agent was away"),
        )
        self.calls.use(cable)
        self.spawn(self.calls.flush())
        self.spawn(self.replay())
        log.info("attached", agent=self._agent, session=self.id, held=len(self.held))
        self.attached.set()

    def _cancel(self, frame: Cancel) -> None:
        self.offers.revoke((frame.name, frame.attempt))
        if not self.held.cancel(frame):
            self.acknowledge(frame.name, frame.attempt)

    async def _abandon(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def identifier_text(agent: str, session_id: str | None) -> str:
    """The subscription's identifier. Raises UsageError for names that can't be."""
    try:
        parse_ref(agent)
        said = Identifier(channel=CHANNEL, agent_id=agent, session_id=session_id)
    except ValidationError as error:
        raise UsageError(f"session id {session_id!r} is not 1 to 128 characters of A-Z a-z 0-9 . _ -") from error
    except ValueError as error:
        raise UsageError(f"agent {error}") from error
    return json.dumps(said.wire())


async def _quietly(sending: Coroutine[Any, Any, Any]) -> None:
    with suppress(ChannelError):
        await sending
