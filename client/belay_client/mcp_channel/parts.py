"""The tool `delegate`: work for other agents, made once however long the gateway is away."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from belay_client.channel import AgentChannel
from belay_client.errors import ClientError
from belay_client.mcp_channel import messages
from belay_client.mcp_channel.messages import Notice
from belay_client.mcp_channel.patience import Patience, ToolError, end

log = structlog.get_logger(__name__)

_Asked = tuple[str | None, str, str, frozenset[tuple[str, str]]]
"""The parent, the agent, the prompt and the inputs."""


class Parts:
    """What this session asked other agents to do and has no answer on yet.

    Asked for the same again meanwhile, Claude waits for the one that is on its way: there is no second.
    """

    def __init__(self, channel: AgentChannel, tell: Callable[[Notice], Awaitable[None]], patience: Patience) -> None:
        self._channel = channel
        self._tell = tell
        self._patience = patience
        self._unanswered: dict[_Asked, asyncio.Task[str]] = {}
        self._late: dict[asyncio.Task[str], asyncio.Task[None]] = {}

    @property
    def unanswered(self) -> tuple["asyncio.Task[str]", ...]:
        """Those that are still on their way."""
        return tuple(self._unanswered.values())

    async def delegate(
        self, agent: str, prompt: str, inputs: Mapping[str, str] | None, parent: str | None, deadline: int | None
    ) -> str:
        """Hand it over; returns a sentence for Claude. Raises ToolError with why it was refused."""
        asked = (parent, agent, prompt, frozenset((inputs or {}).items()))
        if asked not in self._unanswered:
            # It makes up an idempotency key, which stays the same across connections.
            making = self._channel.delegate(agent, prompt, inputs=inputs, parent=parent, deadline_seconds=deadline)
            task = self._unanswered[asked] = asyncio.create_task(making)
            task.add_done_callback(lambda _: self._unanswered.pop(asked, None))
        return await self._answer(agent, self._unanswered[asked])

    async def close(self) -> None:
        """Nobody waits for an answer any more."""
        for agent, prompt in ((asked[1], asked[2]) for asked in self._unanswered):
            log.error("the delegation may not have been made", agent=agent, prompt=prompt[:80])
        await end(*self._unanswered.values(), *self._late.values())

    async def _answer(self, agent: str, task: "asyncio.Task[str]") -> str:
        try:
            if await self._patience.soon(task):
                return f"delegation {task.result()} was made for agent {agent}; its end is not told here"
        except ClientError as error:
            raise ToolError(str(error)) from error
        finally:
            if not task.done() and task not in self._late:
                self._late[task] = asyncio.create_task(self._tell_late(agent, task))
        return (
            "Belay can't be reached now: this is kept and handed over when it can be; an event `delegated` will tell "
            "the name. Don't send it again"
        )

    async def _tell_late(self, agent: str, task: "asyncio.Task[str]") -> None:
        try:
            notice = messages.delegated(agent, await task)
        except ClientError as error:
            log.warning("the delegation was not made", agent=agent, error=str(error))
            notice = messages.not_delegated(agent, str(error))
        await self._tell(notice)
        self._late.pop(task, None)
