"""`reply`: completes what the session works on with a result of the model's making; plain text needs none (D8)."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, StringConstraints

from belay_api.delegation import MAX_TEXT_BYTES, Result
from belay_api.names import Ref
from belay_api.reasons import Reason, model_answered
from belay_api.tool_words import (
    nobody_to_reply_to,
    replied,
    replied_already,
    reply_empty,
    reply_offer,
    reply_too_late,
    reply_too_long,
)
from belay_api.transitions import Phase, phase_of
from belay_kube.client import Json
from belay_operator.decisions import handover
from belay_operator.decisions.calls import Runs, Traits
from belay_operator.decisions.cutting import clean
from belay_operator.decisions.outcomes import Response, failure
from belay_operator.decisions.view import Change
from belay_operator.drain.ends import Ends
from belay_operator.drain.llm.base import ToolDefinition
from belay_operator.drain.store import Store
from belay_operator.drain.tools.arguments import ToolArguments
from belay_operator.drain.tools.registry import Arguments, Call
from belay_operator.observe.records import AgentRecord


class ReplyArguments(ToolArguments):
    """The result."""

    text: Annotated[str, AfterValidator(clean)] | None = Field(default=None, description="The result in words.")
    data: dict[str, JsonValue] | None = Field(
        default=None, max_length=1024, description="The result for programs: any JSON object."
    )
    uri: Annotated[str, StringConstraints(max_length=2048), AfterValidator(clean)] | None = Field(
        default=None, description="Where the result is, when it is large."
    )


class Reply:
    """The tool."""

    name = "reply"
    traits = Traits(Runs.AT_ONCE)

    def __init__(self, store: Store, ends: Ends) -> None:
        self._store = store
        self._ends = ends

    def definition(self, agent: AgentRecord, serving: tuple[str, ...]) -> ToolDefinition | None:  # noqa: ARG002
        """Offered while the session works on a delegation."""
        return ToolDefinition(self.name, reply_offer(), ReplyArguments.schema_of()) if serving else None

    def check(self, agent: AgentRecord, serving: tuple[str, ...], arguments: Arguments) -> None:  # noqa: ARG002
        """Raises ValueError for a result that can't be delivered, and where there is nobody to deliver it to."""
        if not serving:
            raise ValueError(nobody_to_reply_to())
        _result(arguments)

    async def start(self, call: Call) -> Response | None:
        """Complete each delegation that the session works on, unless it has ended."""
        result = _result(call.arguments).wire()
        change = Change(Phase.COMPLETED, Reason.COMPLETED, model_answered(call.session.ref.name), {"result": result})
        before: list[str] = []
        done: list[str] = []
        for name in call.serving:
            ref = Ref(call.ref.namespace, name)
            found = await self._store.delegation(ref)
            if found and _phase(found) == Phase.COMPLETED:
                # The same again is what a crash repeats.
                (done if found["status"].get("result") == result else before).append(name)
                continue
            phase = _phase(await self._ends.end(ref, change, lambda work: handover.holds(call.session, work)))
            if phase != Phase.COMPLETED:
                return failure(reply_too_late(name, phase))
            done.append(name)
        return Response(replied(done) if done else replied_already(before))


def _phase(delegation: Json | None) -> str:
    return str(phase_of((delegation.get("status") or {}).get("phase"))) if delegation else "deleted"


def _result(arguments: Arguments) -> Result:
    """The result that is said. Raises ValueError when there is none, or it is too long."""
    given: dict[str, Any] = ReplyArguments.model_validate(arguments).model_dump(exclude_none=True)
    if not any(given.values()):
        raise ValueError(reply_empty())
    # Counted before `Result` refuses a text of that length, to say what may be done about it.
    size = len((given.get("text") or "").encode())
    if size <= MAX_TEXT_BYTES:
        result = Result.model_validate(given)
        size = result.inline_bytes()
        if size <= MAX_TEXT_BYTES:
            return result
    raise ValueError(reply_too_long(size, MAX_TEXT_BYTES))
