"""An agent's channel to its gateway, as a user of the SDK sees it."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn, Self

from belay_api.actions import Accept, Action, Goodbye
from belay_api.messages import Ack, Dispatch, ErrorCode
from belay_api.reasons import Reason
from belay_client.backoff import Backoff
from belay_client.conversation import Conversation
from belay_client.endpoint import Token, cable_url
from belay_client.errors import ChannelClosed, ChannelError, Refused, WorkOver
from belay_client.heart import Heart
from belay_client.held import MAX_HELD, lose
from belay_client.session import Pauses, Session, identifier_text
from belay_client.work import Offer, Work, accept_of
from belay_kube.clock import Clock, SystemClock

GOODBYE_SECONDS = 5.0
_LOST = frozenset({ErrorCode.TAKEN, ErrorCode.NOT_FOUND, ErrorCode.NOT_HOLDER, ErrorCode.SUPERSEDED})
"""Answers that say the work is not this session's."""


class AgentChannel(Conversation):
    """Attaches as an agent for as long as the `async with` lasts, reconnecting as often as it takes.

    Leaving it without an exception says goodbye: the session will not return, and its work is dealt with at once.
    With one it only closes, and the session's grace runs. A channel can be entered once.

    Args:
        url: the gateway's address; `/cable` is added.
        agent: `namespace/name`.
        token: the bearer token, the file that holds it (read again at each connect), or a function.
        session_id: names this process among those of the agent; made up by the server when left out.
        backoff: pauses in seconds between tries; `chance` draws the jitter from 0 to 1.
        beat: whether held work is kept alive without the user's doing; turn it off where a wedged agent must not
            look alive.
        beat_seconds: seconds between two such beats, instead of min(30, stuck threshold / 4).
        keep_trying: whether a gateway that can't be reached is tried again before the first attachment too.

    Raises:
        UsageError: an argument that can't be right, or no token.
        Unreachable: on entering, without `keep_trying`.
        ChannelEnded: on entering, and from whatever waits: unauthorized, rejected, replaced, or ended by the server.
    """

    def __init__(
        self,
        url: str,
        *,
        agent: str,
        token: Token,
        session_id: str | None = None,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        chance: Callable[[], float] = random.random,
        beat: bool = True,
        beat_seconds: float | None = None,
        keep_trying: bool = True,
    ) -> None:
        identifier_text(agent, session_id)
        self._clock = clock or SystemClock()
        pauses = Pauses(self._clock, backoff or Backoff(), chance)
        self._session = Session(cable_url(url), agent, token, session_id, pauses, keep_trying=keep_trying)
        self._heart = Heart(self._clock, beat_seconds) if beat else None
        self._left = False

    @property
    def session_id(self) -> str | None:
        """The session's name; known once attached."""
        return self._session.id

    @property
    def attached(self) -> bool:
        """Whether it has ever been attached."""
        return self._session.attached.is_set()

    async def __aenter__(self) -> Self:
        self._runner = asyncio.create_task(self._session.run())
        self._runner.add_done_callback(self._ended)
        attached = asyncio.create_task(self._session.attached.wait())
        try:
            await asyncio.wait({attached, self._runner}, return_when=asyncio.FIRST_COMPLETED)
            if not attached.done():
                await self._runner
        except BaseException:
            await self._leave()
            raise
        finally:
            attached.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.goodbye()
        finally:
            await self._leave()

    async def offers(self) -> AsyncIterator[Offer]:
        """Offers as they come, until the channel is left. Raises ChannelEnded when the server ends it."""
        while True:
            try:
                offer = await self.next_offer()
            except ChannelClosed:
                return
            yield offer

    async def next_offer(self) -> Offer:
        """Wait for the next offer; those that were taken back meanwhile are not shown."""
        return Offer(await self._session.offers.next(), self)

    async def goodbye(self) -> None:
        """Say that this session will not return, and leave. Not being connected, it only leaves."""
        if self._session.calls.connected:
            self._left = self._session.leaving = True
            said = asyncio.create_task(self._session.calls.call(Goodbye()))
            late = asyncio.create_task(self._clock.sleep(GOODBYE_SECONDS))
            await asyncio.wait({said, late, self._runner}, return_when=asyncio.FIRST_COMPLETED)
            for task in (said, late):
                task.cancel()
                with suppress(ChannelError, asyncio.CancelledError):
                    await task
        await self._leave()

    # --- what offers and work ask for (belay_client.work.Holder) ---------------------------------------------------

    async def take(self, dispatch: Dispatch) -> Work | None:
        """Accept an offer; None when it can't be had (any more), or is held already.

        Cancelled once the server was asked, the answer is waited for beside, and the work is given back.
        """
        held, work = self._session.held, Work(dispatch, self)
        if work.key in held or len(held) >= MAX_HELD:
            return None
        held.add(work)
        asking = asyncio.create_task(self._ask_for(work))
        try:
            ours = await asyncio.shield(asking)
        except asyncio.CancelledError:
            if not self._session.calls.sent(Accept, *work.key):
                asking.cancel()
            self._session.spawn(self._give_back(work, asking))
            raise
        if ours and self._heart:
            self._heart.start(work)
        return work if ours else None

    async def _ask_for(self, work: Work) -> bool:
        """Whether the server gave it to us; if not, it is held no more."""
        try:
            await self._session.insist(accept_of(work.dispatch))
        except BaseException as error:
            self._session.held.remove(work)
            if work.cancelled.proof_wanted:
                self._session.acknowledge(*work.key)
            if isinstance(error, WorkOver) or (isinstance(error, Refused) and error.code in _LOST):
                return False
            raise
        work.accepted = True
        return True

    async def _give_back(self, work: Work, asking: "asyncio.Task[bool]") -> None:
        """Once it is ours, fail it, or acknowledge its cancel, so that nobody waits for it."""
        with suppress(asyncio.CancelledError):
            if await asking:
                with suppress(Refused, WorkOver):
                    await work.fail("the agent gave it up before it began")
                await work.acknowledge_cancel()

    async def act(self, work: Work, action: Action) -> Ack:
        """Carry out one action; an answer that the work isn't ours tells it to stop."""
        return await self._on_work(work, self._session.calls.call(action))

    async def finish(self, work: Work, action: Action) -> Ack:
        """Carry out the last action, tried again while the server can't write."""
        return await self._on_work(work, self._session.insist(action))

    def release(self, work: Work) -> None:
        """Hold it no longer."""
        work.over = True
        self._session.held.remove(work)
        if self._heart:
            self._heart.stop(work.key)

    async def _on_work(self, work: Work, answer: Coroutine[Any, Any, Ack]) -> Ack:
        try:
            return await answer
        except Refused as error:
            if error.code in _LOST:
                lose(work, Reason.SUPERSEDED, str(error))
                if not work.cancelled.proof_wanted:
                    self.release(work)
            raise

    # --- the end ---------------------------------------------------------------------------------------------------

    def _ended(self, runner: "asyncio.Task[NoReturn]") -> None:
        """The session is over: everyone who waits is told, and held work is to stop."""
        error = None if runner.cancelled() else runner.exception()
        over = error if isinstance(error, Exception) and not self._left else ChannelClosed("the channel was left")
        self._session.end(over)
        if self._heart:
            self._heart.stop_all()

    async def _leave(self) -> None:
        self._left = True
        self._runner.cancel()
        await asyncio.wait({self._runner})
