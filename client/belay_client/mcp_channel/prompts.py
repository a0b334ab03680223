"""Claude Code's permission prompts, put to people by Belay.

Claude Code keeps its dialog open meanwhile and takes whichever answer is first. It does not tell a channel that one was
answered at the terminal, so that is reported only where it can be known: the prompt was for one of this server's own
tools, and that tool is now called; or the connection to Claude Code, and so the prompt, is at its end.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog

from belay_client.conversation import Conversation
from belay_client.errors import ChannelEnded, ChannelError, ClientError
from belay_client.mcp_channel.messages import PERMISSION, PermissionPrompt, denial, verdict

log = structlog.get_logger(__name__)

Notify = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Sends one notification to Claude Code: method and parameters."""


class Prompts:
    """The prompts that nobody has answered, as far as is known here."""

    def __init__(self, channel: Conversation, notify: Notify) -> None:
        self._channel = channel
        self._notify = notify
        self._open: dict[str, tuple[PermissionPrompt, str | None]] = {}

    async def ask(self, prompt: PermissionPrompt, delegation: str | None) -> None:
        """Put a prompt to people; refused, it stays at the terminal."""
        self._open[prompt.request_id] = prompt, delegation
        try:
            name = await self._channel.request_permission(
                prompt.request_id,
                prompt.tool_name,
                description=prompt.description,
                input_preview=prompt.input_preview,
                delegation=delegation,
            )
        except ChannelEnded:
            return
        except ClientError as error:
            self._open.pop(prompt.request_id, None)
            log.warning("nobody can be asked: answer it at the terminal", tool=prompt.tool_name, error=str(error))
        else:
            log.info("asked for permission", tool=prompt.tool_name, request=name or prompt.request_id)

    async def relay(self) -> None:
        """Pass decisions on as they come. Raises ChannelEnded."""
        async for decision in self._channel.decisions():
            if self._open.pop(decision.request_id, None) is not None:
                log.info("decided", request=decision.name, behavior=decision.behavior, by=decision.decided_by)
                await self._notify(PERMISSION, verdict(decision))

    async def used(self, tool: str, delegation: str | None) -> None:
        """One of this server's tools is called for some work: a prompt for just that was allowed at the terminal."""
        about = [
            prompt.request_id
            for prompt, _ in self._open.values()
            if prompt.tool_name.endswith(f"__{tool}") and delegation and f'"{delegation}"' in prompt.input_preview
        ]
        if len(about) == 1:
            await self._resolve(about[0])

    def ended(self, delegation: str) -> list[str]:
        """The work is over, and with it what was asked for it: no decision is waited for. Returns the request ids."""
        ended = [request_id for request_id, (_, asked_for) in self._open.items() if asked_for == delegation]
        for request_id in ended:
            del self._open[request_id]
            self._channel.forget_permission(request_id)
        return ended

    async def deny(self, delegation: str) -> None:
        """The work was cancelled: prompts that nobody can decide any more must not keep Claude from reading so."""
        for request_id in self.ended(delegation):
            await self._notify(PERMISSION, denial(request_id))

    async def close(self) -> None:
        """Claude Code waits for no answer any more."""
        for request_id in list(self._open):
            await self._resolve(request_id)

    async def _resolve(self, request_id: str) -> None:
        self._open.pop(request_id, None)
        with suppress(ChannelError):  # it expires instead
            await self._channel.resolved(request_id)
