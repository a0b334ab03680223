"""The only module that writes; each write carries the resourceVersion it was decided on (DESIGN.md section 3)."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from belay_api.conditions import ConditionType, set_condition
from belay_api.names import Ref
from belay_api.permissionrequest import SETTLED
from belay_api.reasons import Reason
from belay_api.times import to_wire
from belay_api.transitions import TERMINAL, WAITING, Phase, Writer, allowed
from belay_kube.client import (
    AGENTS,
    DELEGATIONS,
    LEASES,
    PERMISSION_REQUESTS,
    SESSIONS,
    SUBSCRIPTIONS,
    SWEEPERS,
    Collection,
    Json,
    Kube,
    pages,
)
from belay_kube.clock import Clock
from belay_kube.errors import Conflict, NotFound
from belay_kube.events import About
from belay_kube.finding import find
from belay_operator.decisions.agentstatus import online
from belay_operator.decisions.permissions import Settle
from belay_operator.decisions.rows import Mark
from belay_operator.decisions.ttl import Finished
from belay_operator.decisions.view import Change
from belay_operator.events import Recorder
from belay_operator.metrics import Metrics
from belay_operator.observe.permissions import PermissionRecord
from belay_operator.observe.presence_records import Row
from belay_operator.observe.records import AgentRecord, Work, parent_of

log = structlog.get_logger(__name__)

_CONDITION_TRIES = 4
_ORDINARY = frozenset({Phase.DISPATCHED, Phase.IN_PROGRESS, Phase.COMPLETED})
"""Where what is well goes to."""


@dataclass(frozen=True)
class Outcome:
    """The object as it now is (None: gone), and whether that is our doing; if not, decide again."""

    obj: Json | None
    written: bool


class Applier:
    """Writes what was decided."""

    def __init__(self, kube: Kube, clock: Clock, recorder: Recorder, metrics: Metrics, at_once: int = 32) -> None:
        self._kube = kube
        self._slots = asyncio.Semaphore(at_once)
        """At most so many writes are under way, so that a burst of one agent holds up nobody's lease or watch."""
        self._clock = clock
        self._recorder = recorder
        self._metrics = metrics

    async def delegation(self, work: Work, change: Change) -> Outcome:
        """Write a delegation's new status, then tell it. Raises KubeError, ValueError for an arrow we may not draw."""
        if not allowed(work.phase, change.target, Writer.OPERATOR):
            raise ValueError(f"{work.ref}: {work.phase} can't become {change.target}")
        status = _status(work, change, self._clock.now())
        if work.conditions and "conditions" in status:
            # Of each condition only a part is kept, and a merge patch replaces the list: it needs the whole ones.
            live = await self.live_delegation(work.ref)
            if live is None or live["metadata"]["resourceVersion"] != work.version:
                return Outcome(live, written=False)
            status["conditions"] = _whole(status["conditions"], work.conditions, live)
        outcome = await self._patch(DELEGATIONS, work.ref, work.version, status)
        if outcome.written:
            self._tell(work, change)
        return outcome

    async def conditions(self, ref: Ref, version: str, conditions: list[Json]) -> Outcome:
        """Write the conditions of a delegation, finished or not, and nothing else. Raises KubeError."""
        return await self._patch(DELEGATIONS, ref, version, {"conditions": conditions})

    async def place(self, work: Work, place: int | None) -> Outcome:
        """Write a delegation's place in the queue, and nothing else. Raises KubeError."""
        return await self._patch(DELEGATIONS, work.ref, work.version, {"queuePosition": place})

    async def row(self, row: Row, mark: Mark) -> Outcome:
        """Mark a row as lost. Raises KubeError."""
        now = to_wire(self._clock.now())
        status = {"phase": str(mark.phase), "reason": str(mark.reason), "disconnectedTime": now}
        outcome = await self._patch(SUBSCRIPTIONS, row.ref, row.version, status)
        if outcome.written:
            log.info("session lost", agent=str(row.agent), session=row.session, reason=mark.reason)
        return outcome

    async def remove_row(self, row: Row) -> bool:
        """Delete a row unless it changed; True when there is none any more. Raises KubeError."""
        return await self._remove(SUBSCRIPTIONS, row)

    async def permission(self, record: PermissionRecord, settle: Settle) -> Outcome:
        """Write where a permission request stands. Raises KubeError."""
        status: Json = {
            "phase": str(settle.phase),
            "reason": str(settle.reason),
            "message": settle.message,
            "observedGeneration": record.generation,
        }
        if settle.phase in SETTLED:
            status["completionTime"] = to_wire(self._clock.now())
        outcome = await self._patch(PERMISSION_REQUESTS, record.ref, record.version, status)
        if outcome.written:
            log.info("permission", request=str(record.ref), phase=settle.phase, reason=settle.reason)
        return outcome

    async def remove_permission(self, record: PermissionRecord) -> bool:
        """Delete a permission request unless it changed; True when there is none any more. Raises KubeError."""
        return await self._remove(PERMISSION_REQUESTS, record)

    async def agent(self, agent: AgentRecord, status: Json) -> Outcome:
        """Write an Agent's status; coming and going is told. Raises KubeError."""
        outcome = await self._patch(AGENTS, agent.ref, agent.version, status)
        if outcome.written and online(agent.status)[0] != online(status)[0]:
            self._tell_presence(agent, *online(status))
        return outcome

    async def remove_lease(self, namespace: str, identity: str) -> None:
        """Delete the Lease of a gateway that is no more. Raises KubeError."""
        try:
            await self._kube.delete(LEASES, namespace, identity)
        except NotFound:
            log.debug("lease was gone before it could be removed", lease=identity)

    async def live_sweeper(self, ref: Ref) -> Json | None:
        """The DelegationSweeper as it is now, or None. Raises KubeError."""
        return await find(self._kube, SWEEPERS, ref.namespace, ref.name)

    async def sweeper_condition(
        self, ref: Ref, kind: ConditionType, reason: Reason, message: str, *, holds: bool
    ) -> bool:
        """Set a condition of the DelegationSweeper, then tell it; False when there is none.

        The sweep reports to the same status and carries no version, so it may write in between: then the conditions are
        read again and decided again. Raises KubeError, Conflict after the last of these.
        """
        for again in reversed(range(_CONDITION_TRIES)):
            sweeper = await self.live_sweeper(ref)
            if sweeper is None:
                log.warning("no DelegationSweeper to write a condition to", ref=str(ref), condition=kind)
                return False
            old = (sweeper.get("status") or {}).get("conditions") or []
            conditions = set_condition(old, kind, holds, reason, message, self._clock.now())
            try:
                await self._kube.patch_status(SWEEPERS, sweeper, {"conditions": conditions})
            except Conflict:
                self._metrics.conflicts.inc()
                if not again:
                    raise
                continue
            about = About("DelegationSweeper", ref, sweeper["metadata"]["uid"])
            self._recorder.say(about, reason, message, warning=holds)
            return True
        return False

    async def live_rows(self, agent: Ref) -> list[Json]:
        """The rows of one agent as they are now, by a live read. Raises KubeError."""
        listed = await self._kube.list(SUBSCRIPTIONS, agent.namespace, fieldSelector=f"spec.agentRef.name={agent.name}")
        rows: list[Json] = listed["items"]
        return rows

    async def live_delegation(self, ref: Ref) -> Json | None:
        """A Delegation as it is now, finished or not, or None. Raises KubeError."""
        async with self._slots:
            return await find(self._kube, DELEGATIONS, ref.namespace, ref.name)

    async def live_session(self, ref: Ref) -> Json | None:
        """An AgentSession as it is now, or None. Raises KubeError."""
        async with self._slots:
            return await find(self._kube, SESSIONS, ref.namespace, ref.name)

    async def has_children(self, parent: Ref) -> bool:
        """Whether any delegation of this parent is there, finished or not, by a live read. Raises KubeError."""
        selector = f"spec.parentRef.name={parent.name}"
        async for page in pages(self._kube, DELEGATIONS, parent.namespace, fieldSelector=selector):
            if any(parent_of(obj) == parent for obj in page["items"]):
                return True
        return False

    async def remove_delegation(self, finished: Finished) -> bool:
        """Delete a finished delegation unless it changed; True when that was our doing. Raises KubeError."""
        ref = finished.ref
        try:
            preconditions = {"uid": finished.uid, "resourceVersion": finished.version}
            async with self._slots:
                await self._kube.delete(DELEGATIONS, ref.namespace, ref.name, preconditions)
        except (NotFound, Conflict):
            log.debug("finished delegation was changed, or gone, before it could be deleted", delegation=str(ref))
            return False
        log.debug("finished delegation deleted", delegation=str(ref))
        return True

    async def live_agent(self, agent: Ref) -> Json | None:
        """An Agent as it is now, or None. Raises KubeError."""
        return await find(self._kube, AGENTS, agent.namespace, agent.name)

    async def _remove(self, collection: Collection, seen: Row | PermissionRecord) -> bool:
        ref, preconditions = seen.ref, {"uid": seen.uid, "resourceVersion": seen.version}
        try:
            await self._kube.delete(collection, ref.namespace, ref.name, preconditions)
        except NotFound:
            log.debug("gone before it could be removed", kind=collection.plural, ref=str(ref))
        except Conflict:
            log.debug("changed before it could be removed", kind=collection.plural, ref=str(ref))
            return False
        return True

    async def _patch(self, collection: Collection, ref: Ref, version: str, status: Json) -> Outcome:
        async with self._slots:
            return await self._patch_now(collection, ref, version, status)

    async def _patch_now(self, collection: Collection, ref: Ref, version: str, status: Json) -> Outcome:
        meta = {"metadata": {"namespace": ref.namespace, "name": ref.name, "resourceVersion": version}}
        try:
            return Outcome(await self._kube.patch_status(collection, meta, status), written=True)
        except NotFound:
            return Outcome(None, written=False)
        except Conflict:
            self._metrics.conflicts.inc()
        return Outcome(await find(self._kube, collection, ref.namespace, ref.name), written=False)

    def _tell_presence(self, agent: AgentRecord, is_online: bool, reason: str, note: str) -> None:
        log.info("agent", agent=str(agent.ref), online=is_online)
        self._recorder.say(About("Agent", agent.ref, agent.uid), reason, note, warning=not is_online)

    def _tell(self, work: Work, change: Change) -> None:
        self._metrics.changes.labels(str(change.target), str(change.reason)).inc()
        waits_still = {work.phase, change.target} == WAITING
        if change.target is work.phase or change.target in _ORDINARY or waits_still:
            # The ordinary course and why work waits stand in the status; an Event for each would cost half as much as
            # the write itself.
            return
        warning = change.target in (Phase.FAILED, Phase.CANCELLED, Phase.STUCK)
        log.info(
            "delegation", delegation=str(work.ref), agent=str(work.agent), phase=change.target, reason=change.reason
        )
        self._recorder.say(About("Delegation", work.ref, work.uid), change.reason, change.message, warning=warning)


def _status(work: Work, change: Change, now: datetime) -> Json:
    """The merge patch of a change: what was decided, and what goes with every terminal phase."""
    status: dict[str, Any] = {
        "phase": str(change.target),
        "reason": str(change.reason),
        "message": change.message,
        "observedGeneration": work.generation,
        **change.fields,
    }
    if change.target in TERMINAL:
        status["completionTime"] = to_wire(now)
        if work.position is not None:
            status["queuePosition"] = None
        status["conditions"] = _ended(work, change, now)
    return status


def _whole(conditions: list[Json], kept: list[Json], live: Json) -> list[Json]:
    """`conditions`, with those that are only kept, and not set anew, as they stand in the live object: whole."""
    stand = {c["type"]: c for c in live["status"]["conditions"]}
    return [stand.get(c["type"], c) if c in kept else c for c in conditions]


def _ended(work: Work, change: Change, now: datetime) -> list[Json]:
    conditions = set_condition(
        work.conditions, ConditionType.FINISHED, True, str(change.reason), change.message, now, work.generation
    )
    more = {Phase.CANCELLED: ConditionType.CANCEL_REQUESTED, Phase.COMPLETED: ConditionType.COMPLETE}.get(change.target)
    if more is None:
        return conditions
    return set_condition(conditions, more, True, str(change.reason), change.message, now, work.generation)
