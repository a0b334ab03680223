"""One operator leads: it holds a Lease, and ends when it loses it (kopf's peering would freeze equal peers)."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from kubernetes.aio.client import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from belay_api.times import to_wire
from belay_kube.client import LEASES, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import Conflict, KubeError, NotFound, Temporary
from belay_operator.tenure import Tenure

log = structlog.get_logger(__name__)

LEASE_NAME = "belay-operator"
_RETRY_SECONDS = 1
"""Between two looks at the Lease: so much later than its end, or its release, does another lead."""
_RELEASE_TRIES = 3


class _Lock(BaseLock):  # type: ignore[misc]
    """The Lease behind the library's election, through our client: times in UTC (the library writes local time as if it
    were UTC), and a broken connection is a failed try, not the end of the election."""

    def __init__(
        self, kube: Kube, clock: Clock, namespace: str, identity: str, patience: float, tenure: Tenure
    ) -> None:
        super().__init__(LEASE_NAME, namespace, identity)
        self._tenure = tenure
        self._patience = patience
        """Seconds one try may take: less than what is left to renew in, so that a hanging one is noticed in time."""
        self._kube = kube
        self._clock = clock
        self._seen: Json = {}
        self._held = False
        self.taken = asyncio.Event()
        """Somebody else holds what was ours: this process was frozen, or cut off, for too long."""

    async def get(self, name: str, namespace: str) -> tuple[bool, LeaderElectionRecord | ApiException]:
        """Read the Lease."""
        try:
            async with asyncio.timeout(self._patience):
                self._seen = await self._kube.get(LEASES, namespace, name)
        except TimeoutError:
            log.warning("lease was not read", error=f"no answer within {self._patience:.0f} s")
            return False, ApiException(status=0, reason=f"no answer within {self._patience:.0f} s")
        except KubeError as error:
            if not isinstance(error, NotFound):
                log.warning("lease was not read", error=error.message)
            await self._wait_as_asked(error)
            refusal = ApiException(status=error.status, reason=error.message)
            refusal.body = json.dumps({"code": error.status})
            return False, refusal
        spec = self._seen.get("spec") or {}
        if self._held and spec.get("holderIdentity") not in (None, "", self.identity):
            self.taken.set()
            self._tenure.end(taken=True)
        duration = spec.get("leaseDurationSeconds")
        return True, LeaderElectionRecord(
            spec.get("holderIdentity"),
            str(duration) if duration else None,
            spec.get("acquireTime"),
            spec.get("renewTime"),
        )

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Make the Lease."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name},
            "spec": self._spec(election_record, {}),
        }
        return await self._tried(self._kube.create(LEASES, namespace, body), election_record)

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Take or renew the Lease, if it is as it was read."""
        version = self._seen["metadata"]["resourceVersion"]
        spec = self._spec(updated_record, self._seen.get("spec") or {})
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        return await self._tried(self._kube.patch(LEASES, namespace, name, body), updated_record)

    def _spec(self, record: LeaderElectionRecord, old: Json) -> Json:
        now = to_wire(self._clock.now())
        ours = old.get("holderIdentity") == record.holder_identity
        return {
            "holderIdentity": record.holder_identity,
            "leaseDurationSeconds": int(float(record.lease_duration)),
            "renewTime": now,
            "acquireTime": old.get("acquireTime") if ours else now,
            "leaseTransitions": old.get("leaseTransitions", 0) + (0 if ours else 1),
        }

    async def _tried(self, write: Awaitable[Json], record: LeaderElectionRecord) -> bool:
        until = self._clock.monotonic() + float(record.lease_duration)
        try:
            async with asyncio.timeout(self._patience):
                await write
        except TimeoutError:
            log.warning("lease was not taken or renewed", error=f"no answer within {self._patience:.0f} s")
            return False
        except KubeError as error:
            log.warning("lease was not taken or renewed", error=error.message)
            await self._wait_as_asked(error)
            return False
        self._held = True
        self._tenure.renewed(until)
        return True

    async def _wait_as_asked(self, error: KubeError) -> None:
        """As long as the API server asked, but not until the Lease is lost by waiting alone."""
        if isinstance(error, Temporary) and error.delay:
            await self._clock.sleep(min(error.delay, self._patience))


class LostLeadershipError(Exception):
    """Another operator may lead now: this process must end."""


async def lead(
    kube: Kube,
    clock: Clock,
    namespace: str,
    identity: str,
    seconds: int,
    work: Callable[[Tenure], Awaitable[None]],
) -> None:
    """Wait until this process leads, then run `work`; at its end the Lease is released.

    Raises LostLeadershipError when the Lease could not be renewed for two thirds of `seconds`, or another holds it;
    else what `work` raises.
    """
    leading, lost, tenure = asyncio.Event(), asyncio.Event(), Tenure(clock)

    async def started() -> None:
        leading.set()

    async def stopped() -> None:
        lost.set()
        tenure.end()

    renew_within = max(seconds * 2 / 3, 1.3 * _RETRY_SECONDS)
    lock = _Lock(kube, clock, namespace, identity, renew_within / 2, tenure)
    config = Config(lock, seconds, renew_within, _RETRY_SECONDS, started, stopped)
    election = asyncio.create_task(LeaderElection(config).run(), name="election")
    election.add_done_callback(lambda _: tenure.end())
    try:
        await _first(leading.wait(), election)
        log.info("leading", identity=identity)
        await _first(work(tenure), lost.wait(), lock.taken.wait(), election)
        if lock.taken.is_set():
            raise LostLeadershipError(f"another holds Lease {namespace}/{LEASE_NAME}, which was {identity}'s")
        if lost.is_set() or election.done():
            raise LostLeadershipError(f"{identity} could not renew Lease {namespace}/{LEASE_NAME} in time")
    finally:
        election.cancel()
        await asyncio.wait({election})
        if not lost.is_set():
            # It may have been taken a moment ago, and nobody heard of it.
            await _release(kube, namespace, identity)


async def _first(*steps: Awaitable[Any]) -> None:
    """Wait for the first of `steps` to end and cancel the others but for tasks; raises what it raised."""
    tasks = {step if isinstance(step, asyncio.Task) else asyncio.ensure_future(step) for step in steps}
    made = tasks - {step for step in steps if isinstance(step, asyncio.Task)}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in made:
            task.cancel()
        if made:
            await asyncio.wait(made)
    for task in done:
        task.result()


async def _release(kube: Kube, namespace: str, identity: str) -> None:
    """Give the Lease up, if it is still ours, so that the next one needn't wait. A last renewal may be on its way."""
    for again in reversed(range(_RELEASE_TRIES)):
        try:
            lease = await kube.get(LEASES, namespace, LEASE_NAME)
            if lease["spec"].get("holderIdentity") == identity:
                version = {"resourceVersion": lease["metadata"]["resourceVersion"]}
                body = {"metadata": version, "spec": {"holderIdentity": None}}
                await kube.patch(LEASES, namespace, LEASE_NAME, body)
            return
        except NotFound:
            return
        except Conflict as error:
            if not again:
                log.warning("lease could not be released", error=error.message)
        except KubeError as error:
            log.warning("lease could not be released", error=error.message)
            return
