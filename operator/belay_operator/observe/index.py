"""The index: every Agent, row and unfinished delegation that was seen, by agent; a newer view replaces an older one."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable

from belay_api.names import Ref
from belay_api.timing import Times
from belay_api.transitions import LIVE, Phase
from belay_operator.observe.kinship import Kinship, above
from belay_operator.observe.presence_records import Row
from belay_operator.observe.records import AgentRecord, Work


class Index:
    """What was seen; records are replaced whole, so readers may keep one."""

    def __init__(self, times: Times) -> None:
        self.changes = 0
        """Counts what was seen of Agents and rows, so that who gathers them knows when to do so again."""
        self.times = times
        """Times where the agent says nothing: environment and DelegationSweeper over the defaults (S5)."""
        self.agents: dict[Ref, AgentRecord] = {}
        self._times_of: dict[Ref, tuple[AgentRecord, Times, Times]] = {}
        """Of each agent the times that were worked out, and of what: they are asked for once for each of its rows."""
        self.work: dict[Ref, Work] = {}
        self.kinship = Kinship()
        self._by_agent: defaultdict[Ref, dict[Phase, dict[Ref, Work]]] = defaultdict(dict)
        self._rows: defaultdict[Ref, dict[Ref, Row]] = defaultdict(dict)
        self._agent_of_row: dict[Ref, Ref] = {}
        self._gone = {kind: Graves() for kind in ("agent", "work", "row")}

    def times_of(self, agent: Ref) -> Times:
        """Times in force for an agent, also for one that isn't there."""
        record = self.agents.get(agent)
        if record is None:
            return self.times
        kept = self._times_of.get(agent)
        if kept is None or kept[0] is not record or kept[1] is not self.times:
            kept = self._times_of[agent] = record, self.times, self.times.overridden(record.timing)
        return kept[2]

    def put_agent(self, record: AgentRecord) -> bool:
        """Whether the view is newer than the one held (a write's answer may overtake the watch)."""
        self.changes += 1
        old = self.agents.get(record.ref)
        if self._gone["agent"].holds(record.ref, record.version) or (old and older(record.version, old.version)):
            return False
        self.agents[record.ref] = record
        return True

    def drop_agent(self, ref: Ref, version: str | None = None) -> AgentRecord | None:
        """Let an Agent go that was deleted at `version`; returns what was held, None if a newer one of that name is."""
        self.changes += 1
        old = self.agents.get(ref)
        if old and version and older(version, old.version):
            return None
        self._gone["agent"].bury(ref, version or (old.version if old else None))
        self._times_of.pop(ref, None)
        return self.agents.pop(ref, None)

    def put_work(self, work: Work) -> Work | None:
        """Hold `work` unless a newer view is held; terminal work is let go. Returns what was held before."""
        old = self.work.get(work.ref)
        if self._gone["work"].holds(work.ref, work.version) or (old and older(work.version, old.version)):
            return old
        self._forget_work(work.ref)
        if work.phase not in LIVE:
            self._gone["work"].bury(work.ref, work.version)
            self.kinship.drop(work.ref, above(work))
        else:
            if parent := above(work):
                self.kinship.add_parent(work.ref, parent)
            self.work[work.ref] = work
            self._by_agent[work.agent].setdefault(work.phase, {})[work.ref] = work
        return old

    def drop_work(self, ref: Ref, version: str | None = None) -> Work | None:
        """Let a delegation go that ended at `version`; returns what was held, None if a newer one of that name is."""
        old = self.work.get(ref)
        if old and version and older(version, old.version):
            return None
        self._gone["work"].bury(ref, version or (old.version if old else None))
        self.kinship.drop(ref, above(old) if old else None)
        return self._forget_work(ref)

    def _forget_work(self, ref: Ref) -> Work | None:
        old = self.work.pop(ref, None)
        if old:
            self._by_agent[old.agent][old.phase].pop(ref, None)
        return old

    def work_of(self, agent: Ref, phases: Iterable[Phase]) -> list[Work]:
        """Unfinished delegations of an agent in any of `phases`."""
        held = self._by_agent.get(agent)
        return [w for phase in phases for w in held.get(phase, {}).values()] if held else []

    def count(self, agent: Ref, phases: Iterable[Phase]) -> int:
        """How many delegations of an agent are in any of `phases`."""
        held = self._by_agent.get(agent)
        return sum(len(held.get(phase, ())) for phase in phases) if held else 0

    def put_row(self, row: Row) -> None:
        """Hold a row unless a newer view is held, or it is known to be gone."""
        self.changes += 1
        old = self.row(row.ref)
        if not (self._gone["row"].holds(row.ref, row.version) or (old and older(row.version, old.version))):
            self._rows[row.agent][row.ref] = row
            self._agent_of_row[row.ref] = row.agent

    def row(self, ref: Ref) -> Row | None:
        """The row as it was last seen."""
        agent = self._agent_of_row.get(ref)
        return self._rows[agent].get(ref) if agent else None

    def drop_row(self, ref: Ref, version: str | None = None) -> Row | None:
        """Let a row go that was deleted at `version`; returns what was held, None if a newer one of that name is."""
        self.changes += 1
        old = self.row(ref)
        if old and version and older(version, old.version):
            return None
        self._gone["row"].bury(ref, version or (old.version if old else None))
        agent = self._agent_of_row.pop(ref, None)
        return self._rows[agent].pop(ref, None) if agent else None

    def row_refs(self) -> set[Ref]:
        """Every row that is held."""
        return set(self._agent_of_row)

    def rows_of(self, agent: Ref) -> list[Row]:
        """Rows of an agent."""
        return list(self._rows.get(agent, {}).values())

    def agents_served_by(self, gateway: str) -> set[Ref]:
        """Agents with a row that this gateway holds."""
        return {a for a, rows in self._rows.items() if any(row.holder == gateway for row in rows.values())}

    def count_rows(self, agent: Ref) -> int:
        """How many rows an agent has."""
        return len(self._rows.get(agent, ()))

    def known_agents(self) -> set[Ref]:
        """Agents that exist, have a row, or are named by a delegation."""
        return {*self.agents, *self._rows, *self._by_agent}

    def prune(self, agent: Ref) -> bool:
        """Let go of an agent of which nothing is left; True when nothing is."""
        if not self._rows.get(agent):
            self._rows.pop(agent, None)
        if not self.count(agent, LIVE):
            self._by_agent.pop(agent, None)
        return agent not in self.agents and agent not in self._rows and agent not in self._by_agent


class Graves:
    """What ended, and at which version: word of it that comes late must not bring it back.

    Bounded: the oldest are forgotten, long after the last word of them can have been on its way.
    """

    _MOST = 20_000

    def __init__(self) -> None:
        self._versions: OrderedDict[Ref, str] = OrderedDict()

    def bury(self, ref: Ref, version: str | None) -> None:
        """`ref` ended at `version`; None: nothing is known of it."""
        if version is None:
            return
        self._versions[ref] = version
        self._versions.move_to_end(ref)
        if len(self._versions) > self._MOST:
            self._versions.popitem(last=False)

    def holds(self, ref: Ref, version: str) -> bool:
        """Whether `ref` had ended by `version`; a later one is another object of that name."""
        buried = self._versions.get(ref)
        return buried is not None and not older(buried, version)


def older(version: str, than: str) -> bool:
    """Whether one resource version is before another. They are etcd's revisions, and grow over all objects; that they
    may be compared is promised since Kubernetes 1.35 and has been so in every release before."""
    return int(version) < int(than)
