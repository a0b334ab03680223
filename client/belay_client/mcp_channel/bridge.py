"""Work between Belay and Claude Code: what is offered is taken and told, what Claude says of it is passed on."""

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog

from belay_client.channel import AgentChannel
from belay_client.errors import ChannelEnded, ClientError, Refused
from belay_client.mcp_channel import messages
from belay_client.mcp_channel.messages import CHANNEL, Notice, PermissionPrompt
from belay_client.mcp_channel.parts import Parts
from belay_client.mcp_channel.patience import LAST_WORDS_SECONDS, Patience, ToolError, end
from belay_client.mcp_channel.prompts import Notify, Prompts
from belay_client.work import Key, Work
from belay_kube.clock import Clock

log = structlog.get_logger(__name__)


class Bridge:
    """The work of one Claude Code session, at most `most` at once.

    Work that was cancelled keeps its place until Claude says that it has stopped: one who doesn't stop gets no more.
    """

    def __init__(self, channel: AgentChannel, notify: Notify, clock: Clock, most: int = 1) -> None:
        self.prompts = Prompts(channel, notify)
        self._channel = channel
        self._notify = notify
        self._patience = Patience(clock)
        self._parts = Parts(channel, self.tell, self._patience)
        self._slots = asyncio.Semaphore(most)
        self._works: dict[Key, Work] = {}
        self._following: dict[Key, asyncio.Task[None]] = {}
        self._telling: dict[Key, asyncio.Task[None]] = {}
        self._notices: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Take work until `stop`. Raises ChannelEnded when Belay's side ends it."""
        waits: list[Coroutine[Any, Any, Any]] = [
            stop.wait(), self._take_offers(), self.prompts.relay(), self._relay_broadcasts()
        ]  # fmt: skip
        tasks = [asyncio.create_task(wait) for wait in waits]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._last_words()
        except ChannelEnded as error:
            await self._within_last_words(self.tell(messages.closed(str(error))))
            raise
        finally:
            await end(*tasks, *self._following.values(), *self._telling.values(), *self._notices)
            await self._parts.close()
            await self.prompts.abandon()

    async def tell(self, notice: Notice) -> None:
        """Send one event to Claude; nobody says whether it was seen."""
        await self._notify(CHANNEL, notice.params())

    async def ask(self, prompt: PermissionPrompt) -> None:
        """Put a prompt of Claude Code to people, for the work it is on; on several it can't be known for which."""
        work = self._only()
        await self.prompts.ask(prompt, work.key if work else None)

    # --- what the tools do -----------------------------------------------------------------------------------------

    async def reply(self, name: str, text: str | None, uri: str | None) -> str:
        """Complete it."""
        work = self._open(name)
        return await self._finish(work, work.complete(text, uri=uri), f"delegation {name} is completed")

    async def fail(self, name: str, reason: str) -> str:
        """Fail it."""
        work = self._open(name)
        return await self._finish(work, work.fail(reason), f"delegation {name} is failed")

    async def progress(self, name: str, percent: int | None, message: str | None) -> str:
        """Say how far it is; without a connection it is dropped, as it would be old news later."""
        telling = asyncio.create_task(self._open(name).progress(percent, message))
        if not await self._patience.soon(telling):
            await end(telling)
            return "not told: Belay can't be reached now. Go on with the work"
        return _result(telling, "told")

    async def stopped(self, name: str) -> str:
        """Acknowledge a cancel: the proof that nothing of it runs any more."""
        work = next((w for w in self._named(name) if w.cancelled.is_set()), None)
        if work is None:
            raise ToolError(f"delegation {name} was not cancelled: end it with `reply` or `fail`")
        return await self._finish(work, work.acknowledge_cancel(), f"delegation {name} has stopped")

    async def delegate(self, agent: str, prompt: str, inputs: Mapping[str, str] | None, deadline: int | None) -> str:
        """Hand work to another agent, as a part of the work that is held, if it is one."""
        parent = self._only()
        return await self._parts.delegate(agent, prompt, inputs, parent.name if parent else None, deadline)

    # --- from Belay to Claude --------------------------------------------------------------------------------------

    async def _take_offers(self) -> None:
        while True:
            await self._slots.acquire()
            work = await self._next_work()
            self._works[work.key] = work
            self._following[work.key] = asyncio.create_task(self._follow(work))

    async def _next_work(self) -> Work:
        while True:
            offer = await self._channel.next_offer()
            try:
                work = await offer.accept()
            except Refused as error:
                log.warning("offer could not be taken", delegation=offer.name, error=str(error))
                continue
            if work is not None:
                log.info("accepted", delegation=work.name, attempt=work.attempt)
                return work

    async def _follow(self, work: Work) -> None:
        await self.tell(messages.dispatched(work.dispatch, secrets.token_hex(4)))
        frame = await work.cancelled.wait()
        log.info("cancelled", delegation=work.name, attempt=work.attempt, reason=frame.reason)
        await self.tell(messages.cancelled(frame))
        await self.prompts.deny(work.key)

    async def _relay_broadcasts(self) -> None:
        async for told in self._channel.broadcasts():
            await self.tell(messages.broadcast(told, secrets.token_hex(4)))

    # --- from Claude to Belay --------------------------------------------------------------------------------------

    async def _finish(self, work: Work, telling: Coroutine[Any, Any, None], done: str) -> str:
        """Tell the end of work. It is told also when Claude stops to wait, and when it takes until the next connect."""
        if work.key in self._telling:
            telling.close()
            raise ToolError(f"the end of delegation {work.name} is being told already")
        task = self._telling[work.key] = asyncio.create_task(self._tell_end(work, telling))
        try:
            if await self._patience.soon(task):
                return _result(task, done)
        finally:
            if not task.done():
                task.add_done_callback(lambda ended: self._report_late(work, ended))
        return "Belay can't be reached now: this is kept and told when it can be. Don't send it again"

    async def _tell_end(self, work: Work, telling: Coroutine[Any, Any, None]) -> None:
        try:
            await telling
        finally:
            self._telling.pop(work.key, None)
            if work.over:
                await self._let_go(work)

    async def _let_go(self, work: Work) -> None:
        log.info("ended", delegation=work.name, attempt=work.attempt)
        if self._works.pop(work.key, None) is not None:
            self.prompts.ended(work.key)
            self._slots.release()
        following = self._following.pop(work.key, None)
        if following is not None:
            await end(following)

    def _report_late(self, work: Work, ended: "asyncio.Task[None]") -> None:
        error = None if ended.cancelled() else ended.exception()
        if error is not None:
            log.warning("the end was not taken", delegation=work.name, error=str(error))
            notice = asyncio.create_task(self.tell(messages.refused(work.name, str(error))))
            self._notices.add(notice)
            notice.add_done_callback(self._notices.discard)

    async def _last_words(self) -> None:
        if telling := (*self._telling.values(), *self._parts.unanswered):
            await self._patience.within(LAST_WORDS_SECONDS, *telling)
        for name, attempt in self._telling:
            log.error("the end could not be told", delegation=name, attempt=attempt)
        await self._within_last_words(self.prompts.close())

    async def _within_last_words(self, saying: Coroutine[Any, Any, None]) -> None:
        """Say it, unless that takes too long: who doesn't read must not keep this from its end."""
        task = asyncio.create_task(saying)
        await self._patience.within(LAST_WORDS_SECONDS, task)
        await end(task)

    def _only(self) -> Work | None:
        """The newest attempt of the delegation that is worked on, if there is exactly one."""
        works = sorted(
            (work for work in self._works.values() if not work.cancelled.is_set()), key=lambda work: work.attempt
        )
        return works[-1] if len({work.name for work in works}) == 1 else None

    def _open(self, name: str) -> Work:
        """The newest attempt of a delegation, if it is still to be worked on."""
        works = self._named(name)
        if works[-1].cancelled.frame is not None:
            why = works[-1].cancelled.frame
            raise ToolError(
                f"delegation {name} was ended: {why.message or why.reason}. "
                "Stop working on it, then call the tool `stopped`"
            )
        return works[-1]

    def _named(self, name: str) -> list[Work]:
        found = sorted((work for work in self._works.values() if work.name == name), key=lambda work: work.attempt)
        if not found:
            held = ", ".join(sorted({work.name for work in self._works.values()})) or "none"
            raise ToolError(f"no delegation {name} is held by this session: it may have ended. Held: {held}")
        return found


def _result(task: "asyncio.Task[None]", done: str) -> str:
    try:
        task.result()
    except ClientError as error:
        raise ToolError(str(error)) from error
    return done
