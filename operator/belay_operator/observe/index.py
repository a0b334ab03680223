"""The index: every Agent, row and unfinished delegation that was seen, by agent; a newer view replaces an older one."""

from collections import defaultdict
from collections.abc import Iterable

from belay_api.names import Ref
from belay_api.timing import Times
from belay_api.transitions import LIVE, Phase
from belay_operator.observe.records import AgentRecord, Row, Work


class Index:
    """What was seen; records are replaced whole, so readers may keep one."""

    def __init__(self, times: Times) -> None:
        self.times = times
        """Times where the agent says nothing: environment and DelegationSweeper over the defaults (S5)."""
        self.agents: dict[Ref, AgentRecord] = {}
        self.work: dict[Ref, Work] = {}
        self._by_agent: defaultdict[Ref, dict[Phase, dict[Ref, Work]]] = defaultdict(dict)
        self._rows: defaultdict[Ref, dict[Ref, Row]] = defaultdict(dict)
        self._agent_of_row: dict[Ref, Ref] = {}

    def times_of(self, agent: Ref) -> Times:
        """Times in force for an agent, also for one that isn't there."""
        record = self.agents.get(agent)
        return self.times.overridden(record.timing) if record else self.times

    def put_agent(self, record: AgentRecord) -> bool:
        """Whether the view is newer than the one held (a write's answer may overtake the watch)."""
        old = self.agents.get(record.ref)
        if old and old.uid == record.uid and _older(record.version, old.version):
            return False
        self.agents[record.ref] = record
        return True

    def put_work(self, work: Work) -> Work | None:
        """Hold `work` unless a newer view is held; terminal work is let go. Returns what was held before."""
        old = self.work.get(work.ref)
        if old and old.uid == work.uid and _older(work.version, old.version):
            return old
        self.drop_work(work.ref)
        if work.phase in LIVE:
            self.work[work.ref] = work
            self._by_agent[work.agent].setdefault(work.phase, {})[work.ref] = work
        return old

    def drop_work(self, ref: Ref) -> Work | None:
        """Let a delegation go; returns what was held."""
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
        """Hold a row unless a newer view is held."""
        old = self._rows[row.agent].get(row.ref)
        if not (old and old.uid == row.uid and _older(row.version, old.version)):
            self._rows[row.agent][row.ref] = row
            self._agent_of_row[row.ref] = row.agent

    def row(self, ref: Ref) -> Row | None:
        """The row as it was last seen."""
        agent = self._agent_of_row.get(ref)
        return self._rows[agent].get(ref) if agent else None

    def drop_row(self, ref: Ref) -> Row | None:
        """Let a row go; returns what was held."""
        agent = self._agent_of_row.pop(ref, None)
        return self._rows[agent].pop(ref, None) if agent else None

    def rows_of(self, agent: Ref) -> list[Row]:
        """Rows of an agent."""
        return list(self._rows.get(agent, {}).values())

    def agents_served_by(self, gateway: str) -> set[Ref]:
        """Agents with a row that this gateway holds."""
        return {a for a, rows in self._rows.items() if any(row.holder == gateway for row in rows.values())}

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


def _older(version: str, than: str) -> bool:
    """Resource versions of one kind are comparable integers since Kubernetes 1.35."""
    return int(version) < int(than)
