"""What an agent is handed: an Offer, and, once it is accepted, the Work."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

from belay_api.actions import Accept, Action, Cancelled, Complete, Fail, Heartbeat, ProgressMade, Release
from belay_api.delegation import MAX_TEXT_BYTES, Progress, Result
from belay_api.messages import Ack, Cancel, Dispatch, ErrorCode
from belay_client.errors import Refused, ResultTooLarge, WorkOver

MAX_MESSAGE = 4096
MAX_PROGRESS_MESSAGE = 1024

Key = tuple[str, int]
"""A delegation's name and the attempt."""


class Holder(Protocol):
    """The channel, as offers and work see it."""

    async def take(self, dispatch: Dispatch) -> "Work | None":
        """Accept an offer."""
        ...

    async def act(self, work: "Work", action: Action) -> Ack:
        """Carry out one action on held work."""
        ...

    async def finish(self, work: "Work", action: Action) -> Ack:
        """Carry out the last action on held work, as often as it takes."""
        ...

    def release(self, work: "Work") -> None:
        """Hold it no longer."""
        ...


class Cancellation:
    """An event that carries the server's Cancel frame: whether, and why, to stop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.frame: Cancel | None = None
        self.proof_wanted = False
        """Whether the server waits for word that the work has stopped."""

    def is_set(self) -> bool:
        """Whether the work is to stop."""
        return self._event.is_set()

    async def wait(self) -> Cancel:
        """Wait until the work is to stop; says why."""
        while self.frame is None:
            await self._event.wait()
        return self.frame

    def set(self, frame: Cancel, *, proof_wanted: bool) -> None:
        """Tell it to stop; later reasons change nothing but that proof is wanted."""
        self.frame = self.frame or frame
        self.proof_wanted = self.proof_wanted or proof_wanted
        self._event.set()


class Assignment:
    """What an offer says; shared by the offer and the work."""

    def __init__(self, dispatch: Dispatch, holder: Holder) -> None:
        self.dispatch = dispatch
        self._holder = holder

    @property
    def key(self) -> Key:
        """Name and attempt."""
        return self.dispatch.name, self.dispatch.attempt

    @property
    def name(self) -> str:
        """Name of the Delegation, in the agent's namespace."""
        return self.dispatch.name

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self.dispatch.attempt

    @property
    def prompt(self) -> str:
        """The task in words."""
        return self.dispatch.prompt

    @property
    def inputs(self) -> dict[str, str]:
        """Named values that go with the prompt."""
        return self.dispatch.inputs or {}

    @property
    def deadline(self) -> datetime | None:
        """When it must be done, aware UTC."""
        return self.dispatch.deadline


class Offer(Assignment):
    """A delegation anyone of the agent's sessions may take; not taking it needs no word."""

    async def accept(self) -> "Work | None":
        """Take it: the work, or None when another session was first or it ended meanwhile.

        Raises Refused for any other answer, ChannelEnded when the channel is over.
        """
        return await self._holder.take(self.dispatch)


class Work(Assignment):
    """A delegation this session holds; it ends with `complete`, `fail`, `release` or `acknowledge_cancel`.

    Each method waits for the server's answer, across reconnects, and raises Refused when it says no, WorkOver when
    the work has ended already, and ChannelEnded when the channel is over.
    """

    def __init__(self, dispatch: Dispatch, holder: Holder) -> None:
        super().__init__(dispatch, holder)
        self.cancelled = Cancellation()
        self.accepted = False
        """Whether the server has answered that it is ours."""
        self.over = False

    async def heartbeat(self) -> None:
        """Say that it goes on; the channel does so by itself unless it was told not to."""
        await self._act(Heartbeat(**self._on()))

    async def progress(self, percent: int | None = None, message: str | None = None) -> None:
        """Say how far it is, 0 to 100, and at what; longer messages are cut at 1024 characters."""
        text = message[:MAX_PROGRESS_MESSAGE] if message is not None else None
        await self._act(ProgressMade(**self._on(), progress=Progress(percent=percent, message=text)))

    async def complete(
        self, text: str | None = None, *, data: dict[str, Any] | None = None, uri: str | None = None
    ) -> None:
        """Done: the result in words, as a JSON object for programs (null fields are left out), or the address of a
        larger one.

        Raises ResultTooLarge when text and data are over 64 KiB of UTF-8: it is still held, and can end with a URI or
        `fail`; ValueError for data that JSON can't say. When Refused is raised it was failed with the reason instead,
        and is held no more.
        """
        result = _result(text, data, uri)
        try:
            await self._finish(Complete(**self._on(), result=result))
        except Refused as error:
            if error.code is ErrorCode.TOO_LARGE:
                raise ResultTooLarge(f"{error}: write it elsewhere and reply with its URI") from error
            if not self.cancelled.is_set():
                with suppress(Refused):  # it is let go all the same
                    await self.fail(f"the gateway refused the result: {error}")
            raise

    async def fail(self, message: str) -> None:
        """Given up, with a sentence that says why; cut at 4096 characters. It is held no more, also when refused."""
        try:
            await self._finish(Fail(**self._on(), message=message[:MAX_MESSAGE] or "no reason given"))
        except Refused:
            if not self.cancelled.proof_wanted:
                self._holder.release(self)
            raise

    async def release(self, message: str | None = None) -> None:
        """Given back unfinished, with a reason cut at 1024 characters: it is queued again as the next attempt.

        It is held no more, also when refused.
        """
        text = message[:MAX_PROGRESS_MESSAGE] if message else None
        try:
            await self._finish(Release(**self._on(), message=text))
        except Refused:
            if not self.cancelled.proof_wanted:
                self._holder.release(self)
            raise

    async def acknowledge_cancel(self) -> None:
        """The work has really stopped. Sent when the server waits for that word; else it is only let go."""
        if self.cancelled.proof_wanted and not self.over:
            with suppress(Refused):  # it knows no such work any more: there is nobody left to tell
                await self._holder.finish(self, Cancelled(**self._on()))
        self._holder.release(self)

    def _on(self) -> dict[str, Any]:
        return {"name": self.name, "attempt": self.attempt}

    async def _act(self, action: Action) -> None:
        self._refuse_if_over()
        await self._holder.act(self, action)

    async def _finish(self, action: Action) -> None:
        self._refuse_if_over()
        await self._holder.finish(self, action)
        self._holder.release(self)

    def _refuse_if_over(self) -> None:
        if self.over:
            raise WorkOver(f"attempt {self.attempt} of {self.name} was answered already")
        if self.cancelled.frame is not None:
            why = self.cancelled.frame
            raise WorkOver(f"attempt {self.attempt} of {self.name} was ended: {why.message or why.reason}")


def accept_of(dispatch: Dispatch) -> Accept:
    """The action that takes an offer."""
    return Accept(name=dispatch.name, attempt=dispatch.attempt)


def _result(text: str | None, data: dict[str, Any] | None, uri: str | None) -> Result:
    if text is None or len(text) <= MAX_TEXT_BYTES:
        result = Result(text=text, data=data, uri=uri)
        if result.inline_bytes() <= MAX_TEXT_BYTES:
            return result
    raise ResultTooLarge("the result is over 64 KiB of UTF-8: write it elsewhere and reply with its URI")
