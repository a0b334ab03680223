"""Puts a full list beside what is known: what the watches missed is made good (S8)."""

from belay_api.names import Ref
from belay_operator.observe.presence_records import Row
from belay_operator.observe.records import AgentRecord
from belay_operator.seen import Seen


def resync_agents(seen: Seen, agents: list[AgentRecord], version: str) -> None:
    """Every Agent as of `version`, by a list: what the watch missed is made good."""
    for ref in seen.index.agents.keys() - {agent.ref for agent in agents}:
        seen.gone_agent(ref, version)
    for agent in agents:
        seen.saw_agent(agent)


def resync_rows(seen: Seen, rows: list[Row], version: str) -> None:
    """Every row as of `version`."""
    for ref in seen.index.row_refs() - {row.ref for row in rows}:
        seen.gone_row(ref, version)
    for row in rows:
        seen.saw_row(row)


def resync_work(seen: Seen, listed: set[Ref], version: str) -> None:
    """Every unfinished delegation as of `version`: what is not among them has ended."""
    for ref in seen.index.work.keys() - listed:
        seen.gone_work(ref, version)
