"""What a session holds, and what the server's word does to it."""

from collections.abc import Iterable

from belay_api.actions import HeldAttempt, Resume
from belay_api.messages import Cancel, Resumed, ResumeVerdict
from belay_api.reasons import Reason
from belay_api.transitions import Phase
from belay_client.work import Key, Work

MAX_HELD = 1000
"""Most that one `resume` can list."""
RESUME_REF = "resume"

_ENDED: dict[ResumeVerdict, tuple[Reason, str]] = {
    ResumeVerdict.CANCELLED: (Reason.CANCELLED, "it ended while this agent was away"),
    ResumeVerdict.SUPERSEDED: (Reason.SUPERSEDED, "another attempt took its place"),
    ResumeVerdict.UNKNOWN: (Reason.SUPERSEDED, "the server knows no such work of this session"),
}


class Held:
    """The work of one session by name and attempt: from its accept being sent until its end is answered."""

    def __init__(self) -> None:
        self._works: dict[Key, Work] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._works

    def __len__(self) -> int:
        return len(self._works)

    def add(self, work: Work) -> None:
        """Hold it."""
        self._works[work.key] = work

    def remove(self, work: Work) -> None:
        """Hold it no longer; nothing when it isn't held."""
        self._works.pop(work.key, None)

    def is_accepted(self, key: Key) -> bool:
        """Whether it is held and the server has said so."""
        return key in self._works and self._works[key].accepted

    def resume(self) -> Resume:
        """The list for a new connection."""
        return Resume(ref=RESUME_REF, held=[HeldAttempt(name=name, attempt=attempt) for name, attempt in self._works])

    def cancel(self, frame: Cancel) -> bool:
        """Tell the work to stop; False when no such work is held."""
        work = self._works.get((frame.name, frame.attempt))
        if work is not None:
            work.cancelled.set(frame, proof_wanted=True)
        return work is not None

    def judge(self, verdicts: Iterable[Resumed]) -> set[Key]:
        """Tell all work to stop that is not to be continued; returns which that is."""
        ended = set()
        for told in verdicts:
            work = self._works.get((told.name, told.attempt))
            if work is not None and told.verdict is not ResumeVerdict.CONTINUE:
                reason, message = _ENDED[told.verdict]
                lose(work, reason, message, proof_wanted=told.verdict is ResumeVerdict.CANCELLED)
                ended.add(work.key)
        return ended

    def lose_all(self, message: str) -> None:
        """The session is over: none of it is this process's any more."""
        for work in list(self._works.values()):
            lose(work, Reason.AGENT_LOST, message, proof_wanted=False)


def lose(work: Work, reason: Reason, message: str, *, proof_wanted: bool = False) -> None:
    """Tell work to stop that the server has given to nobody or to another."""
    phase = Phase.CANCELLED if proof_wanted else ""
    frame = Cancel(name=work.name, attempt=work.attempt, phase=phase, reason=reason, message=message)
    work.cancelled.set(frame, proof_wanted=proof_wanted)
