"""What the own topic of a Model agent's session is told, from the objects that say so. Pure."""

from belay_api.agentsession import SessionPhase
from belay_api.agentsubscription import AgentRef
from belay_api.conditions import ConditionType
from belay_api.messages import SessionChanged, ToolCalled, TurnTaken, Why
from belay_gateway.topicevents import MAX_EVENT_BYTES
from belay_gateway.wire import text_of
from belay_kube.client import Json

DELETED = "Deleted"
"""What is told as the phase of a session that is gone."""


def session_event(topic: str, session: Json) -> SessionChanged:
    """How a session stands; without what only those need who drain it."""
    spec, status = session["spec"], session.get("status") or {}
    error = status.get("lastError") or {}
    return SessionChanged(
        topic=topic,
        name=session["metadata"]["name"],
        agent=AgentRef(name=spec["agentRef"]["name"]),
        phase=status.get("phase") or SessionPhase.IDLE,
        turns=turns_of(session),
        reason=error.get("reason"),
        message=error.get("message"),
        progress=status.get("progress"),
        blocked=_why(status, ConditionType.BLOCKED),
        authentication_required=_why(status, ConditionType.AUTHENTICATION_REQUIRED),
    )


def turns_of(session: Json) -> int:
    """Number of the last turn that the session counts; 0 before the first."""
    return int((session.get("status") or {}).get("turns") or 0)


def _why(status: Json, kind: ConditionType) -> Why | None:
    held = (c for c in status.get("conditions") or () if c["type"] == kind and c["status"] == "True")
    return next((Why(reason=c.get("reason") or kind, message=c.get("message") or "") for c in held), None)


def turn_event(topic: str, turn: Json) -> TurnTaken:
    """What was said in a turn, its text in one piece."""
    spec = turn["spec"]
    said = spec.get("assistant") or ()
    texts = [block["text"] for block in said if block["type"] == "Text" and block.get("text")]
    calls = [ToolCalled(id=b.get("toolUseId") or "", name=b.get("name") or "") for b in said if b["type"] == "ToolUse"]
    return TurnTaken(
        topic=topic,
        name=turn["metadata"]["name"],
        sequence=spec["sequence"],
        outcome=spec["outcome"],
        reason=spec.get("reason"),
        message=spec.get("message"),
        text="\n\n".join(texts) or None,
        tool_calls=calls or None,
        stop_reason=spec.get("stopReason"),
        model=spec.get("model"),
    )


def turn_text(namespace: str, event: TurnTaken) -> str:
    """The JSON of a turn; of a text that doesn't fit in a frame it has the beginning, and the message says where the
    rest is."""
    text = text_of(event.wire())
    if _fits(text):
        return text
    where = f"the text is too large for a frame: kubectl get sessionturn {event.name} -n {namespace} -o yaml"
    said = f"{event.message}; {where}" if event.message else where
    kept = event.text or ""
    while not _fits(text):
        kept = kept[: len(kept) // 2]
        text = text_of(event.model_copy(update={"message": said, "text": kept}).wire())
    return text


def _fits(text: str) -> bool:
    return len(text.encode()) <= MAX_EVENT_BYTES
