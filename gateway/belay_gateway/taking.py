"""What an accept and the beats of a holder do to a delegation; a beat on an offer accepts it (D2, D3). Pure."""

from belay_api.actions import ProgressMade
from belay_api.delegation import DesiredState
from belay_api.messages import ErrorCode
from belay_api.reasons import Reason
from belay_api.times import from_wire, to_wire
from belay_api.transitions import Phase
from belay_gateway.cases import Case, being_cancelled, changed_progress, ended, other_holder, taken, withdrawn
from belay_gateway.verdicts import Change, NoChange, Verdict

PROGRESS_SECONDS = 5.0
"""Least time between two writes of changed progress."""


def accept(case: Case) -> Verdict:
    """The first one wins; the holder may say it again, from wherever it is attached now."""
    match case.phase:
        case Phase.DISPATCHED if case.spec.get("desiredState") == DesiredState.CANCELLED:
            return being_cancelled()
        case Phase.DISPATCHED:
            return Change(taken(case))
        case Phase.IN_PROGRESS | Phase.STUCK if case.held:
            moved = case.status.get("gateway") != case.asker.gateway
            return Change({"gateway": case.asker.gateway}) if moved else NoChange()
        case Phase.IN_PROGRESS | Phase.STUCK:
            return other_holder(ErrorCode.TAKEN)
        case Phase.PENDING | Phase.QUEUED:
            return withdrawn()
        case _:
            return ended(case)


def beat(case: Case) -> Verdict:
    """Written when it is due; progress that comes sooner goes with the next one."""
    progress = case.action.progress if isinstance(case.action, ProgressMade) else case.pending
    written = {"lastHeartbeatTime": to_wire(case.now), **changed_progress(case, progress)}
    match case.phase:
        case Phase.DISPATCHED if case.spec.get("desiredState") == DesiredState.CANCELLED:
            return being_cancelled()
        case Phase.DISPATCHED:
            return Change({**taken(case), **written})
        case Phase.IN_PROGRESS if case.held:
            due = _beat_is_due(case, changed="progress" in written)
            return Change({"gateway": case.asker.gateway, **written}) if due else NoChange(progress)
        case Phase.STUCK if case.held:
            resumed = {"phase": Phase.IN_PROGRESS, "reason": Reason.RESUMED, "message": "the holder beats again"}
            return Change({**resumed, "gateway": case.asker.gateway, **written})
        case Phase.IN_PROGRESS | Phase.STUCK:
            return other_holder(ErrorCode.NOT_HOLDER)
        case Phase.PENDING | Phase.QUEUED:
            return withdrawn()
        case _:
            return ended(case)


def _beat_is_due(case: Case, *, changed: bool) -> bool:
    last = from_wire(case.status.get("lastHeartbeatTime"))
    if last is None or case.status.get("gateway") != case.asker.gateway:
        return True
    passed = (case.now - last).total_seconds()
    return passed >= case.threshold / 4 or (changed and (passed >= PROGRESS_SECONDS or not case.remembers))
