"""Builders of sessions, mail and turns: `session().executing("c1")`, `mail("m").answering("c1")`; times from `T0`."""

from itertools import count
from typing import Any, Self

from belay_api.meta import API_VERSION
from belay_api.names import Ref
from belay_api.pendingmessage import MessagePhase
from belay_api.sessionturn import Block, TurnOutcome
from belay_api.times import to_wire, to_wire_seconds
from belay_operator.observe.mailbox_records import Mail, MessageRecord, SessionRecord
from belay_operator.observe.records import AgentRecord

from .builders import NAMESPACE, at

Json = dict[str, Any]
HOLDER = "operator-1"
_moment = at


class SessionBuilder:
    """One session of agent `a`, made step by step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._spec: Json = {"agentRef": {"name": "a"}}
        self._status: Json = {}

    def of(self, agent: str) -> Self:
        """Of this agent."""
        self._spec["agentRef"] = {"name": agent}
        return self

    def under(self, name: str, kind: str = "Delegation") -> Self:
        """Opened for another's sake."""
        self._spec["parentRef"] = {"kind": kind, "name": name}
        return self

    def interrupt_asked(self, value: str, observed: str | None = None) -> Self:
        """Somebody wants its round cut short; `observed` was acted on last."""
        self._spec["interruptRequest"] = value
        return self._tell(observedInterruptRequest=observed)

    def awaiting(self, *, duration: int = 30, renewed: float = 0) -> Self:
        """Claimed."""
        renewal = to_wire(_moment(renewed))
        claim = {"holderIdentity": HOLDER, "token": "t", "renewTime": renewal, "durationSeconds": duration}
        return self._tell(phase="Awaiting", claim=claim)

    def executing(self, *calls: str) -> Self:
        """With these calls open since `T0`, which end by themselves."""
        self._tell(phase="Executing", openToolCalls=[])
        for call in calls:
            self.call(call)
        return self

    def call(self, name: str, *, timeout: int | None = None, at: float = 0, **more: str) -> Self:
        """One more open call."""
        made = {"id": name, "tool": "work", "startedTime": to_wire(_moment(at)), "timeoutSeconds": timeout, **more}
        self._status["openToolCalls"].append({field: value for field, value in made.items() if value is not None})
        return self

    def serving(self, *delegations: str) -> Self:
        """Working for these."""
        return self._tell(serving=list(delegations))

    def spent(self, calls: int) -> Self:
        """So many answers were given."""
        return self._tell(usage={"calls": calls})

    def failed(self, message: str, rounds: int) -> Self:
        """Rounds of this message failed in a row."""
        return self._tell(failedMessage=f"uid-{message}", failedRounds=rounds)

    def saying(self, **status: object) -> Self:
        """Whatever else its status says."""
        return self._tell(**status)

    @property
    def obj(self) -> Json:
        """As the API server shows it."""
        return {"metadata": _meta(self.name), "spec": self._spec, "status": self._status}

    @property
    def record(self) -> SessionRecord:
        """As the operator keeps it."""
        return SessionRecord.read(self.obj)

    def _tell(self, **status: object) -> Self:
        self._status |= status
        return self


class MailBuilder:
    """One message to session `s`, made step by step; each is created after those that were made before."""

    _versions = count(1)

    def __init__(self, name: str | None) -> None:
        self._version = next(self._versions)
        self.name = name or f"m{self._version}"
        self._spec: Json = {"sessionRef": {"name": "s"}, "type": "UserMessage", "content": self.name}
        self._status: Json = {}
        self._owners: list[Json] = []

    def saying(self, content: str) -> Self:
        """What is said, instead of its name."""
        return self._ask(content=content)

    def by(self, name: str, kind: str = "User") -> Self:
        """Who sent it."""
        return self._ask(source={"kind": kind, "name": name})

    def prompt_of(self, delegation: str) -> Self:
        """The prompt of a delegation."""
        return self.by(delegation, "Delegation").bouncing()

    def background(self) -> Self:
        """It waits for something else to start a round."""
        return self._ask(type="Background")

    def subagent(self) -> Self:
        """Of another agent."""
        return self._ask(type="Subagent")

    def answering(self, call: str, *, success: bool | None = None) -> Self:
        """The response to a tool call."""
        told = {} if success is None else {"success": success}
        return self._ask(type="ToolResponse", toolUseId=call, **told)

    def bouncing(self) -> Self:
        """Returned to its sender when the model can't be reached."""
        return self._ask(bounceBack=True)

    def returned(self, phase: MessagePhase) -> Self:
        """Settled without being read."""
        self._status["phase"] = str(phase)
        return self

    def owned(self) -> Self:
        """It goes with its session."""
        self._owners = [{"apiVersion": API_VERSION, "kind": "AgentSession", "name": "s", "uid": "uid-s"}]
        return self

    @property
    def obj(self) -> Json:
        """As the API server shows it."""
        meta = {**_meta(self.name), "resourceVersion": str(self._version), "ownerReferences": self._owners}
        return {"metadata": meta, "spec": self._spec, "status": self._status}

    @property
    def record(self) -> MessageRecord:
        """As the operator keeps it."""
        return MessageRecord.read(self.obj)

    @property
    def mail(self) -> Mail:
        """As it is read for a round."""
        return Mail.read(self.obj)

    def _ask(self, **spec: object) -> Self:
        self._spec |= spec
        return self


def session(name: str = "s") -> SessionBuilder:
    """A session that nothing has happened in."""
    return SessionBuilder(name)


def mail(name: str | None = None) -> MailBuilder:
    """A user's message, created after those made before; by a name of its own if none is given."""
    return MailBuilder(name)


def model_agent(*, runtime: str = "Model", suspended: bool = False, most_calls: int | None = None) -> AgentRecord:
    """Agent `a`."""
    model = {"provider": "echo", "name": "echo", "maxCallsPerSession": most_calls}
    return AgentRecord.read(
        {"metadata": _meta("a"), "spec": {"runtime": runtime, "suspend": suspended, "model": model}}
    )


def text(said: str) -> Block:
    """Words."""
    return Block(type="Text", text=said)


def use(call: str | None, tool: str = "work", arguments: str = "{}") -> Block:
    """A tool call."""
    return Block(type="ToolUse", tool_use_id=call, name=tool, input=arguments)


def result(call: str, said: str = "done", *, failed: bool | None = None) -> Block:
    """A tool's response."""
    return Block(type="ToolResult", tool_use_id=call, text=said, is_error=failed)


def turn(user: list[Block], assistant: list[Block] | None = None, outcome: TurnOutcome = TurnOutcome.ANSWERED) -> Json:
    """The specification of a turn, in wire form."""
    return {
        "outcome": str(outcome),
        "user": [block.wire() for block in user],
        "assistant": [block.wire() for block in assistant or []],
    }


def ref(name: str) -> Ref:
    """An object of the namespace."""
    return Ref(NAMESPACE, name)


def _meta(name: str) -> Json:
    return {
        "namespace": NAMESPACE,
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": to_wire_seconds(at(0)),
    }
