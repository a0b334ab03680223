"""What was seen, and what is to be looked at because of it: every change of the cluster enters here, as a record."""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from belay_api.agent import Runtime
from belay_api.names import Ref, subscription_name
from belay_api.permissionrequest import SETTLED
from belay_api.timing import Times
from belay_api.transitions import HELD, LIVE, WAITING
from belay_kube.clock import Clock
from belay_operator.keys import FLEET, Key, KeyKind
from belay_operator.metrics import Metrics
from belay_operator.observe.index import Index
from belay_operator.observe.kinship import session_key
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord
from belay_operator.observe.mailboxes import Mailboxes
from belay_operator.observe.permissions import PermissionIndex, PermissionRecord
from belay_operator.observe.presence import Presence
from belay_operator.observe.presence_records import GatewayLease, Row
from belay_operator.observe.records import AgentRecord, Json, Work
from belay_operator.queues import TimeQueue, WorkQueue

log = structlog.get_logger(__name__)


class Seen:
    """Index, presence and the two queues, kept in step with each other."""

    def __init__(self, index: Index, presence: Presence, clock: Clock, metrics: Metrics) -> None:
        self.index = index
        self.presence = presence
        self.permissions = PermissionIndex()
        self.mailboxes = Mailboxes(clock, lambda ref: self.look_at_sessions([ref]))
        self.queue: WorkQueue[Key] = WorkQueue(self._is_minor)
        self.timers: TimeQueue[Key] = TimeQueue(clock, self.queue.add)
        self.on_ended: Callable[[Work], None] = lambda _: None
        """Told of each delegation that ended, as it was last seen; one deleted by hand looks the same to a watch."""
        self.on_parent: Callable[[Ref], None] = lambda _: None
        """Told of each delegation that another was seen below."""
        self.on_gap: Callable[[], None] = lambda: None
        """Told when the watch of delegations is back: what came and ended meanwhile was never seen."""
        self._metrics = metrics
        self._complete = asyncio.Event()

    def _is_minor(self, key: Key) -> bool:
        """What only tidies up: nobody waits for the deletion of what is finished."""
        if key.kind is KeyKind.PERMISSION:
            record = self.permissions.held.get(key.ref)
            return record is not None and record.phase in SETTLED
        return key.kind is KeyKind.ENDED

    def lost_contact(self, cause: str) -> None:
        """A reader lost contact: nothing missing may be taken for gone."""
        self.presence.contact_lost(cause)

    def found_contact(self, cause: str) -> None:
        """A reader has contact (again)."""
        if self.presence.contact(cause):
            self.sighted()

    # --- what to look at ---

    def complete(self) -> None:
        """Everything there is has been seen once: decisions may begin."""
        if not self._complete.is_set():
            self._complete.set()
            self.look_at_all()

    @property
    def is_complete(self) -> bool:
        """Whether everything there is has been seen once."""
        return self._complete.is_set()

    async def until_complete(self) -> None:
        """Wait until everything there is has been seen once."""
        await self._complete.wait()

    def look_at(self, agent: Ref) -> None:
        """Look at one agent."""
        self.queue.add(Key(KeyKind.AGENT, agent))

    def look_at_all(self) -> None:
        """Look at every agent and every delegation again."""
        for agent in self.index.known_agents():
            self.look_at(agent)
        for work in self.index.work:
            self.queue.add(Key(KeyKind.WORK, work))
        self.look_at_sessions(self.mailboxes.sessions)

    def sighted(self) -> None:
        """A blind time ended: every grace starts anew, so everything is looked at again."""
        log.info("presence is observed anew", since=self.presence.sighted_since().isoformat())
        self.look_at_all()

    def times_changed(self, times: Times) -> None:
        """The installation's times changed."""
        if times != self.index.times:
            self.index.times = times
            self.index.changes += 1
            self.look_at_all()

    def brake_turned(self) -> None:
        """The brake was set, or released: every grace ends at another time now."""
        self.index.changes += 1
        self.queue.add(FLEET)
        self.look_at_all()

    # --- delegations ---

    def saw_work(self, work: Work) -> None:
        """A delegation, as it is now."""
        old = self.index.put_work(work)
        self._metrics.in_flight.set(len(self.index.work))
        if self.index.work.get(work.ref) is not work:
            # It ended, or a newer view is held: what that asked for has been asked for.
            if old and work.phase not in LIVE:
                self.look_at(work.agent)
                self._ended(work, before=old)
            return
        self.queue.add(Key(KeyKind.WORK, work.ref))
        if old is None:
            self._look_below(work.ref)
            if work.parent:
                self.on_parent(work.parent)
        if old is None or old.phase is not work.phase:
            self.look_at_sessions(self._sessions_with(work, old))
        if work.session and not self._is_model(work.agent) and not self._has_row(work.agent, work.session):
            self.presence.note_missing(work.agent, work.session)
        if old is None or old.phase is not work.phase or old.priority != work.priority or work.phase in WAITING:
            self.look_at(work.agent)

    def _is_model(self, agent: Ref) -> bool:
        record = self.index.agents.get(agent)
        return record is not None and record.runtime is Runtime.MODEL

    def _has_row(self, agent: Ref, session: str) -> bool:
        return self.index.row(Ref(agent.namespace, subscription_name(agent.name, session))) is not None

    def gone_work(self, ref: Ref, version: str | None = None) -> None:
        """A delegation ended, or was deleted, at `version`; None: it isn't there."""
        old = self.index.drop_work(ref, version)
        if old:
            # Looked at once more instead: what failed of it is over.
            self.timers.drop(Key(KeyKind.WORK, ref))
            self.queue.add(Key(KeyKind.WORK, ref))
            self.look_at(old.agent)
            # Without a version it was asked for by name and isn't there: nothing is left that has a time to live.
            self._ended(old, is_there=version is not None)

    def answered_work(self, ref: Ref, obj: Json | None) -> None:
        """A delegation as the API server answered just now; None: it isn't there."""
        if obj is None:
            self.gone_work(ref)
        else:
            self.saw_work(Work.read(obj))

    def _ended(self, work: Work, *, is_there: bool = True, before: Work | None = None) -> None:
        if is_there:
            self.on_ended(work)
        for ref in self.permissions.of_delegation(work.ref):
            self.queue.add(Key(KeyKind.PERMISSION, ref))
        self.look_at_sessions(self._sessions_with(work, before))
        self._look_below(work.ref)

    def _look_below(self, ancestor: Ref) -> None:
        """What is below `ancestor`, which came or ended, is looked at: it may have waited, or be cut off."""
        self.index.kinship.heard_of(ancestor)
        for ref in self.index.kinship.below(ancestor):
            self.queue.add(Key(KeyKind.WORK, ref))
            work = self.index.work.get(ref)
            if work and work.phase in WAITING:
                self.look_at(work.agent)

    # --- permission requests ---

    def saw_permission(self, record: PermissionRecord) -> None:
        """A permission request, as it is now."""
        if self.permissions.put(record):
            self.queue.add(Key(KeyKind.PERMISSION, record.ref))
            self.look_at_sessions(self.mailboxes.waiting_for(record.ref))

    def gone_permission(self, ref: Ref, version: str | None = None) -> None:
        """A permission request was deleted, at `version`."""
        self.permissions.drop(ref, version)
        self.queue.add(Key(KeyKind.PERMISSION, ref))
        self.look_at_sessions(self.mailboxes.waiting_for(ref))

    # --- sessions of Model agents and their mail ---

    def look_at_sessions(self, sessions: Iterable[Ref]) -> None:
        """Look at sessions, there or not."""
        for ref in sessions:
            self.queue.add(Key(KeyKind.SESSION, ref))

    def saw_session(self, record: SessionRecord) -> None:
        """A session, as it is now."""
        old = self.mailboxes.sessions.get(record.ref)
        if self.mailboxes.put_session(record) is not record:
            return
        self.look_at_sessions([record.ref])
        if old is None:
            self._look_below(session_key(record.ref))
        if old is None or old.usage != record.usage:
            self.look_at(record.agent)

    def gone_session(self, ref: Ref, version: str | None = None) -> None:
        """A session was deleted, at `version`."""
        old = self.mailboxes.drop_session(ref, version)
        self.look_at_sessions([ref])
        if old:
            self.look_at(old.agent)
            self._look_below(session_key(ref))
            for work in self.index.work_of(old.agent, HELD):
                if work.holder == ref.name:
                    self.queue.add(Key(KeyKind.WORK, work.ref))

    def saw_message(self, record: MessageRecord) -> None:
        """A message in a mailbox, as it is now."""
        if self.mailboxes.put_message(record):
            self.look_at_sessions([record.session])

    def gone_message(self, ref: Ref, version: str | None = None) -> None:
        """A message was deleted, at `version`."""
        old = self.mailboxes.drop_message(ref, version)
        if old:
            self.look_at_sessions([old.session])
            if old.delegation:
                self.queue.add(Key(KeyKind.WORK, Ref(ref.namespace, old.delegation)))

    def _sessions_with(self, work: Work, before: Work | None = None) -> set[Ref]:
        """Sessions of Model agents that work on a delegation, or wait for its end; and who held it `before`: its prompt
        may be there still."""
        holders = {Ref(one.ref.namespace, one.holder) for one in (work, before) if one and one.holder}
        return self.mailboxes.waiting_for(work.ref) | (holders & self.mailboxes.sessions.keys())

    # --- agents ---

    def saw_agent(self, agent: AgentRecord) -> None:
        """An Agent, as it is now."""
        old = self.index.agents.get(agent.ref)
        if self.index.put_agent(agent) and (old is None or (old.uid, old.generation) != (agent.uid, agent.generation)):
            self.look_at(agent.ref)
            self._look_at_mailboxes(agent.ref)
            for work in self.index.work_of(agent.ref, LIVE):
                self.queue.add(Key(KeyKind.WORK, work.ref))

    def gone_agent(self, ref: Ref, version: str | None = None) -> None:
        """An Agent was deleted, at `version`."""
        if self.index.drop_agent(ref, version):
            self.look_at(ref)
            self._look_at_mailboxes(ref)

    def _look_at_mailboxes(self, agent: Ref) -> None:
        self.look_at_sessions(session.ref for session in self.mailboxes.of_agent(agent))

    # --- rows and gateways ---

    def saw_row(self, row: Row) -> None:
        """A row, as it is now; a mere renewal changes nothing to be decided."""
        self.presence.row_seen(row)
        old = self.index.row(row.ref)
        self.index.put_row(row)
        if old is None or old.told != row.told:
            self.look_at(row.agent)
        if self.index.row(row.ref) is row and self.presence.fleet.saw(row):
            self.brake_turned()

    def gone_row(self, ref: Ref, version: str | None = None) -> None:
        """A row was deleted, at `version`."""
        row = self.index.drop_row(ref, version)
        if row:
            self.presence.row_gone(row)
            self.presence.fleet.gone(row.ref)
            self.look_at(row.agent)

    def saw_lease(self, lease: GatewayLease) -> None:
        """A gateway's Lease, as it is now; a released one ends its rows."""
        if self.presence.lease_seen(lease):
            self.sighted()
        if lease.released:
            for agent in self.index.agents_served_by(lease.identity):
                self.look_at(agent)
