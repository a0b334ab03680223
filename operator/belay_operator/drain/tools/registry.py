"""The tools there are, and which of them a model is given (L14).

Where the next kind plugs in: whatever satisfies `Tool` may be added, also while the operator runs. An MCP server, for
one, would be asked for its list and become one `Tool` (`Runs.IN_PROCESS`) for each entry: `definition` says what the
server says, to agents whose spec.tools name it, `check` is the server's JSON Schema, `start` is one tools/call.
Timeouts, permissions, bounds, restarts and the response are not a tool's business: `Calls` sees to them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from belay_api.agent import ToolPermission
from belay_api.names import Ref
from belay_operator.decisions.calls import Runs, Traits
from belay_operator.decisions.outcomes import Response
from belay_operator.drain.llm.base import ToolDefinition
from belay_operator.observe.mailbox_records import SessionRecord
from belay_operator.observe.records import AgentRecord

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One use of a tool, checked and allowed."""

    session: SessionRecord
    agent: AgentRecord
    serving: tuple[str, ...]
    """The delegations that the session works on, by name; the first comes first."""
    id: str
    ref: Ref
    """The name of whatever the call makes: the same however often it is started, so that it is made once."""
    arguments: Arguments


class Tool(Protocol):
    """Something that a model may call."""

    name: str
    traits: Traits

    def definition(self, agent: AgentRecord, serving: tuple[str, ...]) -> ToolDefinition | None:
        """What the model of `agent` is told of it; None: it isn't offered, and can't be called."""

    def check(self, agent: AgentRecord, serving: tuple[str, ...], arguments: Arguments) -> None:
        """Raises ValueError when such a call makes no sense; says what to do instead, to the model."""

    async def start(self, call: Call) -> Response | None:
        """The response; None when it comes later, as the end of the Delegation `call.ref`.

        Anything raised becomes an error response but what passes by itself (Temporary): that is tried again.
        """


class Registry:
    """Tools by name."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool) -> None:
        """One more tool. Raises ValueError when there is one of that name, or it may not run as it says."""
        if tool.name in self._tools:
            raise ValueError(f"there are two tools of the name {tool.name}: rename one")
        if tool.traits.runs is not Runs.IN_PROCESS and not tool.traits.idempotent:
            raise ValueError(
                f"tool {tool.name} is started again after a crash: make it idempotent, or run it InProcess"
            )
        self._tools[tool.name] = tool

    def get(self, name: str) -> Tool | None:
        """The tool of a name, offered or not."""
        return self._tools.get(name)

    @property
    def traits(self) -> Mapping[str, Traits]:
        """Traits by name."""
        return {name: tool.traits for name, tool in self._tools.items()}

    def definitions(self, agent: AgentRecord, serving: tuple[str, ...]) -> list[ToolDefinition]:
        """What the model of `agent` may call while its session works on `serving`."""
        found = (tool.definition(agent, serving) for tool in self._tools.values() if not is_denied(agent, tool.name))
        return [definition for definition in found if definition]


def is_denied(agent: AgentRecord, tool: str) -> bool:
    """Whether the Agent forbids a tool."""
    terms = agent.terms(tool)
    return terms is not None and terms.permission is ToolPermission.DENY
