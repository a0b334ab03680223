"""One sweep: reads everything again in chunks, and puts it through the decision and the write of the fast path (S8)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from belay_api.names import Ref
from belay_api.reasons import Reason
from belay_api.transitions import IN_FLIGHT, TERMINAL, WAITING, Phase
from belay_kube.client import AGENTS, DELEGATIONS, SUBSCRIPTIONS, Collection, Json, Kube, pages
from belay_kube.errors import KubeError
from belay_operator import relisted
from belay_operator.engine import Engine
from belay_operator.observe.index import older
from belay_operator.observe.presence_records import Row
from belay_operator.observe.records import AgentRecord, Work, ref_of

log = structlog.get_logger(__name__)

R = TypeVar("R")

UNFINISHED = ",".join(f"status.phase!={phase}" for phase in sorted(TERMINAL))
"""Objects without a status match as well (DESIGN.md section 8)."""


@dataclass
class Result:
    """What one sweep did."""

    in_flight: int = 0
    deadline_failures: int = 0
    stuck_marked: int = 0
    errors: int = 0

    def found(self) -> dict[str, int]:
        """What is told of it (S9), by its name in the status."""
        return {
            "deadlineFailures": self.deadline_failures,
            "stuckMarked": self.stuck_marked,
            "errors": self.errors,
        }

    def quiet(self) -> bool:
        """Whether there is nothing to log (S9)."""
        return not any(self.found().values())


class Sweep:
    """What a sweep does; `alive` is called again and again while it gets on."""

    def __init__(self, kube: Kube, engine: Engine, namespace: str, alive: Callable[[], None]) -> None:
        self._kube = kube
        self._engine = engine
        self._namespace = namespace
        """Of the gateways' Leases."""
        self._alive = alive

    async def run(self) -> Result:
        """One pass over everything; what fails is counted and stops nothing else (S7, S8)."""
        result = Result()
        for step in (self._resync, self._remove_leases, self._judge_all):
            try:
                await step(result)
            except KubeError as error:
                result.errors += 1
                log.warning("a part of the sweep failed", part=step.__name__.strip("_"), error=error.message)
        return result

    async def _resync(self, result: Result) -> None:
        """Agents and rows as they are, whatever the watches said (a silent one shows here)."""
        agents, version = await self._all(AGENTS)
        relisted.resync_agents(self._engine.seen, _read_each(AgentRecord.read, agents, result), version)
        rows, version = await self._all(SUBSCRIPTIONS)
        relisted.resync_rows(self._engine.seen, _read_each(Row.read, rows, result), version)

    async def _remove_leases(self, _: Result) -> None:
        await self._engine.agents.remove_dead_gateways(self._namespace)

    async def _judge_all(self, result: Result) -> None:
        listed: set[Ref] = set()
        version = "0"
        async for page in self._pages(DELEGATIONS, fieldSelector=UNFINISHED):
            listed |= {ref_of(obj) for obj in page["items"]}
            version = page["metadata"]["resourceVersion"]
            await asyncio.gather(*(self._one(obj, result) for obj in page["items"]))
        relisted.resync_work(self._engine.seen, listed, version)

    async def _one(self, obj: Json, result: Result) -> None:
        try:
            work = await self._current(Work.read(obj))
            if work is None:
                return
            result.in_flight += work.phase in IN_FLIGHT
            if work.phase in WAITING:
                self._engine.seen.look_at(work.agent)
            change = await self._engine.delegations.judge(work.ref, sweeping=True)
        except (KubeError, KeyError, ValueError, TypeError) as error:
            result.errors += 1
            log.warning("sweep could not treat a delegation", delegation=str(ref_of(obj)), error=str(error))
            return
        result.deadline_failures += change is not None and change.reason is Reason.DEADLINE_EXCEEDED
        result.stuck_marked += change is not None and change.target is Phase.STUCK

    async def _current(self, listed: Work) -> Work | None:
        """A listed delegation; one that the watch doesn't know was missed by it, or has ended since the list."""
        known = self._engine.seen.index.work.get(listed.ref)
        if known is None or older(known.version, listed.version):
            self._engine.seen.saw_work(listed)
        return self._engine.seen.index.work.get(listed.ref)

    async def _pages(self, collection: Collection, **query: str) -> AsyncIterator[Json]:
        """List in chunks; each is a sign of life, so that a long sweep isn't taken for a stalled one."""
        async for page in pages(self._kube, collection, **query):
            self._alive()
            yield page

    async def _all(self, collection: Collection) -> tuple[list[Json], str]:
        """Every object, and the resourceVersion at which that was so."""
        items: list[Json] = []
        version = "0"
        async for page in self._pages(collection):
            items += page["items"]
            version = page["metadata"]["resourceVersion"]
        return items, version


def _read_each(read: Callable[[Json], R], objects: list[Json], result: Result) -> list[R]:
    """Read what can be read; what can't is counted and stops nothing else (S7)."""
    found: list[R] = []
    for obj in objects:
        try:
            found.append(read(obj))
        except (KeyError, ValueError, TypeError) as error:
            result.errors += 1
            log.warning("sweep could not read an object", ref=str(ref_of(obj)), error=repr(error))
    return found
