"""Work that never rests: requesters who ask for one thing after the other, and agents who do it, with how often."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from belay_api.transitions import TERMINAL, phase_of
from belay_client import AgentChannel, Backoff, Offer
from belay_kube.client import DELEGATIONS, Json
from belay_kube.errors import AlreadyExists, Temporary
from chart.service import first
from faults.site import SECONDS, Site
from waiting import eventually

AGENTS = ("a", "b", "c")
SESSIONS = 2
MOST_SECONDS = 2.0
"""Between two tries of a session to attach."""
HELD = "held"
"""What begins so is kept until it is let go."""


class Load:
    """Made by `loaded`."""

    def __init__(self, site: Site, url: str) -> None:
        self.site = site
        self.begun: Counter[tuple[str, int]] = Counter()
        """How often an agent was told that an attempt is its own."""
        self.done: list[str] = []
        self.asking: list[asyncio.Task[None]] = []
        self._begun = asyncio.Event()
        self._url = url
        self._over = asyncio.Event()
        self._free: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._told: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def begin(self) -> None:
        """Requesters ask from now on: before, there may be nobody who could do it in time."""
        self._begun.set()

    async def order(self, name: str, agent: str, **spec: object) -> None:
        """Ask for work as often as it takes, as every client of the API server does."""

        async def accepted() -> bool:
            try:
                await self.site.order(name, agent, **spec)
            except AlreadyExists:  # the answer to an earlier try was lost
                return True
            except Temporary:
                return False
            return True

        await eventually(accepted, SECONDS)

    async def hold(self, name: str, agent: str) -> None:
        """Have work done that its agent keeps until it is let go."""
        await self.order(name, agent)
        await self.site.until_phase(name, "InProgress")

    async def cancel(self, name: str) -> None:
        """Ask for the end of it."""
        await self.site.admin.patch(DELEGATIONS, self.site.namespace, name, {"spec": {"desiredState": "Cancelled"}})

    def let_go(self, name: str) -> None:
        """Whoever keeps it may finish."""
        self._free[name].set()

    async def more(self, times: int) -> None:
        """Wait until so many more were asked for and are done."""
        wanted = len(self.done) + times
        await eventually(lambda: len(self.done) >= wanted, SECONDS)

    async def until_ended(self, name: str) -> Json:
        """Wait until it has; returns its status."""

        async def ended() -> Json | None:
            status = await self.site.status(name)
            return status if phase_of(status.get("phase")) in TERMINAL else None

        return await eventually(ended, SECONDS)

    async def rest(self) -> None:
        """Ask for nothing more, and wait until what was asked for is done."""
        self._over.set()
        self._begun.set()
        await asyncio.gather(*self.asking)

    async def ask(self, agent: str) -> None:
        """One requester, from the beginning until the rest."""
        await self._begun.wait()
        for number in count():
            if self._over.is_set():
                return
            name = f"{agent}-{number}"
            await self.order(name, agent)
            await self._until_told(name)
            await self.until_ended(name)
            self.done.append(name)

    async def _until_told(self, name: str) -> None:
        """Wait until an agent has said how it ended; asking the API server all the while would be a load of its own."""
        try:
            await eventually(self._told[name].is_set, SECONDS)
        except AssertionError:
            raise AssertionError(f"nobody did {name}: {await self.site.status(name)}") from None

    async def serve(self, agent: str, session: str) -> None:
        """One session that does what it can get, all at the same time."""
        reference = f"{self.site.namespace}/{agent}"
        async with (
            AgentChannel(
                self._url, agent=reference, token=self.site.token, session_id=session, backoff=Backoff(cap=MOST_SECONDS)
            ) as channel,
            asyncio.TaskGroup() as works,
        ):
            async for offer in channel.offers():
                works.create_task(self._work(offer))

    async def _work(self, offer: Offer) -> None:
        work = await offer.accept()
        if work is None:
            return
        self.begun[work.key] += 1
        if work.name.startswith(HELD):
            await first(self._free[work.name].wait(), work.cancelled.wait())
        if work.cancelled.is_set():
            await work.acknowledge_cancel()
        else:
            await work.complete(result_of(*work.key))
        self._told[work.name].set()


def result_of(name: str, attempt: int) -> str:
    """What an agent says at the end."""
    return f"{name}, attempt {attempt}"


@asynccontextmanager
async def loaded(site: Site, url: str) -> AsyncIterator[Load]:
    """Agents attach as soon as anybody is there; a requester of each asks on and on once it is begun; at the end all
    leave."""
    await site.agents(*AGENTS, maxActiveDelegations=10)
    made = Load(site, url)
    async with asyncio.TaskGroup() as group:
        made.asking = [group.create_task(made.ask(agent)) for agent in AGENTS]
        sessions = [group.create_task(made.serve(agent, f"s{n}")) for agent in AGENTS for n in range(SESSIONS)]
        yield made
        await made.rest()
        for session in sessions:
            session.cancel()
