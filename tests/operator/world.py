"""The operator in this process, on the real API server with its own account, and on a clock that the test moves.

Time stands still while requests are made, so "29 s later" is exactly that, however slow the machine is. `settled`
returns when the operator knows what the API server knows and has nothing left to do.
"""

import asyncio
from typing import Any

from belay_api.meta import API_VERSION
from belay_api.names import Ref
from belay_api.transitions import TERMINAL, phase_of
from belay_kube.client import AGENTS, DELEGATIONS, LEASES, SUBSCRIPTIONS, Collection, Json, Kube
from belay_kube.clock import FakeClock, SystemClock
from belay_kube.errors import NotFound
from belay_operator.app import Operator
from belay_operator.observe.records import ref_of
from belay_operator.settings import Settings
from waiting import eventually

from .builders import DelegationBuilder
from .played import BELAY, PlayedGateway

STEP = 15.0
LONG_STEP = 40.0
"""Seconds of one step of the clock: gateways renew after each, well within staleAfterSeconds (45)."""


SIGHT_SECONDS = 1
"""From an operator's start until a gateway renews its Lease before its eyes."""


class World:
    """A namespace, an operator that may be stopped and started, and gateways played by the test."""

    def __init__(self, admin: Kube, operator: Kube, gateway: Kube, namespace: str) -> None:
        self.admin = admin
        self.operator_kube = operator
        self.gateway_kube = gateway
        self.namespace = namespace
        self.clock = FakeClock(SystemClock().now())
        self.gateways: list[PlayedGateway] = []
        self._task: asyncio.Task[None] | None = None
        self._differs: list[object] = []

    # --- the operator ---

    async def start(self, kube: Kube | None = None, **settings: Any) -> None:
        """Start an operator (with `kube` instead of its own client) and wait until it has seen everything."""
        await self.renew()
        self.operator = Operator(kube or self.operator_kube, self.clock, Settings(namespace=BELAY, **settings))
        self._task = asyncio.create_task(self.operator.run())
        ready = asyncio.create_task(self.operator.ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        if self._task.done():
            await self._task
        await ready
        # A Lease that was there before counts once it moves before the operator's eyes.
        await self.pass_time(SIGHT_SECONDS)

    async def stop(self) -> None:
        """End it as a crash would, between two of its steps."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def clear(self) -> None:
        """Leave nothing to the operators of later tests; the namespace is deleted in its own time."""
        for collection in (DELEGATIONS, SUBSCRIPTIONS, AGENTS):
            await self.admin.delete(collection, self.namespace, "")

    async def settled(self) -> None:
        """Return when the operator knows all there is in the namespace and has nothing left to do."""
        if not self._task:
            return
        try:
            await eventually(self._in_step)
        except AssertionError as error:
            raise AssertionError(f"operator and API server differ: {self._differs}") from error

    async def _in_step(self) -> bool:
        assert self._task is not None
        assert not self._task.done(), f"the operator ended: {self._task}"
        seen = self.operator.seen
        index = seen.index
        await seen.queue.idle()
        checks = (
            (AGENTS, {ref: agent.version for ref, agent in index.agents.items()}),
            (DELEGATIONS, {ref: work.version for ref, work in index.work.items()}),
            (SUBSCRIPTIONS, {ref: row.version for agent in index.known_agents() for ref, row in self._rows(agent)}),
        )
        differs = [await self._differences(collection, known) for collection, known in checks]
        self._differs = [*differs, await self._unheard_leases()]
        return not any(self._differs) and len(seen.queue) == 0

    def _rows(self, agent: Ref) -> list[tuple[Ref, Any]]:
        return [(row.ref, row) for row in self.operator.seen.index.rows_of(agent)]

    async def _differences(self, collection: Collection, known: dict[Ref, str]) -> set[tuple[Ref, str]]:
        there = {
            (ref_of(obj), obj["metadata"]["resourceVersion"])
            for obj in (await self.admin.list(collection, self.namespace))["items"]
            if _phase(collection, obj) not in TERMINAL
        }
        return there ^ {(ref, version) for ref, version in known.items() if ref.namespace == self.namespace}

    async def _unheard_leases(self) -> set[str]:
        heard = {lease.identity: lease.renewed for lease in self.operator.presence.leases()}
        found = set()
        for gateway in self.gateways:
            try:
                spec = (await self.admin.get(LEASES, BELAY, gateway.identity))["spec"]
            except NotFound:
                continue
            if heard.get(gateway.identity) != spec["renewTime"]:
                found.add(gateway.identity)
        return found

    # --- time ---

    async def pass_time(self, seconds: float, step: float = STEP) -> None:
        """Let time pass in steps; gateways that are alive renew after each, and the operator takes it in."""
        await self.settled()
        end = self.clock.monotonic() + seconds
        while (left := end - self.clock.monotonic()) > 0:
            await self.clock.advance(min(step, left))
            await self.renew()
            await self.settled()

    async def renew(self) -> None:
        """Each gateway that is alive renews its Lease and its rows."""
        for gateway in self.gateways:
            await gateway.renew()

    # --- people and gateways ---

    def gateway(self, touch_seconds: int = 15) -> PlayedGateway:
        """One more gateway."""
        made = PlayedGateway(self.gateway_kube, self.clock, self.namespace, touch_seconds)
        self.gateways.append(made)
        return made

    def is_mine(self, obj: Json) -> bool:
        """Whether an object is of this test's namespace."""
        return bool(obj["metadata"]["namespace"] == self.namespace)

    async def agent(self, name: str = "a", **spec: Any) -> None:
        """Create an Agent."""
        body = {"apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": name}, "spec": spec}
        await self.admin.create(AGENTS, self.namespace, body)

    async def create(self, *given: DelegationBuilder) -> None:
        """Create delegations, one after the other."""
        for one in given:
            await self.admin.create(DELEGATIONS, self.namespace, one.body())

    async def cancel(self, name: str) -> None:
        """Ask for the end of a delegation, as a person does."""
        await self.admin.patch(DELEGATIONS, self.namespace, name, {"spec": {"desiredState": "Cancelled"}})

    # --- what is so ---

    async def status(self, name: str) -> Json:
        """A delegation's status."""
        found: Json = (await self.admin.get(DELEGATIONS, self.namespace, name)).get("status") or {}
        return found

    async def told(self, name: str) -> str:
        """Phase and reason of a settled delegation, e.g. `Cancelled AgentOffline`."""
        await self.settled()
        status = await self.status(name)
        return f"{status.get('phase')} {status.get('reason')}"

    async def agent_status(self, name: str = "a") -> Json:
        """An Agent's status once it had time to be written: a second, as it is written at most once in one."""
        await self.pass_time(1)
        found: Json = (await self.admin.get(AGENTS, self.namespace, name)).get("status") or {}
        return found

    async def rows(self) -> dict[str, str]:
        """Phase of each row, by session."""
        await self.settled()
        items = (await self.admin.list(SUBSCRIPTIONS, self.namespace))["items"]
        return {obj["spec"]["sessionId"]: obj["status"]["phase"] for obj in items}


def _phase(collection: Collection, obj: Json) -> object:
    """The phase of a delegation; None for anything else."""
    return phase_of((obj.get("status") or {}).get("phase")) if collection == DELEGATIONS else None
