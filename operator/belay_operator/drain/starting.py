"""One tool call, from what the model wrote to the tool: whatever is wrong with it is its response (L14)."""

from collections.abc import Mapping
from typing import Any

import structlog
from pydantic import ValidationError

from belay_api.names import Ref, tool_call_name
from belay_api.tool_words import arguments_unreadable, arguments_wrong, tool_denied, tool_failed, tool_unknown
from belay_kube.errors import KubeError, Temporary, Unauthorized
from belay_operator.decisions.outcomes import Response, failure
from belay_operator.drain.tools import arguments
from belay_operator.drain.tools.registry import Call, Registry, Tool, is_denied
from belay_operator.observe.mailbox_records import SessionRecord
from belay_operator.observe.records import AgentRecord

log = structlog.get_logger(__name__)

Block = Mapping[str, Any]
"""A ToolUse block, wire form."""


class Starter:
    """Checks calls and starts tools."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def checked(
        self, session: SessionRecord, agent: AgentRecord, serving: tuple[str, ...], block: Block
    ) -> Call | Response:
        """The call that a block makes, or what the model is told instead."""
        tool, name = self.registry.get(block["name"]), block["name"]
        if tool is None:
            return self._unknown(agent, serving, name)
        if is_denied(agent, name):
            return failure(tool_denied(name))
        try:
            given = arguments.read(block.get("input"))
        except ValueError as error:
            return failure(arguments_unreadable(name, str(error)))
        return _refused(tool, agent, serving, given) or (
            self._call(session, agent, serving, block["toolUseId"], given)
            if tool.definition(agent, serving)
            else self._unknown(agent, serving, name)
        )

    async def start(self, call: Call, tool: Tool) -> Response | None:
        """What the tool returns; what it raises is its response. Raises Temporary and Unauthorized, which are ours."""
        try:
            return await tool.start(call)
        except (Temporary, Unauthorized):
            raise
        except KubeError as error:
            log.info("tool call refused", session=str(call.session.ref), tool=tool.name, error=error.message)
            return failure(tool_failed(tool.name, error.said or error.message))
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is its response, never a lost call (L14)
            log.warning("tool failed", session=str(call.session.ref), tool=tool.name, error=repr(error))
            return failure(tool_failed(tool.name, str(error) or type(error).__name__))

    async def run(self, call: Call, tool: Tool) -> Response:
        """The same for a tool that runs in this process, of which nobody but its response tells."""
        try:
            return await self.start(call, tool) or Response("")
        except KubeError as error:
            return failure(tool_failed(tool.name, error.said or error.message))

    def _unknown(self, agent: AgentRecord, serving: tuple[str, ...], name: str) -> Response:
        offered = self.registry.definitions(agent, serving)
        return failure(tool_unknown(name, (definition.name for definition in offered)))

    def _call(
        self, session: SessionRecord, agent: AgentRecord, serving: tuple[str, ...], use: str, given: dict[str, Any]
    ) -> Call:
        ref = Ref(session.ref.namespace, tool_call_name(session.uid, use))
        return Call(session, agent, serving, use, ref, given)


def _refused(tool: Tool, agent: AgentRecord, serving: tuple[str, ...], given: dict[str, Any]) -> Response | None:
    """What is wrong with the arguments; also where the check itself breaks."""
    try:
        tool.check(agent, serving, given)
    except ValidationError as error:
        return failure(arguments_wrong(tool.name, arguments.problems(error)))
    except ValueError as error:
        return failure(arguments_wrong(tool.name, str(error)))
    except Exception as error:  # noqa: BLE001 - as above
        return failure(tool_failed(tool.name, str(error) or type(error).__name__))
    return None
