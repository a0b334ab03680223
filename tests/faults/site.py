"""One namespace in a running Belay: agents, work and sessions by the hundred, and what must hold at the end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from belay_api.meta import API_VERSION, SWEEPER_NAME
from belay_kube.client import AGENTS, DELEGATIONS, NAMESPACES, SUBSCRIPTIONS, SWEEPERS, Json, Kube
from belay_kube.clock import SystemClock
from faults.invariants import OPERATOR_NAMESPACE, Excused, History, broken, recorded
from faults.workers import Workers
from waiting import eventually

SECONDS = 90.0
"""Most that a fact of a whole fleet is waited for."""


class Site:
    """Made by `Site.opened`."""

    def __init__(self, audit_log: Path, token: str, admin: Kube, namespace: str, history: History) -> None:
        self.audit_log = audit_log
        self.token = token
        """What agents attach with."""
        self.admin = admin
        self.namespace = namespace
        self.history = history
        self.lost: set[str] = set()
        """Delegations whose agent really was lost: the only ones that may be ended or requeued for it."""
        self.late: set[str] = set()
        """Delegations of which nothing could be written when they were due."""
        self._fleets: list[Workers] = []

    @classmethod
    @asynccontextmanager
    async def opened(cls, audit_log: Path, token: str, admin: Kube) -> AsyncIterator["Site"]:
        """A namespace of its own; at the end its invariants are checked and its sockets closed."""
        made = await admin.create(NAMESPACES, None, {"metadata": {"generateName": "fault-"}})
        namespace: str = made["metadata"]["name"]
        async with recorded(admin, namespace) as history:
            site = cls(audit_log, token, admin, namespace, history)
            yield site
            try:
                await site.check()
            finally:
                for fleet in site._fleets:
                    await fleet.close()
        await admin.delete(NAMESPACES, None, namespace)

    async def check(self) -> None:
        """Wait until every invariant holds. Raises AssertionError with those that don't."""
        found = ["nothing was judged in time"]

        async def whole() -> bool:
            excused = Excused(self.lost, self.late)
            found[:] = await broken(self.admin, self.namespace, self.history, self.audit_log, SystemClock(), excused)
            return not found

        try:
            await eventually(whole)
        except AssertionError:
            raise AssertionError("\n".join(found)) from None

    def workers(self, gateway: str) -> Workers:
        """Sockets to one gateway that accept whatever they are offered."""
        made = Workers(f"{gateway}/cable", [self.token])
        self._fleets.append(made)
        return made

    async def agents(self, *names: str, **spec: Any) -> None:
        """Create Agents."""
        body = {"apiVersion": API_VERSION, "kind": "Agent", "spec": spec}
        await asyncio.gather(
            *(self.admin.create(AGENTS, self.namespace, {**body, "metadata": {"name": name}}) for name in names)
        )

    async def order(self, name: str, agent: str, **spec: Any) -> None:
        """Ask for work."""
        spec = {"agentRef": {"name": agent}, "task": {"prompt": "do it"}, **spec}
        body = {"apiVersion": API_VERSION, "kind": "Delegation", "metadata": {"name": name}, "spec": spec}
        await self.admin.create(DELEGATIONS, self.namespace, body)

    async def delegate(self, name: str, agent: str) -> None:
        """Hand work to an agent, and wait until one of its sessions has it."""
        await self.order(name, agent)
        await self.until_phase(name, "InProgress")

    async def status(self, name: str) -> Json:
        """A delegation's status."""
        found: Json = (await self.admin.get(DELEGATIONS, self.namespace, name)).get("status") or {}
        return found

    async def until_phase(self, name: str, phase: str) -> Json:
        """Wait until a delegation is in `phase`; returns its status."""

        async def there() -> Json | None:
            status = await self.status(name)
            return status if status.get("phase") == phase else None

        return await eventually(there, SECONDS)

    async def rows(self, phase: str | None = None) -> list[Json]:
        """The rows of the namespace, of one phase or all."""
        query = {"fieldSelector": f"status.phase={phase}"} if phase else {}
        items: list[Json] = (await self.admin.list(SUBSCRIPTIONS, self.namespace, **query))["items"]
        return items

    async def until_rows(self, count: int, phase: str | None = None) -> None:
        """Wait until there are so many rows of that phase."""
        seen: list[int] = []

        async def counted() -> bool:
            seen[:] = [len(await self.rows(phase))]
            return seen == [count]

        try:
            await eventually(counted, SECONDS)
        except AssertionError:
            raise AssertionError(f"{seen[0]} rows are {phase}, not {count}") from None

    async def braked(self) -> tuple[str, str] | None:
        """Status and reason of the condition Braked."""
        sweeper = await self.admin.get(SWEEPERS, OPERATOR_NAMESPACE, SWEEPER_NAME)
        found = [c for c in (sweeper.get("status") or {}).get("conditions") or [] if c["type"] == "Braked"]
        return (found[0]["status"], found[0]["reason"]) if found else None

    def session_of(self, agent: Callable[[int], str]) -> Callable[[int], dict[str, str]]:
        """Identifiers of the sessions `s0`, `s1` and so on, by number, of the agent that `agent` tells."""
        return lambda number: {"agent_id": f"{self.namespace}/{agent(number)}", "session_id": f"s{number}"}
