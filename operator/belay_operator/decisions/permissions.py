"""What should become of a permission request: settled, removed when its time is over, or left (DESIGN.md section 5)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from belay_api.permission_words import PermissionReason, awaiting_decision, delegation_ended, not_decided
from belay_api.permissionrequest import SETTLED, Behavior, PermissionPhase
from belay_operator.observe.permissions import PermissionRecord

DEFAULT_EXPIRY_SECONDS = 2_592_000
"""After which a request that says nothing else expires undecided: as long as it may say at most."""
DEFAULT_KEEP_SECONDS = 2_592_000
"""How long a settled request is kept, and so its decision can be replayed (C5)."""

_DECIDED = {Behavior.ALLOW: PermissionPhase.ALLOWED, Behavior.DENY: PermissionPhase.DENIED}


@dataclass(frozen=True)
class Settle:
    """Write this phase and reason."""

    phase: PermissionPhase
    reason: PermissionReason
    message: str


class Remove:
    """Delete it."""


@dataclass(frozen=True)
class Keep:
    """Leave it, and look again then."""

    until: datetime


def fate(record: PermissionRecord, *, work_ended: bool, keep: int, now: datetime) -> Settle | Remove | Keep:
    """What should become of it now; `work_ended` says that the delegation it is asked for is terminal or gone.

    A decision counts before all else: it was recorded while nothing had ended the request.
    """
    if record.phase in SETTLED:
        return _settled(record, keep, now)
    if record.behavior:
        return Settle(_DECIDED[record.behavior], PermissionReason.DECIDED, "")
    if work_ended and record.delegation:
        message = delegation_ended(record.delegation.name)
        return Settle(PermissionPhase.EXPIRED, PermissionReason.DELEGATION_ENDED, message)
    return _undecided(record, now)


def _undecided(record: PermissionRecord, now: datetime) -> Settle | Keep:
    seconds = record.expires_after or DEFAULT_EXPIRY_SECONDS
    due = record.created + timedelta(seconds=seconds)
    if now >= due:
        return Settle(PermissionPhase.EXPIRED, PermissionReason.NOT_DECIDED, not_decided(seconds))
    if record.phase is None:
        message = awaiting_decision(record.ref.name, record.ref.namespace)
        return Settle(PermissionPhase.PENDING, PermissionReason.AWAITING_DECISION, message)
    return Keep(due)


def _settled(record: PermissionRecord, keep: int, now: datetime) -> Remove | Keep:
    """One that was asked again outlives those that had its id in between: they must not become its meaning (C4)."""
    last = max(time for time in (record.created, record.completed, record.asked_again) if time)
    due = last + timedelta(seconds=keep)
    return Remove() if now >= due else Keep(due)
