"""What a person can do about a delegation that stands as it does, and who ended one that is over. Pure."""

from belay_api.reasons import Reason
from belay_api.transitions import TERMINAL, Phase, phase_of
from belay_client.follow import phase
from belay_client.proving import is_owed
from belay_kube.client import Json

_WAITING = {
    Reason.AGENT_NOT_FOUND: "create what it names: it goes on by itself then",
    Reason.AGENT_BUSY: "wait for a slot; or raise its spec.priority (kubectl edit dlg {name}), or "
    "spec.maxActiveDelegations of agent {agent}",
    Reason.AGENT_OFFLINE: "attach a process as the agent: belay agent run {agent} --exec COMMAND",
    Reason.SESSION_OFFLINE: "attach that session again: belay agent run {agent} --session-id {addressed} --exec "
    "COMMAND; or cancel it and delegate without --session",
    Reason.AGENT_SUSPENDED: "set spec.suspend of agent {agent} to false",
    Reason.AGENT_UNRESPONSIVE: "restart the process of that session, or attach another; belay retry tries Stuck work "
    "again",
    Reason.PROVIDER_UNKNOWN: "set spec.model.provider of agent {agent} to one that there is",
    Reason.NOT_ACCEPTED: "see that the process of agent {agent} takes offers; it is offered again by itself",
}
_TRIED_AGAIN = "nothing: it is tried again by itself"
_NOT_SEEN = "nothing, for a moment; if it stays so, see that Belay's operator runs"
_BY_PHASE = {
    Phase.DISPATCHED: "nothing: it is offered again every few seconds, and goes back to the queue if nobody takes it",
    Phase.IN_PROGRESS: "nothing: it is worked on; belay cancel {name} ends it",
    Phase.STUCK: "belay retry {name} makes the next attempt, belay cancel {name} ends it; if its session beats again "
    "it goes on by itself",
    Phase.COMPLETED: "nothing",
    Phase.FAILED: "belay retry {name} makes a new one of it",
    Phase.CANCELLED: "belay retry {name} makes a new one of it",
}
_BROUGHT = "nothing, for a moment: it goes into the mailbox of AgentSession {holder}; see that Belay's operator runs"
_CUT_SHORT = "nothing: the round of AgentSession {holder} is cut short; belay cancel {name} --wait tells when"
_OWED = "wait until session {holder} says that it stopped: belay cancel {name} --wait; it is told when it returns"

_ENDED_BY: dict[str, str] = {
    Reason.CANCELLED: "whoever set its spec.desiredState to Cancelled",
    Reason.PARENT_CANCELLED: "the cancel of its parent",
    Reason.PARENT_FAILED: "the failure of its parent",
    Reason.PARENT_DELETED: "the deletion of its parent",
    Reason.AGENT_OFFLINE: "the operator, when its agent was lost",
    Reason.AGENT_LOST: "the operator, when its agent was lost",
    Reason.AGENT_FORGOT: "the operator, when its agent came back without it",
    Reason.AGENT_DELETED: "the operator, when its Agent was deleted",
    Reason.NO_HEARTBEAT: "the operator, when no heartbeat came",
    Reason.DEADLINE_EXCEEDED: "the operator, at its deadline",
    Reason.MODEL_FAILED: "the operator, when its model could not be reached",
    Reason.MODEL_REFUSED: "the operator, when its model refused it",
    Reason.SESSION_MISMATCH: "the operator: its session is not one of its agent",
    Reason.SESSION_DELETED: "the operator, when its AgentSession was deleted",
    Reason.AGENT_FAILED: "its agent",
    Reason.COMPLETED: "its agent",
}
_BY_AGENT = frozenset({Reason.AGENT_FAILED, Reason.COMPLETED})


def to_do(obj: Json) -> str:
    """What can be done about it, in a sentence."""
    return _form(obj).format(
        name=obj["metadata"]["name"],
        agent=obj["spec"]["agentRef"]["name"],
        addressed=obj["spec"].get("sessionId"),
        holder=(obj.get("status") or {}).get("sessionId"),
    )


def ended_by(obj: Json) -> str | None:
    """Who ended it; None while it isn't over."""
    status = obj.get("status") or {}
    if phase_of(phase(obj)) not in TERMINAL:
        return None
    reason = status.get("reason")
    session = f", session {status['sessionId']}" if reason in _BY_AGENT and status.get("sessionId") else ""
    return _ENDED_BY.get(str(reason), "the operator") + session


def is_driven(obj: Json) -> bool:
    """Whether an AgentSession has it, which Belay drives itself: no gateway is between them."""
    status = obj.get("status") or {}
    return bool(status.get("sessionId")) and not status.get("gateway")


def _form(obj: Json) -> str:
    at, reason = phase_of(phase(obj)), (obj.get("status") or {}).get("reason")
    if at in TERMINAL and is_owed(obj):
        return _CUT_SHORT if is_driven(obj) else _OWED
    if at is Phase.DISPATCHED and is_driven(obj):
        return _BROUGHT
    if at in _BY_PHASE:
        return _BY_PHASE[at]
    if reason is None:
        return _NOT_SEEN
    return _WAITING.get(reason, _TRIED_AGAIN)
