"""What is kept of permission requests: enough to settle and to remove them, never what was asked."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from belay_api.names import Ref
from belay_api.permissionrequest import SETTLED, Behavior, PermissionPhase
from belay_api.times import from_wire
from belay_operator.observe.index import Graves, older
from belay_operator.observe.records import Json, ref_of


@dataclass(frozen=True, slots=True)
class PermissionRecord:
    """A PermissionRequest."""

    ref: Ref
    uid: str
    version: str
    generation: int
    created: datetime
    expires_after: int | None
    delegation: Ref | None
    """The work it is asked for."""
    behavior: Behavior | None
    """What was decided."""
    phase: PermissionPhase | None
    completed: datetime | None
    asked_again: datetime | None = None

    @classmethod
    def read(cls, obj: Json) -> "PermissionRecord":
        """Read a PermissionRequest. Raises ValueError or KeyError when it isn't one."""
        meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
        created = from_wire(meta["creationTimestamp"])
        if created is None:
            raise ValueError(f"permission request {ref_of(obj)} has no creationTimestamp")
        work, decision = spec.get("delegationRef"), spec.get("decision")
        return cls(
            ref=ref_of(obj),
            uid=meta["uid"],
            version=meta["resourceVersion"],
            generation=meta.get("generation", 0),
            created=created,
            expires_after=spec.get("expiresAfterSeconds"),
            delegation=Ref(meta["namespace"], work["name"]) if work else None,
            behavior=Behavior(decision["behavior"]) if decision else None,
            phase=PermissionPhase(status["phase"]) if status.get("phase") else None,
            completed=from_wire(status.get("completionTime")),
            asked_again=from_wire(status.get("askedAgainTime")),
        )

    @property
    def is_open(self) -> bool:
        """Whether a decision could still be made."""
        return self.behavior is None and self.phase not in SETTLED


class PermissionIndex:
    """Every permission request that was seen, also by the work it is asked for."""

    def __init__(self) -> None:
        self.held: dict[Ref, PermissionRecord] = {}
        self._of: defaultdict[Ref, set[Ref]] = defaultdict(set)
        self._gone = Graves()

    def put(self, record: PermissionRecord) -> bool:
        """Hold it, unless a newer view is held or it is gone; whether it is held now."""
        old = self.held.get(record.ref)
        if self._gone.holds(record.ref, record.version) or (old and older(record.version, old.version)):
            return False
        self.held[record.ref] = record
        if record.delegation:
            self._of[record.delegation].add(record.ref)
        return True

    def drop(self, ref: Ref, version: str | None = None) -> None:
        """Let it go, as it was deleted at `version`; one of that name that is newer stays."""
        old = self.held.get(ref)
        if old and version and older(version, old.version):
            return
        self._gone.bury(ref, version or (old.version if old else None))
        self.held.pop(ref, None)
        if old and old.delegation:
            self._of[old.delegation].discard(ref)
            if not self._of[old.delegation]:
                del self._of[old.delegation]

    def of_delegation(self, delegation: Ref) -> list[Ref]:
        """The requests that are asked for this work."""
        return list(self._of.get(delegation, ()))
