"""What becomes of a tool call: opened by an answer, started, waited for, and answered exactly once (L14, L15).

| the tool runs | it is started                                   | its response is                                 |
|---------------|-------------------------------------------------|-------------------------------------------------|
| AtOnce        | before the session is released, again if need be | what `start` returns                            |
| Delegation    | before the session is released, again if need be | the end of the Delegation named after the call  |
| InProcess     | once the session says which process runs it     | what `start` returns, however long that takes   |

Where people are asked first, each is started when they have allowed it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from belay_api.agent import ToolPermission
from belay_api.agentsession import SessionPhase
from belay_api.names import tool_call_name
from belay_api.pendingmessage import MessageType
from belay_api.permissionrequest import SETTLED, PermissionPhase
from belay_api.session_words import timed_out
from belay_api.tool_words import (
    delegation_was_deleted,
    tool_interrupted,
    use_denied,
    use_not_decided,
    use_request_deleted,
)
from belay_api.transitions import TERMINAL, Phase, phase_of
from belay_operator.decisions.outcomes import Response, failure, outcome
from belay_operator.observe.mailbox_records import MessageRecord, OpenCall, SessionRecord
from belay_operator.observe.records import AgentRecord

DEFAULT_TIMEOUT_SECONDS = 600
"""For a tool that says nothing else."""


class Runs(StrEnum):
    """How a tool runs."""

    AT_ONCE = "AtOnce"
    DELEGATION = "Delegation"
    IN_PROCESS = "InProcess"


@dataclass(frozen=True)
class Traits:
    """What is to be known of a tool; `default_timeout` in seconds, None: it always ends itself."""

    runs: Runs
    idempotent: bool = True
    """Whether it may be started again when it isn't known how far it came."""
    default_timeout: int | None = DEFAULT_TIMEOUT_SECONDS


def opened(
    session_uid: str,
    agent: AgentRecord | None,
    blocks: Sequence[Mapping[str, Any]],
    traits: Mapping[str, Traits],
    now: datetime,
) -> list[OpenCall]:
    """The calls that ToolUse blocks (wire form) open, each with the names of what it may come to make."""
    return [_opened(session_uid, agent, block["toolUseId"], block["name"], traits, now) for block in blocks]


def _opened(
    session_uid: str, agent: AgentRecord | None, use: str, tool: str, traits: Mapping[str, Traits], now: datetime
) -> OpenCall:
    terms, known = agent.terms(tool) if agent else None, traits.get(tool)
    name = tool_call_name(session_uid, use)
    default = known.default_timeout if known else DEFAULT_TIMEOUT_SECONDS
    return OpenCall(
        id=use,
        tool=tool,
        started=now,
        timeout=(terms.timeout if terms else None) or default,
        delegation=name if known and known.runs is Runs.DELEGATION else None,
        permission=name if known and terms and terms.permission is ToolPermission.ASK else None,
    )


# --- what is known of an open call ---


@dataclass(frozen=True)
class Asked:
    """A PermissionRequest, as it stands."""

    phase: PermissionPhase
    by: str | None = None
    why: str | None = None


class Begun(StrEnum):
    """Whether its tool was started."""

    NO = "No"
    HERE = "Here"
    PERHAPS = "Perhaps"
    """By a process that is gone, so that it isn't known."""


@dataclass(frozen=True)
class Facts:
    """What is known of an open call that has no response yet."""

    traits: Traits | None
    """None: the tool isn't known (any more)."""
    begun: Begun = Begun.PERHAPS
    asked: Asked | None = None
    """None: it isn't there; counts only where the call names one."""
    child: Mapping[str, Any] | None = None
    """Its Delegation; None: it isn't there."""
    came: Response | None = None
    """What a tool that runs in this process returned."""


# --- what is to be done ---


@dataclass(frozen=True)
class Answer:
    """Send this response."""

    response: Response


@dataclass(frozen=True)
class Start:
    """Start the tool."""


@dataclass(frozen=True)
class TimeOut:
    """End what was started, and answer so, unless it came to its end just then (L15)."""

    seconds: int


@dataclass(frozen=True)
class Wait:
    """Nothing, until something happens, or until then."""

    until: datetime | None


Step = Answer | Start | TimeOut | Wait


def step(call: OpenCall, facts: Facts, now: datetime) -> Step:
    """What an open call without a response needs now. What came in time counts, also where nobody looked in time."""
    if facts.child is not None and phase_of((facts.child.get("status") or {}).get("phase")) in TERMINAL:
        return Answer(outcome(facts.child))
    if facts.came:
        return Answer(facts.came)
    if call.timeout is not None and now >= call.started + timedelta(seconds=call.timeout):
        return TimeOut(call.timeout)
    return (_permission(call, facts.asked) if _waits_for_people(call, facts) else None) or _run(call, facts)


def _waits_for_people(call: OpenCall, facts: Facts) -> bool:
    """What was started was allowed, whatever became of the request since: its time to live is shorter than a call's."""
    return call.permission is not None and facts.child is None and facts.begun is not Begun.HERE


def _permission(call: OpenCall, asked: Asked | None) -> Step | None:
    """None: it is allowed."""
    if asked is None:
        return Answer(failure(use_request_deleted(call.tool, call.permission or "")))
    if asked.phase not in SETTLED:
        return Wait(due(call))
    if asked.phase is PermissionPhase.DENIED:
        return Answer(failure(use_denied(call.tool, asked.by, asked.why)))
    if asked.phase is PermissionPhase.EXPIRED:
        return Answer(failure(use_not_decided(call.tool, asked.why)))
    return None


def _run(call: OpenCall, facts: Facts) -> Step:
    if facts.traits is None or facts.traits.runs is Runs.AT_ONCE:
        # It was answered as it was started. If that isn't in the mailbox yet, the same again changes nothing.
        return Start()
    if facts.traits.runs is Runs.DELEGATION:
        return _delegated(call, facts)
    if facts.begun is Begun.HERE:
        return Wait(due(call))
    if facts.begun is Begun.PERHAPS and not facts.traits.idempotent:
        return Answer(failure(tool_interrupted(call.tool)))
    return Start()


def _delegated(call: OpenCall, facts: Facts) -> Step:
    if facts.child is not None:
        return Wait(due(call))
    if facts.begun is Begun.NO:
        return Start()
    return Answer(failure(delegation_was_deleted(call.delegation or call.id)))


def due(call: OpenCall) -> datetime | None:
    """When a call is overdue; None: never."""
    return None if call.timeout is None else call.started + timedelta(seconds=call.timeout)


def too_late(seconds: int, child: Mapping[str, Any] | None) -> Response:
    """The response to a call that timed out; `child` as its cancel left it: one that was Completed counts."""
    if child is not None and (child.get("status") or {}).get("phase") == Phase.COMPLETED:
        return outcome(child)
    return failure(timed_out(seconds))


# --- responses that nothing waits for ---


def strays(session: SessionRecord, mail: Sequence[MessageRecord]) -> list[MessageRecord]:
    """Responses in the mailbox of `session` that answer no open call, or one that has its response (L15).

    While the model is asked nothing is said of them: its answer may open the call.
    """
    if session.phase is SessionPhase.AWAITING:
        return []
    waiting = {call.id for call in session.open_calls}
    found = []
    for message in sorted(mail, key=lambda m: m.order):
        if not message.pending or message.type is not MessageType.TOOL_RESPONSE:
            continue
        if message.tool_use_id not in waiting:
            found.append(message)
        waiting.discard(message.tool_use_id or "")
    return found
