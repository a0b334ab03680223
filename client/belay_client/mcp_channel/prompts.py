"""Claude Code's permission prompts, put to people by Belay.

Claude Code keeps its dialog open meanwhile and takes whichever answer is first. It does not tell a channel that one was
answered at the terminal, so that is reported only where it can be known: the prompt was for one of this server's own
tools, and that tool is now called; or the connection to Claude Code, and so the prompt, is at its end. What was
answered unseen must not fill the place of later prompts: the oldest of many is given up, and each expires by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from belay_client.conversation import Conversation
from belay_client.errors import ChannelEnded, ChannelError, ClientError
from belay_client.mcp_channel.messages import PERMISSION, PermissionPrompt, denial, verdict
from belay_client.mcp_channel.patience import end
from belay_client.work import Key

log = structlog.get_logger(__name__)

Notify = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Sends one notification to Claude Code: method and parameters."""

MOST_OPEN = 32
"""Prompts that are put to people at once; half of what the gateway takes of a session (MAX_OPEN_PERMISSIONS)."""
EXPIRES_SECONDS = 3600
"""How long people may take. Whoever has waited that long at the terminal has answered there."""


@dataclass(eq=False)
class _Asked:
    """A prompt, the work it is for, and who waits for the gateway to take it."""

    prompt: PermissionPrompt
    work: Key | None
    asking: "asyncio.Task[Any] | None"


class Prompts:
    """The prompts that nobody has answered, as far as is known here: the newest, at most MOST_OPEN."""

    def __init__(self, channel: Conversation, notify: Notify) -> None:
        self._channel = channel
        self._notify = notify
        self._open: dict[str, _Asked] = {}
        self._telling: set[asyncio.Task[None]] = set()

    async def ask(self, prompt: PermissionPrompt, work: Key | None) -> None:
        """Put a prompt to people; refused, or given up for newer ones, it stays at the terminal."""
        self._open.pop(prompt.request_id, None)
        asked = self._open[prompt.request_id] = _Asked(prompt, work, asyncio.current_task())
        try:
            await self._make_room()
            name = await self._channel.request_permission(
                prompt.request_id,
                prompt.tool_name,
                description=prompt.description,
                input_preview=prompt.input_preview,
                delegation=work[0] if work else None,
                expires_after_seconds=EXPIRES_SECONDS,
            )
        except ChannelEnded:
            return
        except ClientError as error:
            if self._open.get(prompt.request_id) is asked:
                del self._open[prompt.request_id]
            log.warning("nobody can be asked: answer it at the terminal", tool=prompt.tool_name, error=str(error))
        else:
            log.info("asked for permission", tool=prompt.tool_name, request=name or prompt.request_id)
        finally:
            asked.asking = None

    async def relay(self) -> None:
        """Pass decisions on as they come. Raises ChannelEnded."""
        async for decision in self._channel.decisions():
            if self._open.pop(decision.request_id, None) is not None:
                log.info("decided", request=decision.name, behavior=decision.behavior, by=decision.decided_by)
                await self._notify(PERMISSION, verdict(decision))

    def used(self, tool: str, delegation: str | None) -> None:
        """One of this server's tools is called for some work: a prompt for just that was allowed at the terminal.

        That is told beside the tool, which must not wait for it.
        """
        about = [
            asked.prompt.request_id
            for asked in self._open.values()
            if asked.prompt.tool_name.endswith(f"__{tool}")
            and delegation
            and f'"{delegation}"' in asked.prompt.input_preview
        ]
        if len(about) == 1:
            self._spawn(self._resolve(about[0]))

    def ended(self, work: Key) -> list[str]:
        """The work is over, and with it what was asked for it: no decision is waited for. Returns the request ids."""
        ended = [request_id for request_id, asked in self._open.items() if asked.work == work]
        for request_id in ended:
            del self._open[request_id]
            self._channel.forget_permission(request_id)
        return ended

    async def deny(self, work: Key) -> None:
        """The work was cancelled: prompts that nobody can decide any more must not keep Claude from reading so."""
        for request_id in self.ended(work):
            await self._notify(PERMISSION, denial(request_id))

    async def close(self) -> None:
        """Claude Code waits for no answer any more."""
        for request_id in list(self._open):
            await self._resolve(request_id)
        await asyncio.gather(*self._telling)

    async def abandon(self) -> None:
        """Leave unsaid what is on its way."""
        await end(*self._telling)

    async def _make_room(self) -> None:
        """Give the oldest up. While the gateway is away no more wait for it than may be open."""
        while len(self._open) > MOST_OPEN:
            oldest = next(iter(self._open.values()))
            if oldest.asking is not None:
                oldest.asking.cancel()
            log.info("too many open prompts: answer the oldest at the terminal", tool=oldest.prompt.tool_name)
            # Whoever waits for the room may be given up himself; the word on the oldest must not end with that.
            await asyncio.wait({self._spawn(self._resolve(oldest.prompt.request_id))})

    def _resolve(self, request_id: str) -> Coroutine[Any, Any, None]:
        self._open.pop(request_id, None)
        return self._say_resolved(request_id)

    async def _say_resolved(self, request_id: str) -> None:
        with suppress(ChannelError):  # it expires instead
            await self._channel.resolved(request_id)

    def _spawn(self, telling: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        return task
