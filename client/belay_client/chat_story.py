"""What becomes of one message in a session, as lines for a person, and how it ended. Pure: objects in, values out.

The order in which turns are heard of doesn't matter for the end: it is judged over all of them by their numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

from belay_api.agentsession import SessionPhase
from belay_api.conditions import ConditionType
from belay_api.pendingmessage import ACTIVE_TYPES, MessageType
from belay_api.sessionturn import TurnOutcome
from belay_client.chat_words import clean, condition_line, short, turn_line, why_not
from belay_kube.client import Json

_TOLD = (ConditionType.AUTHENTICATION_REQUIRED, ConditionType.BLOCKED)


class Tone(StrEnum):
    """What kind of news a line is."""

    SAID = "said"
    CALL = "call"
    RESPONSE = "response"
    WAITS = "waits"
    TROUBLE = "trouble"
    TURN = "turn"


@dataclass(frozen=True)
class Line:
    """One piece of news, without control characters."""

    tone: Tone
    text: str


@dataclass(frozen=True)
class Now:
    """What goes on."""

    doing: str
    progress: str | None = None
    """The end of the answer as it grows."""


class End(Enum):
    """How it ended."""

    ANSWERED = "answered"
    RETURNED = "returned"
    """Bounced, Parked, or interrupted by somebody else."""
    INTERRUPTED = "interrupted"
    UNREAD = "unread"
    """The message was deleted before it was read."""
    DELETED = "deleted"
    """The session is gone."""
    LATE = "late"
    LEFT = "left"


@dataclass(frozen=True)
class Verdict:
    """How it ended: with an answer, or why without one."""

    end: End
    text: str = ""


class Story:
    """One message, from the state of the session in which it was sent."""

    def __init__(self, session: Json, message: Json) -> None:
        self._namespace = session["metadata"]["namespace"]
        self._agent = session["spec"]["agentRef"]["name"]
        self.sent = message
        self._message = message["metadata"]["uid"]
        self._turns: dict[int, Json] = {}
        self._tools: dict[str, str] = {}
        self._told: set[tuple[str, ...]] = {_error_key(session.get("status") or {})}
        self.now = Now("waits in the mailbox")

    def turn(self, turn: Json) -> list[Line]:
        """A new turn is there; what the verdict says is left to whoever asked."""
        spec = turn["spec"]
        self._turns[spec["sequence"]] = spec
        verdict = self.verdict()
        told = [*self._others(spec), *self._heard(spec.get("user") or [])]
        if verdict is None or verdict.end is not End.ANSWERED:
            told += self._said(spec)
        if verdict is None or verdict.end is End.ANSWERED:
            told.append(Line(Tone.TURN, turn_line(spec)))
        return told

    def session(self, session: Json) -> list[Line]:
        """The session stands so now."""
        status = session.get("status") or {}
        calls = status.get("openToolCalls") or []
        phase = status.get("phase") or SessionPhase.IDLE
        self.now = Now(_state(phase, calls), status.get("progress"))
        return [*self._calls(calls), *self._error(status), *self._conditions(status.get("conditions") or [])]

    def message(self, message: Json) -> list[Line]:
        """Mail is there: a tool response is told as it comes, not first when it is read."""
        spec = message["spec"]
        if spec["type"] != MessageType.TOOL_RESPONSE or (message.get("status") or {}).get("phase"):
            return []
        return self._response(spec["toolUseId"], spec["content"], failed=spec.get("success") is False)

    @property
    def is_read(self) -> bool:
        """Whether the message has entered a turn."""
        return any(self._is_mine(spec) for spec in self._turns.values())

    def verdict(self) -> Verdict | None:
        """How it ended; None while it goes on."""
        read = False
        for _, spec in sorted(self._turns.items()):
            read = read or self._is_mine(spec)
            if read and (verdict := self._ending(spec)):
                return verdict
        return None

    def _ending(self, spec: Json) -> Verdict | None:
        """How this turn ends it, if it does: others' messages may be settled while it goes on."""
        if spec["outcome"] == TurnOutcome.ANSWERED:
            return None if _blocks(spec, "ToolUse") else Verdict(End.ANSWERED, _text(spec))
        if not self._is_mine(spec) and not _closes_calls(spec):
            return None
        interrupted = spec["outcome"] == TurnOutcome.INTERRUPTED
        return Verdict(End.INTERRUPTED if interrupted else End.RETURNED, why_not(spec))

    def _is_mine(self, spec: Json) -> bool:
        return any(consumed["uid"] == self._message for consumed in spec.get("consumed") or [])

    def _others(self, spec: Json) -> Iterator[Line]:
        for consumed in _active(spec):
            if consumed["uid"] != self._message:
                source = consumed.get("source") or {}
                who = " ".join(filter(None, (source.get("kind"), source.get("name")))) or "somebody else"
                yield Line(Tone.SAID, short(f"turn {spec['sequence']} is about a message of {who}"))

    def _heard(self, blocks: Sequence[Json]) -> Iterator[Line]:
        self._learn(blocks)
        for block in blocks:
            if block["type"] == "ToolResult":
                text, failed = block.get("text") or "", bool(block.get("isError"))
                yield from self._response(block["toolUseId"], text, failed=failed)

    def _said(self, spec: Json) -> Iterator[Line]:
        """What the model said and calls."""
        self._learn(spec.get("assistant") or [])
        if text := _text(spec):
            yield Line(Tone.SAID, clean(text))
        for call in _blocks(spec, "ToolUse"):
            yield Line(Tone.CALL, f"calls {short(call.get('name') or '?')} {short(call.get('input') or '{}')}")

    def _learn(self, blocks: Sequence[Json]) -> None:
        self._tools |= {b["toolUseId"]: b["name"] for b in blocks if b["type"] == "ToolUse" and b.get("toolUseId")}

    def _response(self, call: str, text: str, *, failed: bool) -> list[Line]:
        if not self._first("response", call):
            return []
        tool = self._tools.get(call) or "a tool"
        word = "says" if tool.startswith("from_") else "failed" if failed else "answered"
        return [Line(Tone.RESPONSE, f"{tool} {word}: {short(text)}")]

    def _calls(self, calls: Sequence[Json]) -> Iterator[Line]:
        self._tools |= {call["id"]: call["tool"] for call in calls}
        for call in calls:
            asked, delegation = call.get("permissionRequest"), call.get("delegation")
            if asked and self._first("asked", asked):
                to_do = f"belay approve {asked} -n {self._namespace}, or belay deny"
                yield Line(Tone.WAITS, f"{call['tool']} waits for permission: {to_do}")
            answered = ("response", call["id"]) in self._told
            if delegation and not asked and not answered and self._first("delegation", delegation):
                yield Line(Tone.CALL, f"{call['tool']} is {delegation}: belay why {delegation} -n {self._namespace}")

    def _error(self, status: Json) -> Iterator[Line]:
        error = status.get("lastError")
        if error and self._first(*_error_key(status)):
            yield Line(Tone.TROUBLE, f"no answer ({short(error['reason'])}): {short(error['message'], 1024)}")

    def _conditions(self, conditions: Sequence[Json]) -> Iterator[Line]:
        for condition in (c for c in conditions if c["type"] in _TOLD):
            key = ("condition", condition["type"], condition["reason"])
            if condition["status"] != "True":
                self._told = {told for told in self._told if told[:2] != key[:2]}
            elif self._first(*key):
                yield Line(Tone.TROUBLE, condition_line(condition, self._agent))

    def _first(self, *key: str) -> bool:
        told = key in self._told
        self._told.add(key)
        return not told


def _state(phase: str, calls: Sequence[Json]) -> str:
    if phase == SessionPhase.EXECUTING:
        return f"waits for {', '.join(sorted({call['tool'] for call in calls})) or 'its tools'}"
    return "answers" if phase == SessionPhase.AWAITING else "waits in the mailbox"


def _active(spec: Json) -> Iterator[Json]:
    return (consumed for consumed in spec.get("consumed") or [] if consumed["type"] in ACTIVE_TYPES)


def _blocks(spec: Json, kind: str) -> list[Json]:
    return [block for block in spec.get("assistant") or [] if block["type"] == kind]


def _closes_calls(spec: Json) -> bool:
    """Whether a turn that wasn't answered ends the open calls: it answers them itself, or parks their responses."""
    if spec["outcome"] == TurnOutcome.INTERRUPTED:
        return any(block["type"] == "ToolResult" for block in spec.get("user") or [])
    return any(consumed["type"] == MessageType.TOOL_RESPONSE for consumed in spec.get("consumed") or [])


def _text(spec: Json) -> str:
    return "".join(block.get("text") or "" for block in _blocks(spec, "Text"))


def _error_key(status: Json) -> tuple[str, ...]:
    error = status.get("lastError") or {}
    return ("error", str(error.get("time")), str(error.get("reason")), str(error.get("message")))
