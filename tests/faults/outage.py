"""A fleet at work while the API server is away or overloaded, and what must be so once it is back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from belay_api.names import subscription_name
from belay_api.reasons import Reason
from belay_kube.client import AGENTS as AGENT
from belay_kube.client import DELEGATIONS, SUBSCRIPTIONS, Json
from belay_kube.clock import SystemClock
from belay_kube.reader import RESYNC_SECONDS
from faults.apirelay import ApiRelay
from faults.behind import Behind
from faults.invariants import History, recorded
from faults.kubelet import Kept
from faults.site import SECONDS, Site
from faults.workers import Workers
from waiting import eventually

AGENTS = 5
SOCKETS = 10
"""Two of each agent."""
NO_SWEEP = {"DELEGATION_SWEEPER_INTERVAL_S": "3600"}
"""What is made good is made good by watches and lists of readers alone."""


@dataclass
class Outage:
    """An operator and a gateway, each with a relay of its own, and a fleet that works."""

    place: Site
    operator: Kept
    gateway: Kept
    to_operator: ApiRelay
    to_gateway: ApiRelay
    fleet: Workers
    rows: History

    @classmethod
    @asynccontextmanager
    async def staged(
        cls, behind: Behind, place: Site, resync: float = RESYNC_SECONDS, **environment: str
    ) -> AsyncIterator["Outage"]:
        """Each agent works on something, `d0` and so on, when it begins.

        Args:
            behind: starts the processes.
            place: where they work.
            resync: seconds after which both list everything again.
            environment: of the operator.
        """
        told = {"BELAY_RESYNC_SECONDS": f"{resync:.0f}"}
        to_operator, to_gateway = await behind.relay(), await behind.relay()
        operator = behind.operator(relay=to_operator, **{**NO_SWEEP, **told, **environment})
        gateway = behind.gateway(relay=to_gateway, **told)
        url = (await gateway.ready())["url"]
        await operator.ready()
        async with recorded(place.admin, place.namespace, SUBSCRIPTIONS) as rows:
            fleet = place.workers(url)
            await place.agents(*(f"a{n}" for n in range(AGENTS)), maxActiveDelegations=2)
            await fleet.dial_many(SOCKETS, place.session_of(lambda number: f"a{number % AGENTS}"))
            for n in range(AGENTS):
                await place.delegate(f"d{n}", f"a{n}")
            yield cls(place, operator, gateway, to_operator, to_gateway, fleet, rows)

    @property
    def relays(self) -> tuple[ApiRelay, ApiRelay]:
        """Both."""
        return self.to_operator, self.to_gateway

    async def complete(self, name: str) -> None:
        """Whoever holds it hands its result in."""
        status = await self.place.status(name)
        self.fleet.complete(int(status["sessionId"].removeprefix("s")), name)

    async def caught_up(self, name: str) -> None:
        """Wait until work that was asked for meanwhile is under way, and everybody still has what he had."""
        await self.operator.ready()
        await self.place.until_phase(name, "InProgress")
        await self.place.until_rows(SOCKETS, "Live")
        for n in range(AGENTS):
            status = await self.place.status(f"d{n}")
            assert status.get("attempt", 1) == 1
            if status["phase"] == "InProgress":
                await self.complete(f"d{n}")
            await self.place.until_phase(f"d{n}", "Completed")
        assert self._phases() == {"Live"}
        assert (self.fleet.count["lost"], self.fleet.sent_away, len(self.gateway.runs)) == (0, [], 1)

    def _phases(self) -> set[str]:
        """Every phase a row ever had, but for that it has none when it is made."""
        versions: list[Json] = [obj for run in self.rows.versions.values() for obj in run]
        return {obj["status"]["phase"] for obj in versions if (obj.get("status") or {}).get("phase")}


async def passed(seconds: float) -> None:
    """Return when so much of the processes' time has passed; nothing else shows that something doesn't happen."""
    clock = SystemClock()
    over = clock.monotonic() + seconds
    await eventually(lambda: clock.monotonic() >= over, 2 * seconds)


async def all_of(*relays: ApiRelay, down: bool) -> None:
    """Take all of them down, or up."""
    await asyncio.gather(*(relay.down() if down else relay.up() for relay in relays))


class Losses:
    """Things that are deleted while nobody hears of it, and what comes of that once they are seen to be gone."""

    def __init__(self, outage: Outage) -> None:
        self._outage = outage
        self._place = outage.place

    async def make(self) -> None:
        """A delegation with a child, an agent at work, and the row of a session that works; and new work."""
        await self._place.order("child", "a4", parentRef={"kind": "Delegation", "name": "d1"})
        await self._place.until_phase("child", "InProgress")

    async def happen(self) -> None:
        """Delete them."""
        admin, namespace = self._place.admin, self._place.namespace
        held = await self._place.status("d3")
        self._place.lost.add("d3")
        await admin.delete(DELEGATIONS, namespace, "d1")
        await admin.delete(AGENT, namespace, "a2")
        await admin.delete(SUBSCRIPTIONS, namespace, subscription_name("a3", held["sessionId"]))
        await self._place.order("meanwhile", "a0")

    async def are_seen(self) -> None:
        """Wait until operator and gateway did what follows."""
        await self._place.until_phase("meanwhile", "InProgress")
        assert (await self._place.until_phase("child", "Cancelled"))["reason"] == Reason.PARENT_DELETED
        assert (await self._place.until_phase("d2", "Failed"))["reason"] == Reason.AGENT_DELETED
        assert (await self._place.until_phase("d3", "Cancelled"))["reason"] == Reason.AGENT_OFFLINE
        fleet = self._outage.fleet
        await eventually(lambda: self._told() == {"agent_deleted": 2, "lease_lost": 1}, SECONDS)
        await eventually(lambda: fleet.count["message cancel"] >= 2, SECONDS)

    def _told(self) -> dict[str, int]:
        """Why sockets were closed."""
        return dict(Counter(str(told["reason"]) for told in self._outage.fleet.sent_away))
