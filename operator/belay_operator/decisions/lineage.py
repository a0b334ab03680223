"""What a delegation's ancestors mean for it: refused below some, cut off by the end of others (DESIGN.md 5; D6, D9).

Ancestors are the chain of `parentRef`, nearest first. Neither parentRef nor agentRef can change, so what is refused is
refused for good; whether an ancestor is finished makes no difference to that.

| the parent is                      | a delegation below it                                                  |
|------------------------------------|------------------------------------------------------------------------|
| unfinished                         | goes on; its deadline is no later than any ancestor's                  |
| Completed                          | goes on, below the ancestor above                                      |
| Cancelled, Failed                  | Cancelled, unless the parent's annotation keeps its end from cascading |
| missing, and this was never taken up | waits: references come in any order                                  |
| missing, and this was taken up     | Cancelled: the parent was deleted                                      |
| an AgentSession that is there      | goes on, below the delegation that the session was opened for, if any  |
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from belay_api.names import Ref
from belay_api.reasons import (
    Reason,
    agent_above,
    lineage_cycle,
    lineage_too_deep,
    parent_deleted,
    parent_ended,
    parent_missing,
    parent_overdue,
)
from belay_api.times import to_wire
from belay_api.timing import Times
from belay_api.transitions import LIVE, Phase
from belay_operator.decisions.view import Change
from belay_operator.observe.kinship import above, session_key, session_of
from belay_operator.observe.mailbox_records import SessionRecord
from belay_operator.observe.records import Work

_NEVER = datetime.max.replace(tzinfo=UTC)
MOST_DEPTH = 16
"""Most delegations on the way from the first ancestor to the last descendant, both included."""


@dataclass(frozen=True)
class Ancestor:
    """A delegation above another; or an AgentSession, which is no delegation of a line and has no end of its own: it
    counts as Completed, and its parent's end reaches what is below it."""

    ref: Ref
    agent: Ref
    phase: Phase
    deadline: datetime
    cascades: bool
    parent: Ref | None

    @classmethod
    def of(cls, work: Work, times: Times) -> "Ancestor":
        """`work` as an ancestor; `times` are its agent's."""
        return cls(work.ref, work.agent, work.phase, work.deadline(times), work.cascades, above(work))

    @classmethod
    def session(cls, record: SessionRecord) -> "Ancestor":
        """An AgentSession, in which its agent works."""
        return cls(session_key(record.ref), record.agent, Phase.COMPLETED, _NEVER, True, record.parent)

    @property
    def is_session(self) -> bool:
        """Whether it is an AgentSession."""
        return session_of(self.ref) is not None


@dataclass(frozen=True)
class Line:
    """Ancestors, nearest first, as far as they were asked for; `missing` is the first that isn't there."""

    ancestors: tuple[Ancestor, ...] = ()
    missing: Ref | None = None


@dataclass(frozen=True)
class Newborn:
    """Work that was never taken up, below all its ancestors."""

    work: Work
    line: Line
    reentry: bool
    """Whether its agent may work below itself."""
    now: datetime


Check = Callable[[Newborn], Change | None]


def is_newborn(work: Work) -> bool:
    """Whether its ancestors have still to be looked at: it has some, and was never taken up."""
    return work.attempt == 0 and bool(work.parent or work.parent_session)


def cut_off(work: Work, line: Line) -> Change | None:
    """An ancestor's end reaches it: parents first, each the next (D9)."""
    for ancestor in line.ancestors:
        if ancestor.phase in LIVE or (ancestor.phase is not Phase.COMPLETED and not ancestor.cascades):
            return None
        if ancestor.phase is not Phase.COMPLETED:
            reason = Reason.PARENT_FAILED if ancestor.phase is Phase.FAILED else Reason.PARENT_CANCELLED
            return Change(Phase.CANCELLED, reason, parent_ended(ancestor.ref.name, ancestor.phase))
    if line.missing and (line.ancestors or work.attempt):
        # It was there once: this was taken up below it, or an ancestor between them was.
        return Change(Phase.CANCELLED, Reason.PARENT_DELETED, parent_deleted(line.missing.name))
    return None


def ended_above(born: Newborn) -> Change | None:
    """What would be cut off is not taken up."""
    return cut_off(born.work, born.line)


def cycle(born: Newborn) -> Change | None:
    """It is its own ancestor, or is below a circle."""
    refs = [born.work.ref, *(ancestor.ref for ancestor in born.line.ancestors)]
    again = next((ref for at, ref in enumerate(refs) if ref in refs[:at]), None)
    return Change(Phase.FAILED, Reason.LINEAGE_CYCLE, lineage_cycle(again.name)) if again else None


def too_deep(born: Newborn) -> Change | None:
    """The tree would be deeper than MOST_DEPTH."""
    if sum(not ancestor.is_session for ancestor in born.line.ancestors) < MOST_DEPTH:
        return None
    return Change(Phase.FAILED, Reason.LINEAGE_TOO_DEEP, lineage_too_deep(MOST_DEPTH))


def agent_is_above(born: Newborn) -> Change | None:
    """Its agent would work below itself: it might wait for itself for ever."""
    agent = born.work.agent
    above = next((ancestor for ancestor in born.line.ancestors if ancestor.agent == agent), None)
    if above is None or born.reentry:
        return None
    # Rests on the agent's specification, which may have been changed since it was seen.
    return Change(Phase.FAILED, Reason.AGENT_ABOVE_IN_TREE, agent_above(agent.name, above.ref.name), live_read=True)


def parent_not_there(born: Newborn) -> Change | None:
    """A missing ancestor is waited for, as a missing agent is."""
    if born.line.missing is None:
        return None
    since = {} if born.work.queued else {"queuedTime": to_wire(born.now)}
    return Change(Phase.PENDING, Reason.AGENT_NOT_FOUND, _missing(born.line.missing), since)


def _missing(parent: Ref) -> str:
    session = session_of(parent)
    kind, name = ("AgentSession", session.name) if session else ("Delegation", parent.name)
    return parent_missing(kind, name, parent.namespace)


def overdue_above(born: Newborn) -> Change | None:
    """A deadline above it is past, and its own is no later: it is never offered."""
    late = next((ancestor for ancestor in born.line.ancestors if ancestor.deadline <= born.now), None)
    if late is None:
        return None
    return Change(Phase.FAILED, Reason.DEADLINE_EXCEEDED, parent_overdue(late.ref.name))


CHAIN: tuple[Check, ...] = (ended_above, cycle, too_deep, agent_is_above, parent_not_there, overdue_above)


def admit(work: Work, line: Line, now: datetime, *, reentry: bool, times: Times) -> Work | Change:
    """Newborn `work` as it may be taken up, or why it is not; `line` reaches to the top, `times` are its agent's.

    `reentry`: whether its agent may work below itself (Agent.spec.allowReentry), or isn't there to say.
    """
    born = Newborn(work, line, reentry, now)
    change = next((change for check in CHAIN if (change := check(born))), None)
    return change or _limited(_ready(work, line), line, times)


def told_already(work: Work, change: Change) -> bool:
    """Whether `work` says so already."""
    return (work.phase, work.reason, work.pending_message) == (change.target, change.reason, change.message)


def _ready(work: Work, line: Line) -> Work:
    """It waits for no ancestor: if that was its reason, another stands in its place from now on."""
    missed = {_missing(ancestor.ref) for ancestor in line.ancestors}
    return replace(work, reason=None) if work.pending_message in missed else work


def _limited(work: Work, line: Line, times: Times) -> Work:
    """Its deadline is no later than that of any ancestor."""
    due = min([work.deadline(times), *(ancestor.deadline for ancestor in line.ancestors)])
    return replace(work, due=due)
