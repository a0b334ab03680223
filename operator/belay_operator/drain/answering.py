"""From a picked round to an answer: reads what it takes, builds the request, asks."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from belay_api.session_words import messages_from
from belay_api.sessionturn import Block
from belay_operator.decisions import conversation, window
from belay_operator.drain.asking import Asking, Interrupt
from belay_operator.drain.claims import Claim
from belay_operator.drain.configuration import Configuration, Configurations
from belay_operator.drain.history import History
from belay_operator.drain.llm.base import Answer, Message, Prompt, ToolDefinition
from belay_operator.drain.llm.providers import Providers
from belay_operator.drain.pool import Slot
from belay_operator.observe.mailbox_records import SessionRecord

Tools = Callable[[SessionRecord], Sequence[ToolDefinition]]
"""The tools that a session's model is told of."""


@dataclass(frozen=True)
class Answering:
    """Asks a session's model."""

    configurations: Configurations
    providers: Providers
    history: History
    asking: Asking
    tools: Tools

    async def answer(self, claim: Claim, blocks: Sequence[Block], slot: Slot, interrupt: Interrupt) -> Answer:
        """What the model says to `blocks`, after all it was told before. Raises LlmError, CutShort, KubeError."""
        found = await self.configurations.find(claim.session.agent)
        claim.rests_on = found.signature
        given = found.configuration()
        prompt = await self._prompt(claim.session, given, blocks)
        async with self.providers.use(given.provider, given.base_url, given.api_key) as provider:
            return await self.asking.answer(provider, prompt, claim, slot, interrupt)

    async def taken_ids(self, session: SessionRecord) -> set[str] | None:
        """Ids that earlier tool calls have; None when the conversation is too long to know (L14). Raises KubeError."""
        turns = await self.history.turns(session, wanted=0)
        return conversation.used_ids(turns) if len(turns) == session.turns else None

    async def _prompt(self, session: SessionRecord, given: Configuration, blocks: Sequence[Block]) -> Prompt:
        wanted = given.context_tokens * window.BYTES_PER_TOKEN
        turns, tools = await self.history.turns(session, wanted), self.tools(session)
        system = len((given.system or "").encode())
        kept = window.fit(turns, blocks, system, _bytes(tools), given.context_tokens)
        told = conversation.messages(kept, blocks)
        return Prompt(
            model=given.model,
            messages=told,
            system=given.system,
            tools=[*tools, *_of_senders(told)],
            max_tokens=given.max_tokens,
            timeout=given.timeout,
        )


def _of_senders(told: Sequence[Message]) -> list[ToolDefinition]:
    """Definitions of the tools under whose names background mail comes: providers want one for each (L7)."""
    names = conversation.sender_tools(told)
    nothing = {"type": "object", "properties": {}}
    return [ToolDefinition(n, messages_from(n.removeprefix(conversation.SENDER_PREFIX)), nothing) for n in names]


def _bytes(tools: Sequence[ToolDefinition]) -> int:
    return sum(len(f"{tool.name}{tool.description}{json.dumps(dict(tool.schema))}".encode()) for tool in tools)
