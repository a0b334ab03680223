"""One agent at a time: mark its dead rows, end its orphans, offer its queue, tell its status."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from belay_api.names import Ref
from belay_api.reasons import Reason
from belay_api.transitions import ACTIVE, HELD, WAITING, Phase
from belay_kube.clock import Clock
from belay_kube.logs import about
from belay_operator.apply import Applier
from belay_operator.crowds import Crowds
from belay_operator.decisions import agentstatus, dispatch, fate, lineage, rows
from belay_operator.decisions.retry import backs_off_until
from belay_operator.decisions.view import Change
from belay_operator.delegations import Delegations
from belay_operator.keys import Key, KeyKind
from belay_operator.lagging import Lagging
from belay_operator.observe.mailbox_records import Spent
from belay_operator.observe.presence_records import Row
from belay_operator.observe.records import AgentRecord, Work
from belay_operator.observe.views import Gatherer
from belay_operator.places import Places
from belay_operator.queues import after
from belay_operator.seen import Seen
from belay_operator.telling import Telling

_DEAD_GATEWAY_SECONDS = 600.0
_COUNT_SECONDS = 1.0
"""At most one count of all rows in this time."""

Retry = Callable[[Key, Exception], None]


class Agents:
    """What concerns an agent as a whole; only one worker at a time is at one agent, so that slots are counted right."""

    def __init__(
        self, seen: Seen, gatherer: Gatherer, applier: Applier, delegations: Delegations, clock: Clock, retry: Retry
    ) -> None:
        self._seen = seen
        self._gatherer = gatherer
        self._applier = applier
        self._delegations = delegations
        self._clock = clock
        self._retry = retry
        self._counted_at = float("-inf")
        self._telling = Telling(clock)
        self._places = Places(clock)
        self._lagging = Lagging(clock)
        self._crowds = Crowds(clock)

    async def tend(self, agent: Ref) -> None:
        """Bring everything of one agent up to date. Raises KubeError."""
        later = self._crowds.rest(agent, self._seen.index)
        if later is not None:
            self._again(agent, later)
            return
        await self._tend_rows(agent)
        await self._end_orphans(agent)
        queue = await self._dispatch(agent)
        await self._number(agent, queue)
        await self._tell(agent)
        self._gatherer.tidy(agent)

    # --- rows ---

    async def _tend_rows(self, agent: Ref) -> None:
        view, now = self._gatherer.view(agent), self._clock.now()
        decided = [(facts.row, rows.fate(facts, view, now)) for facts in self._gatherer.row_facts(agent)]
        # An agent may have thousands of rows, and next to all of them are kept: no step is made for these.
        await self._each(agent, [self._end_row(row, end) for row, end in decided if not isinstance(end, rows.Keep)])
        waits = [kept.seconds for _, kept in decided if isinstance(kept, rows.Keep) and kept.seconds is not None]
        if waits:
            self._again(agent, min(waits))

    async def _end_row(self, row: Row, end: rows.Mark | rows.Remove) -> None:
        with about(agent=row.agent, session=row.session):
            if isinstance(end, rows.Mark):
                await self._mark_row(row, end)
            elif await self._applier.remove_row(row):
                self._seen.gone_row(row.ref)

    async def _mark_row(self, row: Row, mark: rows.Mark) -> None:
        outcome = await self._applier.row(row, mark)
        if outcome.obj is None:
            self._seen.gone_row(row.ref)
        else:
            self._seen.saw_row(Row.read(outcome.obj))

    # --- orphans ---

    async def _end_orphans(self, agent: Ref) -> None:
        """Work whose session or agent is gone, decided on a live read of the rows (DESIGN.md section 3)."""
        view = self._gatherer.view(agent)
        if view.exists and view.routable and all(s.live for s in view.sessions.values()):
            return
        if self._doomed(agent):
            self._notice_losses()
            await self._read_live(agent)
            await self._each(agent, [self._delegations.write(work, change) for work, change in self._doomed(agent)])
        view = self._gatherer.view(agent)
        for work in self._seen.index.work_of(agent, HELD):
            self._delegations.remind(work, view)

    def _doomed(self, agent: Ref) -> list[tuple[Work, Change]]:
        view, now = self._gatherer.view(agent), self._clock.now()
        found = [(work, fate.decide(work, view, now)) for work in self._seen.index.work_of(agent, HELD)]
        return [(work, change) for work, change in found if change and change.live_read]

    def _notice_losses(self) -> None:
        """Before anything is ended for good: were most lost at once? Rows may be stale that are not yet marked."""
        now = self._clock.monotonic()
        if now >= self._counted_at + _COUNT_SECONDS:
            self._counted_at = now
            if self._gatherer.notice_stale():
                self._seen.brake_turned()

    async def _read_live(self, agent: Ref) -> None:
        there = [Row.read(obj) for obj in await self._applier.live_rows(agent)]
        for row in there:
            self._seen.saw_row(row)
        for ref in {row.ref for row in self._seen.index.rows_of(agent)} - {row.ref for row in there}:
            self._seen.gone_row(ref)
        if agent not in self._seen.index.agents:
            await self._find(agent)

    async def _find(self, agent: Ref) -> bool:
        """Read an agent live: one that was never seen, or has changed, may only not have been heard of yet."""
        found = await self._applier.live_agent(agent)
        if found:
            self._seen.saw_agent(AgentRecord.read(found))
        return found is not None

    # --- queue ---

    async def _dispatch(self, agent: Ref) -> list[Ref]:
        """Offer what can be offered, tell the others why not; returns who waited, in order."""
        index = self._seen.index
        waiting = self._waiting(agent)
        if agent not in index.agents and any(work.reason != Reason.AGENT_NOT_FOUND for work in waiting):
            await self._find(agent)
        known = agent in index.agents
        waiting = await self._admitted(agent, waiting)
        if known != (agent in index.agents):
            # Whether it may work below itself was asked of another state of things: everything anew (D6).
            self._seen.look_at(agent)
            return []
        if not waiting:
            self._lagging.due(agent, [])
            return []
        now = self._clock.now()
        for until in filter(None, (backs_off_until(work, now) for work in waiting)):
            self._again(agent, (until - now).total_seconds())
        queue = dispatch.in_order(waiting, now)
        changes = self._plan(agent, queue)
        if any(change.live_read for _, change in changes):
            # Refused for good because of what the agent is: not before it was read live (DESIGN.md section 3).
            await self._find(agent)
            changes = self._plan(agent, queue)
        due, later = self._lagging.due(agent, changes)
        if later is not None:
            self._again(agent, later)
        await self._each(agent, [self._delegations.write(work, change) for work, change in due])
        return [work.ref for work in queue]

    def _plan(self, agent: Ref, queue: list[Work]) -> list[tuple[Work, Change]]:
        active = self._seen.index.count(agent, ACTIVE)
        return dispatch.plan(queue, active, self._gatherer.view(agent), self._clock.now(), self._unfit(agent))

    async def _admitted(self, agent: Ref, waiting: list[Work]) -> list[Work]:
        """Those that have been taken up, or fit below their ancestors; the others are told why not (D6)."""
        fit = [work for work in waiting if not lineage.is_newborn(work)]

        async def admit(work: Work) -> None:
            admitted = await self._delegations.families.admit(work)
            if isinstance(admitted, Change) and admitted.live_read:
                unsure.append(work)
            else:
                await take(work, admitted)

        async def take(work: Work, admitted: Work | Change) -> None:
            match admitted:
                case Work() as limited:
                    fit.append(limited)
                case Change() as change if not lineage.told_already(work, change):
                    await self._delegations.write(work, change)

        async def admit_surely(work: Work) -> None:
            await take(work, await self._delegations.families.admit(work))

        unsure: list[Work] = []
        await self._each(agent, [admit(work) for work in waiting if lineage.is_newborn(work)])
        if unsure and await self._find(agent):
            # One live read of the agent for all that would be refused for good because of it (DESIGN.md section 3).
            await self._each(agent, [admit_surely(work) for work in unsure])
        return fit

    def _waiting(self, agent: Ref) -> list[Work]:
        return [work for work in self._seen.index.work_of(agent, WAITING) if _waits(work)]

    def _unfit(self, agent: Ref) -> set[str]:
        """Sessions with Stuck work, and those of which their gateway says so: ended work isn't seen here any more."""
        stuck = [work for work in self._seen.index.work_of(agent, (Phase.STUCK,)) if work.handed_back is None]
        owing = [row.session for row in self._seen.index.rows_of(agent) if row.unresponsive]
        return {*owing, *(work.holder for work in stuck if work.holder)}

    async def _number(self, agent: Ref, queue: list[Ref]) -> None:
        """Write the places that changed and are due, and come again for the others; `queue` as it was a moment ago."""
        there = (self._seen.index.work.get(ref) for ref in queue)
        due, later = self._places.due(agent, [work for work in there if work and _waits(work)])
        if later is not None:
            self._again(agent, later)
        await self._each(agent, [self._delegations.place(work, place) for work, place in due])

    # --- status ---

    async def _tell(self, agent: Ref) -> None:
        index = self._seen.index
        record = index.agents.get(agent)
        if record is None:
            self._telling.gone(agent)
            return
        counts = index.count(agent, ACTIVE), index.count(agent, WAITING)
        view = self._gatherer.view(agent)
        spent = self._spent(agent) if view.is_model else agentstatus.Conversations()
        status = agentstatus.desired(record.status, view, record.generation, *counts, self._clock.now(), spent)
        if status is None:
            self._telling.same(agent)
            return
        wait = self._telling.wait(agent, counts_only=agentstatus.only_counts(record.status, status, view))
        if wait > 0:
            self._again(agent, wait)
        else:
            await self._write_status(record, status)

    def _spent(self, agent: Ref) -> agentstatus.Conversations:
        sessions = self._seen.mailboxes.of_agent(agent)
        spent = Spent(*map(sum, zip(*(session.usage for session in sessions), strict=True)))
        return agentstatus.Conversations(len(sessions), spent.usage)

    async def _write_status(self, record: AgentRecord, status: dict[str, Any]) -> None:
        self._telling.told(record.ref)
        outcome = await self._applier.agent(record, status)
        if outcome.obj:
            self._seen.index.put_agent(AgentRecord.read(outcome.obj))
        if not outcome.written:
            self._seen.look_at(record.ref)

    # --- gateways ---

    async def remove_dead_gateways(self, namespace: str) -> None:
        """Delete the Leases of gateways that ended or are long silent, once no row names them. Raises KubeError."""
        presence = self._seen.presence
        for lease in presence.leases():
            ended = lease.released or presence.lease_age(lease.identity) > _DEAD_GATEWAY_SECONDS
            if ended and not presence.blind() and not self._seen.index.agents_served_by(lease.identity):
                await self._applier.remove_lease(namespace, lease.identity)

    # --- helpers ---

    def _again(self, agent: Ref, seconds: float) -> None:
        self._seen.timers.sooner(Key(KeyKind.AGENT, agent), after(self._clock.now(), seconds))

    async def _each(self, agent: Ref, steps: list[Coroutine[Any, Any, object]]) -> None:
        """Take every step, side by side; one that fails is tried again and doesn't stop the others (S7)."""
        for result in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(result, Exception):
                self._retry(Key(KeyKind.AGENT, agent), result)
            elif isinstance(result, BaseException):
                raise result


def _waits(work: Work) -> bool:
    """Whether it is in the queue, and is to stay there."""
    return work.phase in WAITING and not work.cancel_wanted and work.handed_back is None
