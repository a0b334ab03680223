"""`delegate`: hands a task to another agent; the end of that Delegation is the response, whatever phase it is (L14)."""

from collections.abc import Callable
from typing import Annotated, Any

import structlog
from pydantic import Field, StringConstraints

from belay_api.delegation import MAX_TEXT_BYTES
from belay_api.meta import ANNOTATION_TOOL_USE, LABEL_SESSION
from belay_api.names import Ref
from belay_api.tool_words import delegate_offer, delegation_refused, no_agents_to_delegate_to, not_in_allow_list
from belay_kube.client import Json
from belay_kube.errors import Permanent, Unauthorized
from belay_operator.decisions.calls import Runs, Traits
from belay_operator.decisions.outcomes import Response, failure
from belay_operator.drain.llm.base import ToolDefinition
from belay_operator.drain.store import Store
from belay_operator.drain.tools.arguments import ToolArguments
from belay_operator.drain.tools.registry import Arguments, Call
from belay_operator.observe.records import AgentRecord

log = structlog.get_logger(__name__)

Describe = Callable[[Ref], str | None]
"""What an agent is good for (Agent.spec.description), as far as it is known."""


class DelegateArguments(ToolArguments):
    """What a model says of the task."""

    agent: str = Field(description="Name of the agent that is to do it.")
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_BYTES)] = Field(
        description="The task in words, with all that the agent has to know; at most 64 KiB."
    )
    inputs: dict[str, Annotated[str, StringConstraints(max_length=4096)]] | None = Field(
        default=None, max_length=32, description="Named values that go with the prompt."
    )
    deadline_seconds: int | None = Field(
        default=None, ge=1, le=2592000, description="Seconds after which it fails, if it isn't done by then."
    )
    priority: int | None = Field(default=None, ge=-1000, le=1000, description="Higher goes first in the agent's queue.")


class Delegate:
    """The tool."""

    name = "delegate"
    traits = Traits(Runs.DELEGATION, default_timeout=None)

    def __init__(self, store: Store, describe: Describe) -> None:
        self._store = store
        self._describe = describe

    def definition(self, agent: AgentRecord, serving: tuple[str, ...]) -> ToolDefinition | None:  # noqa: ARG002
        """Offered where the Agent names somebody to delegate to."""
        allowed = _allowed(agent)
        if not allowed:
            return None
        schema = DelegateArguments.schema_of()
        schema["properties"]["agent"]["enum"] = list(allowed)
        namespace = agent.ref.namespace
        told = delegate_offer((name, self._describe(Ref(namespace, name))) for name in allowed)
        return ToolDefinition(self.name, told, schema)

    def check(self, agent: AgentRecord, serving: tuple[str, ...], arguments: Arguments) -> None:  # noqa: ARG002
        """Raises ValueError for arguments that make no sense, and for an agent that isn't on the list."""
        asked, allowed = DelegateArguments.model_validate(arguments), _allowed(agent)
        if not allowed:
            raise ValueError(no_agents_to_delegate_to())
        if asked.agent not in allowed:
            raise ValueError(not_in_allow_list(asked.agent, allowed))

    async def start(self, call: Call) -> Response | None:
        """Make the Delegation, once; what refuses it says so to the model."""
        asked = DelegateArguments.model_validate(call.arguments)
        spec = {**_spec(asked), **await self._lineage(call)}
        labels, annotations = {LABEL_SESSION: call.session.ref.name}, {ANNOTATION_TOOL_USE: call.id}
        try:
            await self._store.delegate(call.ref, spec, labels=labels, annotations=annotations)
        except Unauthorized:
            raise
        except Permanent as error:
            log.info("delegation refused", delegation=str(call.ref), agent=asked.agent, error=error.message)
            return failure(delegation_refused(asked.agent, error.said or error.message))
        return None

    async def _lineage(self, call: Call) -> Json:
        """On whose behalf: what the session works on, or, where people talk to it, the session itself."""
        if not call.serving:
            return {"parentRef": {"kind": "AgentSession", "name": call.session.ref.name}}
        name = call.serving[0]
        above = ((await self._store.delegation(Ref(call.ref.namespace, name))) or {}).get("spec") or {}
        kept = {field: above[field] for field in ("requester", "topic") if above.get(field)}
        return {"parentRef": {"kind": "Delegation", "name": name}, **kept}


def _allowed(agent: AgentRecord) -> tuple[str, ...]:
    terms = agent.terms(Delegate.name)
    return terms.agents if terms else ()


def _spec(asked: DelegateArguments) -> Json:
    task: Json = {"prompt": asked.prompt}
    if asked.inputs:
        task["inputs"] = asked.inputs
    given: dict[str, Any] = {"priority": asked.priority, "deadlineSeconds": asked.deadline_seconds}
    said = {field: value for field, value in given.items() if value is not None}
    return {"agentRef": {"name": asked.agent}, "task": task, **said}
