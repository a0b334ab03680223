"""Observe, decide, apply: keys come from what was seen and from the time queue, workers take them one by one.

work/NS/NAME    one delegation: its deadline, a wanted cancel, silence
agent/NS/NAME   one agent: its rows, its orphans, its queue, its status
"""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import structlog

from belay_api.names import Ref, subscription_name
from belay_api.reasons import Reason
from belay_api.timing import Times
from belay_api.transitions import ACTIVE, HELD, LIVE, WAITING, Phase
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, Temporary
from belay_operator.apply import Applier, Outcome
from belay_operator.decisions import agentstatus, dispatch, fate, rows
from belay_operator.decisions.view import AgentView, Change
from belay_operator.metrics import Metrics
from belay_operator.observe.index import Index
from belay_operator.observe.presence import Presence
from belay_operator.observe.records import AgentRecord, GatewayLease, Json, Row, Work
from belay_operator.observe.views import Gatherer
from belay_operator.queues import TimeQueue, WorkQueue, after

log = structlog.get_logger(__name__)

_STATUS_SECONDS = 1.0
"""At most one status write an agent in this time (DESIGN.md section 9)."""
_RETRY_SECONDS = 2.0
_DEAD_GATEWAY_SECONDS = 600.0


class KeyKind(StrEnum):
    """What a key names."""

    WORK = "work"
    AGENT = "agent"


class Key(NamedTuple):
    """One thing to look at."""

    kind: KeyKind
    ref: Ref


class Engine:
    """The loop of the operator. Knows nothing of kopf; time and writes come from outside."""

    def __init__(self, index: Index, presence: Presence, applier: Applier, clock: Clock, metrics: Metrics) -> None:
        self.index = index
        self.presence = presence
        self._applier = applier
        self._clock = clock
        self._metrics = metrics
        self._gatherer = Gatherer(index, presence, clock)
        self.queue: WorkQueue[Key] = WorkQueue()
        self.timers: TimeQueue[Key] = TimeQueue(clock, self.queue.add)
        self._status_at: dict[Ref, float] = {}
        self._open = asyncio.Event()
        self._deadline_failures = self._stuck_marked = self._errors = 0

    # --- running ---

    async def run(self, workers: int) -> None:
        """Work on keys until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.timers.run(), name="time queue")
            for number in range(workers):
                group.create_task(self._worker(), name=f"worker {number}")

    def open(self) -> None:
        """Everything there is has been seen once: begin to decide."""
        if not self._open.is_set():
            self._open.set()
            self.look_at_all()

    @property
    def is_open(self) -> bool:
        """Whether everything there is has been seen once."""
        return self._open.is_set()

    def look_at_all(self) -> None:
        """Look at every agent and every delegation again."""
        for agent in self.index.known_agents():
            self.queue.add(Key(KeyKind.AGENT, agent))
        for work in self.index.work:
            self.queue.add(Key(KeyKind.WORK, work))

    def look_at(self, agent: Ref) -> None:
        """Look at one agent."""
        self.queue.add(Key(KeyKind.AGENT, agent))

    async def _worker(self) -> None:
        await self._open.wait()
        while True:
            key = await self.queue.take()
            try:
                await self._work_on(key)
            finally:
                self.queue.done(key)

    async def _work_on(self, key: Key) -> None:
        """Work on one key; what goes wrong is logged, counted and tried again, and ends nothing else (S7)."""
        try:
            await (self.judge(key.ref) if key.kind is KeyKind.WORK else self._one_agent(key.ref))
        except Exception as error:  # noqa: BLE001 - S7: one key must not end the others
            self._again(key, error)

    def _again(self, key: Key, error: Exception) -> None:
        delay = error.delay if isinstance(error, Temporary) else None
        expected = isinstance(error, KubeError)
        self._metrics.errors.labels(str(key.kind)).inc()
        self._errors += 1
        log.warning(
            "will try again", key=key.kind, ref=str(key.ref), error=str(error), exc_info=None if expected else error
        )
        self.timers.sooner(key, after(self._clock.now(), delay or _RETRY_SECONDS))

    # --- one delegation ---

    async def judge(self, ref: Ref) -> Change | None:
        """Decide on one delegation and write it; returns the change if it was written. Raises KubeError."""
        work = self.index.work.get(ref)
        if work is None:
            self.timers.drop(Key(KeyKind.WORK, ref))
            return None
        view = self._gatherer.view(work.agent)
        change = fate.decide(work, view, self._clock.now())
        if change is None:
            self._remind(work, view)
        elif change.live_read:
            # Rests on the agent and its rows: decided once for all of them, on one live read.
            self.look_at(work.agent)
        else:
            return change if (await self._write(work, change)).written else None
        return None

    def _remind(self, work: Work, view: AgentView) -> None:
        due = fate.next_due(work, view)
        now = self._clock.now()
        # Overdue but unchanged: held back by blind time, whose end looks at everything again.
        self.timers.set(Key(KeyKind.WORK, work.ref), due if due > now else now + timedelta(seconds=_RETRY_SECONDS))

    async def _write(self, work: Work, change: Change) -> Outcome:
        outcome = await self._applier.delegation(work, change)
        if outcome.written:
            self._count(work, change)
        self._saw_work(work.ref, outcome.obj)
        return outcome

    def _count(self, work: Work, change: Change) -> None:
        if change.reason is Reason.DEADLINE_EXCEEDED:
            self._deadline_failures += 1
            due = work.deadline(self.index.times_of(work.agent))
            self._metrics.lateness.observe((self._clock.now() - due).total_seconds())
        self._stuck_marked += change.reason is Reason.NO_HEARTBEAT

    def totals(self) -> dict[str, int]:
        """What both paths did since the start, for DelegationSweeper.status.totals (S9)."""
        return {
            "deadlineFailures": self._deadline_failures,
            "stuckMarked": self._stuck_marked,
            "errors": self._errors,
        }

    def _saw_work(self, ref: Ref, obj: Json | None) -> None:
        if obj is None:
            self.gone_work(ref)
        else:
            self.saw_work(Work.read(obj))

    def saw_work(self, work: Work) -> None:
        """A delegation, as it is now."""
        old = self.index.put_work(work)
        self._metrics.in_flight.set(len(self.index.work))
        if work.phase in LIVE:
            self.queue.add(Key(KeyKind.WORK, work.ref))
        if work.session and not self._has_row(work.agent, work.session):
            self.presence.note_missing(work.agent, work.session)
        if old is None or old.phase is not work.phase or old.priority != work.priority or work.phase in WAITING:
            self.look_at(work.agent)

    def _has_row(self, agent: Ref, session: str) -> bool:
        return self.index.row(Ref(agent.namespace, subscription_name(agent.name, session))) is not None

    def gone_work(self, ref: Ref) -> None:
        """A delegation ended, or was deleted."""
        old = self.index.drop_work(ref)
        self.timers.drop(Key(KeyKind.WORK, ref))
        if old:
            self.look_at(old.agent)

    # --- one agent ---

    async def _one_agent(self, ref: Ref) -> None:
        await self._tend_rows(ref)
        await self._end_orphans(ref)
        await self._dispatch(ref)
        await self._tell_status(ref)
        self._gatherer.tidy(ref)

    async def _tend_rows(self, agent: Ref) -> None:
        view = self._gatherer.view(agent)
        await self._each(agent, [self._tend_row(row, view) for row in self.index.rows_of(agent)])

    async def _tend_row(self, row: Row, view: AgentView) -> None:
        what = rows.fate(self._gatherer.row_facts(row), view, self._clock.now())
        match what:
            case rows.Mark():
                outcome = await self._applier.row(row, what)
                self._saw_row(row, outcome.obj)
                self.look_at(row.agent)
            case rows.Remove():
                await self._applier.remove_row(row)
            case rows.Keep(seconds=float() | int() as seconds):
                self.timers.sooner(Key(KeyKind.AGENT, row.agent), after(self._clock.now(), seconds))
            case _:
                return

    def _saw_row(self, row: Row, obj: Json | None) -> None:
        if obj is None:
            self.index.drop_row(row.ref)
        else:
            self.index.put_row(Row.read(obj))

    async def _end_orphans(self, agent: Ref) -> None:
        """Work whose session or agent is gone, decided on a live read of the rows (DESIGN.md section 3)."""
        view = self._gatherer.view(agent)
        if view.exists and view.routable and all(s.live for s in view.sessions.values()):
            return
        if self._doomed(agent):
            await self._read_live(agent)
            await self._each(agent, [self._write(work, change) for work, change in self._doomed(agent)])
        self._remind_held(agent)

    def _doomed(self, agent: Ref) -> list[tuple[Work, Change]]:
        view, now = self._gatherer.view(agent), self._clock.now()
        found = [(work, fate.decide(work, view, now)) for work in self.index.work_of(agent, HELD)]
        return [(work, change) for work, change in found if change and change.live_read]

    async def _read_live(self, agent: Ref) -> None:
        there = [Row.read(obj) for obj in await self._applier.live_rows(agent)]
        for row in there:
            self.saw_row(row)
        for ref in {row.ref for row in self.index.rows_of(agent)} - {row.ref for row in there}:
            self.gone_row(ref)
        if agent not in self.index.agents and (found := await self._applier.live_agent(agent)):
            self.index.put_agent(AgentRecord.read(found))

    def _remind_held(self, agent: Ref) -> None:
        view = self._gatherer.view(agent)
        for work in self.index.work_of(agent, HELD):
            self._remind(work, view)

    async def _dispatch(self, agent: Ref) -> None:
        waiting = [w for w in self.index.work_of(agent, WAITING) if not w.cancel_wanted]
        if not waiting:
            return
        active = self.index.count(agent, ACTIVE)
        changes = dispatch.plan(waiting, active, self._gatherer.view(agent), self._clock.now())
        await self._each(agent, [self._write(work, change) for work, change in changes])

    async def _each(self, agent: Ref, steps: list[Coroutine[Any, Any, object]]) -> None:
        """Take every step, side by side; one that fails is tried again and doesn't stop the others (S7)."""
        for result in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(result, Exception):
                self._again(Key(KeyKind.AGENT, agent), result)
            elif isinstance(result, BaseException):
                raise result

    async def _tell_status(self, agent: Ref) -> None:
        record = self.index.agents.get(agent)
        if record is None:
            return
        counts = self.index.count(agent, ACTIVE), self.index.count(agent, {Phase.QUEUED, Phase.PENDING})
        view = self._gatherer.view(agent)
        status = agentstatus.desired(record.status, view, record.generation, *counts, self._clock.now())
        if status is None:
            return
        wait = self._status_at.get(agent, float("-inf")) + _STATUS_SECONDS - self._clock.monotonic()
        if wait > 0:
            self.timers.sooner(Key(KeyKind.AGENT, agent), after(self._clock.now(), wait))
            return
        self._status_at[agent] = self._clock.monotonic()
        outcome = await self._applier.agent(record, status)
        if outcome.obj:
            self.index.put_agent(AgentRecord.read(outcome.obj))
        if not outcome.written:
            self.look_at(agent)

    # --- what was seen ---

    def saw_agent(self, agent: AgentRecord) -> None:
        """An Agent, as it is now."""
        old = self.index.agents.get(agent.ref)
        if self.index.put_agent(agent) and (old is None or old.generation != agent.generation):
            self.look_at(agent.ref)
            for work in self.index.work_of(agent.ref, LIVE):
                self.queue.add(Key(KeyKind.WORK, work.ref))

    def gone_agent(self, ref: Ref) -> None:
        """An Agent was deleted."""
        if self.index.agents.pop(ref, None):
            self._status_at.pop(ref, None)
            self.look_at(ref)

    def saw_row(self, row: Row) -> None:
        """A row, as it is now; a mere renewal changes nothing to be decided."""
        self.presence.row_seen(row)
        old = self.index.row(row.ref)
        self.index.put_row(row)
        if old is None or (old.phase, old.token, old.reason) != (row.phase, row.token, row.reason):
            self.look_at(row.agent)

    def gone_row(self, ref: Ref) -> None:
        """A row was deleted."""
        row = self.index.drop_row(ref)
        if row:
            self.presence.row_gone(row)
            self.look_at(row.agent)

    def saw_lease(self, lease: GatewayLease) -> None:
        """A gateway's Lease, as it is now; a released one ends its rows."""
        if self.presence.lease_seen(lease):
            self.sighted()
        if lease.released:
            for agent in self.index.agents_served_by(lease.identity):
                self.look_at(agent)

    def sighted(self) -> None:
        """A blind time ended: every grace starts anew, so everything is looked at again."""
        log.info("presence is observed anew", since=self.presence.sighted_since().isoformat())
        self.look_at_all()

    def times_changed(self, times: Times) -> None:
        """The installation's times changed."""
        if times != self.index.times:
            self.index.times = times
            self.look_at_all()

    def resync(self, agents: list[AgentRecord], version: str, rows: list[Row]) -> None:
        """Every Agent (as of `version`) and row, by a list: what the watches missed is made good."""
        known = {ref for ref, agent in self.index.agents.items() if int(agent.version) <= int(version)}
        for ref in known - {agent.ref for agent in agents}:
            self.gone_agent(ref)
        for agent in agents:
            self.saw_agent(agent)
        for row in rows:
            self.saw_row(row)

    async def remove_dead_gateways(self, namespace: str) -> None:
        """Delete the Leases of gateways that ended or are long silent, once no row names them. Raises KubeError."""
        for lease in self.presence.leases():
            ended = lease.released or self.presence.lease_age(lease.identity) > _DEAD_GATEWAY_SECONDS
            if ended and not self.presence.blind() and not self.index.agents_served_by(lease.identity):
                await self._applier.remove_lease(namespace, lease.identity)
