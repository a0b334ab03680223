"""Who ended a delegation: what its holder didn't end itself must be told to it, and is proven by its answer (D9)."""

from collections.abc import Mapping
from typing import Any

from belay_api.reasons import Reason
from belay_api.transitions import Phase, phase_of

_BY_HOLDER = frozenset({Reason.AGENT_FAILED, Reason.MODEL_FAILED, Reason.MODEL_REFUSED})
_WITHOUT_HOLDER = frozenset({Reason.SESSION_DELETED, Reason.SESSION_MISMATCH})
"""Failures of what no session works on, so that none is left to answer for it."""


def ended_by_others(status: Mapping[str, Any]) -> bool:
    """Whether the delegation of this status had a holder and ended for a reason that the holder didn't give."""
    phase = phase_of(status.get("phase"))
    failed_by_others = phase is Phase.FAILED and status.get("reason") not in _BY_HOLDER | _WITHOUT_HOLDER
    return bool(status.get("sessionId")) and (phase is Phase.CANCELLED or failed_by_others)
