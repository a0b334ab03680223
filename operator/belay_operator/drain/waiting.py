"""Gathers what is known of an open tool call: from what was seen, and by a live read where that can't be told apart
from not having been seen yet (DESIGN.md section 3)."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from belay_api.names import Ref
from belay_api.permissionrequest import SETTLED, PermissionPhase
from belay_api.transitions import Phase, phase_of
from belay_kube.client import Json
from belay_operator.decisions.calls import Asked, Begun, Facts, Runs, Traits
from belay_operator.drain.running import Key, Running
from belay_operator.drain.store import Store
from belay_operator.observe.mailbox_records import OpenCall, SessionRecord
from belay_operator.seen import Seen

_UNDER_WAY: Json = {"status": {}}
"""A delegation of which no more needs to be known."""


class Waiting:
    """What open calls wait for, as `identity`, the process that may run their tools, sees it."""

    def __init__(self, store: Store, seen: Seen, running: Running, identity: str) -> None:
        self._store = store
        self._seen = seen
        self._running = running
        self._identity = identity
        self._undecided: defaultdict[Key, set[str]] = defaultdict(set)
        """Calls, by their session, that were seen to wait for a decision: nobody has started their tool."""

    async def facts(self, session: SessionRecord, call: OpenCall, traits: Traits | None) -> Facts:
        """All that is known of a call without a response. Raises KubeError."""
        asked = await self._asked(session, call) if call.permission else None
        return Facts(
            traits=traits,
            begun=self._begun(session, call, traits),
            asked=asked,
            child=await self._child(session, call) if call.delegation else None,
            came=self._running.came(session, call.id),
        )

    async def alive(self, namespace: str, serving: Iterable[str]) -> tuple[str, ...]:
        """Those of the delegations that a session serves whose end nobody but us has brought about: what is asked for
        now is asked for them. Raises KubeError."""
        return tuple([name for name in serving if not await self._ended(Ref(namespace, name))])

    async def _ended(self, ref: Ref) -> bool:
        if ref in self._seen.index.work:
            return False
        found = await self._store.delegation(ref)
        return found is None or phase_of((found.get("status") or {}).get("phase")) in (Phase.FAILED, Phase.CANCELLED)

    async def _asked(self, session: SessionRecord, call: OpenCall) -> Asked | None:
        """Where the permission request stands; who decided, and why, isn't kept and is read."""
        ref = Ref(session.ref.namespace, call.permission or "")
        held = self._seen.permissions.held.get(ref)
        if held is not None and held.phase not in SETTLED:
            asked: Asked | None = Asked(PermissionPhase.PENDING)
        else:
            found = await self._store.permission(ref)
            asked = _read(found) if found else None
        if asked and asked.phase not in SETTLED:
            self._undecided[session.ref, session.uid].add(call.id)
        return asked

    def _begun(self, session: SessionRecord, call: OpenCall, traits: Traits | None) -> Begun:
        if self._running.has_begun(session, call.id):
            return Begun.HERE
        if call.permission:
            # What makes a Delegation may be started again by the same name, so that in doubt it is.
            undecided = call.id in self._undecided.get((session.ref, session.uid), ())
            repeats = traits is None or traits.runs is not Runs.IN_PROCESS
            return Begun.NO if undecided or repeats or session.executor == self._identity else Begun.PERHAPS
        waits = traits is not None and traits.runs is Runs.IN_PROCESS and session.executor == self._identity
        return Begun.NO if waits else Begun.PERHAPS

    async def _child(self, session: SessionRecord, call: OpenCall) -> Json | None:
        ref = Ref(session.ref.namespace, call.delegation or "")
        return _UNDER_WAY if ref in self._seen.index.work else await self._store.delegation(ref)

    def keep(self, session: SessionRecord, calls: Collection[str]) -> None:
        """Only these calls of a session are open."""
        left = self._undecided.pop((session.ref, session.uid), set()) & set(calls)
        if left:
            self._undecided[session.ref, session.uid] = left

    def forget(self, ref: Ref) -> None:
        """A session is gone."""
        for key in [key for key in self._undecided if key[0] == ref]:
            del self._undecided[key]


def _read(request: Json) -> Asked:
    status, decision = request.get("status") or {}, request["spec"].get("decision") or {}
    phase = PermissionPhase(status.get("phase") or PermissionPhase.PENDING)
    return Asked(phase, decision.get("decidedBy"), decision.get("reason") or status.get("message"))
