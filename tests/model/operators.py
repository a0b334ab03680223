"""The operator as an actor: its engine, decisions and writes are the real ones; what it sees, and when, is a step."""

from collections.abc import Iterable
from enum import StrEnum

from belay_api.names import Ref
from belay_api.timing import Times
from belay_kube.client import AGENTS, DELEGATIONS, SUBSCRIPTIONS
from belay_kube.clock import Clock
from belay_operator import relisted
from belay_operator.apply import Applier
from belay_operator.engine import Engine
from belay_operator.events import Recorder
from belay_operator.metrics import Metrics
from belay_operator.observe.index import Index
from belay_operator.observe.presence import Presence
from belay_operator.observe.presence_records import GatewayLease, Row
from belay_operator.observe.records import AgentRecord, Work
from belay_operator.seen import Seen
from belay_operator.sweep import UNFINISHED

from .connection import Connection

TIMES = Times(stuck_threshold=40)
_METRICS = Metrics()
_MOST_KEYS = 500


class Sight(StrEnum):
    """What a watch of the operator brings it."""

    AGENTS = "agents"
    ROWS = "rows"
    WORK = "work"
    LEASES = "leases"


class OperatorActor:
    """One operator process, from its start to its crash."""

    def __init__(self, connection: Connection, clock: Clock, namespace: str) -> None:
        self.connection = connection
        self._namespace = namespace
        self._presence = Presence(clock, TIMES.stale_after)
        self._seen = Seen(Index(TIMES), self._presence, clock, _METRICS)
        recorder = Recorder(connection, clock, "operator", _METRICS)
        applier = Applier(connection, clock, recorder, _METRICS)
        self._engine = Engine(self._seen, applier, clock, _METRICS, Ref("belay", "default"))

    async def start(self, leases: Iterable[GatewayLease]) -> None:
        """See everything once, as at a start. Raises KubeError."""
        for sight in Sight:
            await self.see(sight, leases)
        self._seen.found_contact("start")
        self._seen.complete()

    async def see(self, sight: Sight, leases: Iterable[GatewayLease]) -> None:
        """One watch catches up; the others stay as far behind as they are. Raises KubeError."""
        match sight:
            case Sight.LEASES:
                for lease in leases:
                    self._seen.saw_lease(lease)
            case Sight.AGENTS:
                listed = await self.connection.list(AGENTS, self._namespace)
                agents = [AgentRecord.read(obj) for obj in listed["items"]]
                relisted.resync_agents(self._seen, agents, listed["metadata"]["resourceVersion"])
            case Sight.ROWS:
                listed = await self.connection.list(SUBSCRIPTIONS, self._namespace)
                rows = [Row.read(obj) for obj in listed["items"]]
                relisted.resync_rows(self._seen, rows, listed["metadata"]["resourceVersion"])
            case Sight.WORK:
                await self._see_work()

    async def _see_work(self) -> None:
        listed = await self.connection.list(DELEGATIONS, self._namespace, fieldSelector=UNFINISHED)
        works = [Work.read(obj) for obj in listed["items"]]
        for work in works:
            known = self._seen.index.work.get(work.ref)
            if known is None or known.version != work.version:
                self._seen.saw_work(work)
        relisted.resync_work(self._seen, {work.ref for work in works}, listed["metadata"]["resourceVersion"])

    async def work(self) -> None:
        """Work on everything that is due, as far as it is seen. Raises Crash."""
        self._seen.timers._emit_due()
        keys = 0
        while len(self._seen.queue):
            keys += 1
            assert keys < _MOST_KEYS, f"the operator finds no rest: {list(self._seen.queue._ready)}"
            key = await self._seen.queue.take()
            try:
                await self._engine._work_on(key)
            finally:
                self._seen.queue.done(key)
