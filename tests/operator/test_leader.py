"""leader.py on the real API server: one leads, the next follows, a broken connection isn't the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from belay_kube.client import LEASES, Collection, Json, Kube
from belay_kube.clock import SystemClock
from belay_kube.errors import Unreachable
from belay_operator.leader import LEASE_NAME, lead
from belay_operator.tenure import Tenure
from waiting import eventually

SECONDS = 2
"""Of the Lease: what a leader has to renew it in, and a challenger to wait after its end."""


class Candidate:
    """One operator that wants to lead, and then works until it is stopped."""

    def __init__(self, kube: Kube, namespace: str, identity: str) -> None:
        self.identity = identity
        self.leading = asyncio.Event()
        self.task = asyncio.ensure_future(lead(kube, SystemClock(), namespace, identity, SECONDS, self._work))

    async def stop(self) -> None:
        """End it, as SIGTERM would."""
        self.task.cancel()
        await asyncio.wait({self.task})

    async def _work(self, _: Tenure) -> None:
        self.leading.set()
        await asyncio.Event().wait()


@asynccontextmanager
async def candidates(namespace: str, **kubes: Kube) -> AsyncIterator[list[Candidate]]:
    """Candidates by name, stopped at the end."""
    made = [Candidate(kube, namespace, name) for name, kube in kubes.items()]
    try:
        yield made
    finally:
        for candidate in made:
            await candidate.stop()


async def holder(kube: Kube, namespace: str) -> str | None:
    """Who holds the Lease, as it says."""
    name: str | None = (await kube.get(LEASES, namespace, LEASE_NAME))["spec"].get("holderIdentity")
    return name


async def first_of(candidates: list[Candidate]) -> Candidate:
    """The candidate that leads first."""
    waits = {asyncio.ensure_future(c.leading.wait()): c for c in candidates}
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    for wait in pending:
        wait.cancel()
    return waits[done.pop()]


class Broken(Kube):
    """A connection that breaks at each request until it is mended."""

    def __init__(self, inner: Kube) -> None:
        super().__init__(inner.api)
        self.tries = 0
        self.mended = False

    async def get(self, path: Collection, namespace: str | None, name: str) -> Json:
        """Break, or read."""
        self.tries += 1
        if not self.mended:
            raise Unreachable("connection reset")
        return await super().get(path, namespace, name)


async def test_of_two_candidates_one_leads_and_after_its_end_the_other(admin_kube: Kube, namespace: str) -> None:
    """The Lease is given up at the end, so that the other needn't wait for long."""
    async with candidates(namespace, one=admin_kube, two=admin_kube) as both:
        leader = await first_of(both)
        [other] = [c for c in both if c is not leader]
        assert await holder(admin_kube, namespace) == leader.identity
        assert not other.leading.is_set()
        await leader.stop()
        await asyncio.wait_for(other.leading.wait(), 30)
        assert await holder(admin_kube, namespace) == other.identity


async def test_the_lease_says_in_utc_who_leads_since_when(admin_kube: Kube, namespace: str) -> None:
    """Times with a zone, the number of transitions, and no holder once released."""
    async with candidates(namespace, one=admin_kube) as [only]:
        await asyncio.wait_for(only.leading.wait(), 30)
        spec = (await admin_kube.get(LEASES, namespace, LEASE_NAME))["spec"]
    assert spec["acquireTime"].endswith("Z")
    assert spec["leaseDurationSeconds"] == SECONDS
    assert not await holder(admin_kube, namespace)


async def test_a_candidate_whose_connection_breaks_keeps_trying(admin_kube: Kube, namespace: str) -> None:
    """It neither leads nor ends; once the connection is back, it leads."""
    broken = Broken(admin_kube)
    async with candidates(namespace, one=broken) as [only]:
        await eventually(lambda: broken.tries >= 2)
        assert not only.leading.is_set()
        assert not only.task.done()
        broken.mended = True
        await asyncio.wait_for(only.leading.wait(), 30)


async def test_a_leader_that_cannot_renew_ends(admin_kube: Kube, namespace: str) -> None:
    """Another may lead by then: what it was doing is stopped, and it says why."""
    kube = Broken(admin_kube)
    kube.mended = True
    async with candidates(namespace, one=kube) as [only]:
        await asyncio.wait_for(only.leading.wait(), 30)
        kube.mended = False
        await asyncio.wait({only.task}, timeout=30)
        assert "could not renew" in str(only.task.exception())


async def test_a_leader_whose_lease_another_took_ends_at_once(admin_kube: Kube, namespace: str) -> None:
    """It was away for too long: what it has left of its own time to renew in doesn't count (fault 5)."""
    async with candidates(namespace, one=admin_kube) as [only]:
        await asyncio.wait_for(only.leading.wait(), 30)
        await admin_kube.patch(LEASES, namespace, LEASE_NAME, {"spec": {"holderIdentity": "two"}})
        await asyncio.wait({only.task}, timeout=30)
        assert "another holds Lease" in str(only.task.exception())
    assert await holder(admin_kube, namespace) == "two"
