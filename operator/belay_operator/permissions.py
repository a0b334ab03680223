"""One permission request at a time: judge it, write what was decided, and remember when to look again."""

from belay_api.names import Ref
from belay_api.transitions import TERMINAL, phase_of
from belay_kube.clock import Clock
from belay_operator.apply import Applier
from belay_operator.decisions import permissions
from belay_operator.keys import Key, KeyKind
from belay_operator.observe.permissions import PermissionRecord
from belay_operator.seen import Seen


class Permissions:
    """Settles requests that are decided or over, and removes those that were settled `keep` seconds ago."""

    def __init__(self, seen: Seen, applier: Applier, clock: Clock, keep: int) -> None:
        self._seen = seen
        self._applier = applier
        self._clock = clock
        self._keep = keep

    async def judge(self, ref: Ref) -> None:
        """Decide on one request and write it. Raises KubeError."""
        key = Key(KeyKind.PERMISSION, ref)
        record = self._seen.permissions.held.get(ref)
        if record is None:
            self._seen.timers.drop(key)
            return
        ended = await self._work_ended(record)
        match permissions.fate(record, work_ended=ended, keep=self._keep, now=self._clock.now()):
            case permissions.Keep(until):
                self._seen.timers.set(key, until)
            case permissions.Remove():
                if await self._applier.remove_permission(record):
                    self._seen.gone_permission(ref)
            case permissions.Settle() as settle:
                await self._settle(record, settle)

    async def _settle(self, record: PermissionRecord, settle: permissions.Settle) -> None:
        outcome = await self._applier.permission(record, settle)
        if outcome.obj is None:
            self._seen.gone_permission(record.ref)
        else:
            self._seen.saw_permission(PermissionRecord.read(outcome.obj))

    async def _work_ended(self, record: PermissionRecord) -> bool:
        """Whether what it is asked for is over. An end can't be undone, so it is read live: that the work isn't known
        may only mean that it isn't known yet (DESIGN.md section 3)."""
        if not record.is_open or record.delegation is None or record.delegation in self._seen.index.work:
            return False
        found = await self._applier.live_delegation(record.delegation)
        return found is None or phase_of((found.get("status") or {}).get("phase")) in TERMINAL
