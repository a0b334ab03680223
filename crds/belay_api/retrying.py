"""When an attempt that came to nothing is followed by another: one rule for operator and gateway (DESIGN.md section 5).

A holder can't queue its work again: only the operator draws that arrow. So the gateway *hands it back*: the phase stays
(an offer becomes InProgress, as if accepted first) and the reason says who gave it up. From then on the attempt is held
by nobody, late frames of it are refused, and the operator makes the next attempt of it, or its end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from belay_api.reasons import Reason
from belay_api.transitions import HELD, Phase, phase_of

HANDING_BACK = frozenset({Reason.AGENT_FAILED, Reason.AGENT_FORGOT, Reason.RELEASED})
"""Reasons with which a gateway hands an attempt back."""
_COUNTS_AS = {
    Reason.AGENT_LOST: str(Reason.AGENT_LOST),
    Reason.AGENT_FORGOT: str(Reason.AGENT_LOST),
    Reason.NO_HEARTBEAT: str(Reason.NO_HEARTBEAT),
    Reason.AGENT_FAILED: str(Reason.AGENT_FAILED),
    Reason.MODEL_FAILED: str(Reason.AGENT_FAILED),
}
"""Which of the reasons in `retry.on` stands for a failure; what is not here counts against no limit."""


def is_handed_back(status: Mapping[str, Any]) -> bool:
    """Whether this attempt was given up and waits for the operator.

    In the queue it is only so for an attempt that was offered once (a late `fail`): a new one has no dispatchedTime.
    """
    if status.get("reason") not in HANDING_BACK:
        return False
    phase = phase_of(status.get("phase"))
    return phase in HELD or (phase is Phase.QUEUED and bool(status.get("dispatchedTime")))


@dataclass(frozen=True, slots=True)
class Tries:
    """The attempts of one delegation so far, and how many it may have."""

    attempt: int
    """Number of the present one; 0 before the first."""
    failures: int
    """Earlier ones that count against `most`: neither released ones nor those a person retried."""
    most: int
    on: frozenset[str] | None
    """Reasons that are retried; None: all."""

    @classmethod
    def read(cls, spec: Mapping[str, Any], status: Mapping[str, Any]) -> "Tries":
        """Of a delegation's specification and status (wire form)."""
        retry, attempt = spec.get("retry") or {}, status.get("attempt") or 0
        on = retry.get("on")
        return cls(
            attempt=attempt,
            failures=status.get("failures", max(0, attempt - 1)),
            most=retry.get("maxAttempts", 1),
            on=None if on is None else frozenset(on),
        )

    def may_follow(self, reason: Reason) -> bool:
        """Whether another attempt may follow one that ended for `reason`; what doesn't count always may."""
        counted = _COUNTS_AS.get(reason)
        if counted is None:
            return True
        return self.failures + 1 < self.most and (self.on is None or counted in self.on)

    def after(self, reason: Reason) -> "Tries":
        """These, once an attempt that ended for `reason` is followed by the next."""
        return Tries(self.attempt + 1, self.failures + (reason in _COUNTS_AS), self.most, self.on)

    @property
    def released(self) -> int:
        """Earlier attempts that count against nothing: those that were released, or retried by a person."""
        return max(0, self.attempt - 1 - self.failures)

    @property
    def last(self) -> int:
        """Number of the last attempt there can be if each from now on fails: released ones make it higher."""
        return self.attempt + max(0, self.most - 1 - self.failures)
