"""Where a session stands after a turn: computed from the turn alone, so that whoever finds it can finish it (L16, L18).

| the turn    | the session is then                                                                    |
|-------------|----------------------------------------------------------------------------------------|
| Answered    | Executing the tool calls of the answer; Idle when there are none                       |
| Bounced     | where it was claimed from: what was not returned is tried again                        |
| Parked      | the same; Idle when a round of tool responses was parked, as nothing can complete it   |
| Interrupted | Idle, when it answers the open calls; else where it was claimed from                   |
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from belay_api.agentsession import MAX_SERVING, SessionPhase
from belay_api.pendingmessage import ACTIVE_TYPES, MessageType
from belay_api.sessionturn import TurnOutcome
from belay_api.times import to_wire
from belay_api.usage import Usage
from belay_operator.observe.mailbox_records import OpenCall, SessionRecord

Json = dict[str, Any]


def tool_calls(turn: Mapping[str, Any]) -> list[Json]:
    """The ToolUse blocks of an answer: what is to be done next. Empty for every other outcome."""
    if turn["outcome"] != TurnOutcome.ANSWERED:
        return []
    return [block for block in turn.get("assistant") or () if block["type"] == "ToolUse"]


def said(turn: Mapping[str, Any]) -> str:
    """The words of an answer."""
    return "".join(block.get("text") or "" for block in turn.get("assistant") or () if block["type"] == "Text")


def prompts(turn: Mapping[str, Any]) -> list[str]:
    """The delegations whose prompts a turn settles, by name."""
    sources = (
        message.get("source") or {}
        for message in turn.get("consumed") or ()
        if MessageType(message["type"]) in ACTIVE_TYPES
    )
    return [source["name"] for source in sources if source.get("kind") == "Delegation"]


def phase_after(session: SessionRecord, turn: Mapping[str, Any]) -> SessionPhase:
    """Where a session stands after a turn."""
    if turn["outcome"] == TurnOutcome.ANSWERED:
        return SessionPhase.EXECUTING if tool_calls(turn) else SessionPhase.IDLE
    return SessionPhase.IDLE if closes_calls(turn) else session.resting


def serving_after(session: SessionRecord, turn: Mapping[str, Any]) -> list[str]:
    """The delegations that wait for the end of the conversation after a turn: none once it has come."""
    if phase_after(session, turn) is SessionPhase.IDLE:
        return []
    entered = prompts(turn) if turn["outcome"] == TurnOutcome.ANSWERED else []
    return list(dict.fromkeys([*session.serving, *entered]))[:MAX_SERVING]


def landed(
    session: SessionRecord, turn: Mapping[str, Any], calls: Sequence[OpenCall], executor: str, now: datetime
) -> Json:
    """The status (wire form) that a turn leaves behind; `calls`: what is open after it, `executor`: who runs these."""
    phase = phase_after(session, turn)
    is_open = phase is SessionPhase.EXECUTING
    answered = turn["outcome"] == TurnOutcome.ANSWERED
    kept = list(calls if answered else session.open_calls)
    spent = session.usage.usage + Usage.model_validate(turn.get("usage") or {})
    return {
        "phase": str(phase),
        "turns": turn["sequence"],
        "openToolCalls": [call_wire(call) for call in kept] if is_open else None,
        "executor": (executor if answered else session.executor) if is_open else None,
        "serving": serving_after(session, turn) or None,
        "usage": spent.wire(),
        "failedMessage": None,
        "failedRounds": None,
        "lastError": _error(turn, now),
        **_interrupt_noted(session, turn),
    }


def call_wire(call: OpenCall) -> Json:
    """An entry of status.openToolCalls."""
    made = {
        "id": call.id,
        "tool": call.tool,
        "startedTime": to_wire(call.started),
        "timeoutSeconds": call.timeout,
        "delegation": call.delegation,
        "permissionRequest": call.permission,
    }
    return {field: value for field, value in made.items() if value is not None}


def error_wire(reason: str, message: str, now: datetime) -> Json:
    """The lastError of a status."""
    return {"reason": reason, "message": message[:1024], "time": to_wire(now)}


def closes_calls(turn: Mapping[str, Any]) -> bool:
    """Whether a turn that wasn't answered ends the open calls: it answers them itself, or parks their responses."""
    if turn["outcome"] == TurnOutcome.INTERRUPTED:
        return any(block["type"] == "ToolResult" for block in turn.get("user") or ())
    return any(message["type"] == MessageType.TOOL_RESPONSE for message in turn.get("consumed") or ())


def _error(turn: Mapping[str, Any], now: datetime) -> Json | None:
    if turn["outcome"] == TurnOutcome.ANSWERED:
        return None
    return error_wire(turn.get("reason") or str(turn["outcome"]), turn.get("message") or "", now)


def _interrupt_noted(session: SessionRecord, turn: Mapping[str, Any]) -> Json:
    """One that took out a prompt interrupted nothing: what is asked for meanwhile is still to be done (L17)."""
    is_one = turn["outcome"] == TurnOutcome.INTERRUPTED and phase_after(session, turn) is SessionPhase.IDLE
    if not is_one or session.interrupt is None:
        return {}
    return {"observedInterruptRequest": session.interrupt}
