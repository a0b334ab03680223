"""What a session that comes back still holds, and what it must be told. Pure (C9, D9)."""

from belay_api.actions import HeldAttempt
from belay_api.conditions import ConditionType, condition_is_true
from belay_api.messages import Cancel, ResumeVerdict
from belay_api.reasons import Reason, agent_forgot
from belay_api.retrying import is_handed_back
from belay_api.transitions import HELD, TERMINAL, phase_of
from belay_gateway.objects import attempt_of, ended_by_others, phase_in
from belay_gateway.verdicts import Asker, Change, NoChange, Verdict
from belay_kube.client import Json


def is_held(delegation: Json, asker: Asker) -> bool:
    """Whether the asker's session holds it now."""
    status = delegation.get("status") or {}
    agent = ((delegation.get("spec") or {}).get("agentRef") or {}).get("name")
    mine = agent == asker.agent and status.get("sessionId") == asker.session_id
    return mine and phase_in(delegation) in HELD and not is_handed_back(status)


def resume_verdict(delegation: Json | None, asker: Asker, entry: HeldAttempt) -> ResumeVerdict:
    """What is to become of one attempt that the client says it holds."""
    if delegation is None or delegation["spec"]["agentRef"]["name"] != asker.agent:
        return ResumeVerdict.UNKNOWN
    if (delegation.get("status") or {}).get("attempt") != entry.attempt:
        return ResumeVerdict.SUPERSEDED
    if phase_in(delegation) in TERMINAL:
        return ResumeVerdict.CANCELLED
    return ResumeVerdict.CONTINUE if is_held(delegation, asker) else ResumeVerdict.SUPERSEDED


def adopted(delegation: Json, asker: Asker) -> Verdict:
    """Its holder is attached here now: what happens to it must be told here."""
    moved = is_held(delegation, asker) and delegation["status"].get("gateway") != asker.gateway
    return Change({"gateway": asker.gateway}) if moved else NoChange()


def forgotten(delegation: Json, asker: Asker) -> Verdict:
    """Held work that the list of a `resume` lacks is handed back in the session's name (C9)."""
    status = delegation.get("status") or {}
    held = status.get("sessionId") == asker.session_id and phase_of(status.get("phase")) in HELD
    if not held or is_handed_back(status):
        return NoChange()
    message = agent_forgot(asker.agent, asker.session_id)
    return Change({"phase": status["phase"], "reason": Reason.AGENT_FORGOT, "message": message})


def is_delivered(delegation: Json) -> bool:
    """Whether its end was told to the holder once."""
    conditions = (delegation.get("status") or {}).get("conditions") or []
    return condition_is_true(conditions, ConditionType.CANCEL_DELIVERED)


def is_unacknowledged(delegation: Json) -> bool:
    """Whether its holder has been cut off, and has not yet said that it stopped."""
    conditions = (delegation.get("status") or {}).get("conditions") or []
    return ended_by_others(delegation) and not condition_is_true(conditions, ConditionType.CANCEL_ACKNOWLEDGED)


def cancel_frame(delegation: Json) -> Cancel:
    """How its end is told."""
    status = delegation["status"]
    return Cancel(
        name=delegation["metadata"]["name"],
        attempt=attempt_of(delegation),
        phase=str(phase_in(delegation)),
        reason=status.get("reason") or "",
        message=status.get("message") or "",
    )
