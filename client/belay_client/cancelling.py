"""`belay cancel`: asks for the end of a delegation, and tells the proof of it step by step (D9)."""

import asyncio
from dataclasses import dataclass

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.delegation import Delegation, DesiredState
from belay_api.meta import ANNOTATION_CANCEL_CASCADE, GROUP
from belay_api.names import subscription_name
from belay_api.transitions import TERMINAL
from belay_client.cluster import Where, cluster
from belay_client.console import EXIT_INTERRUPTED, say
from belay_client.follow import Newest, phase, watched
from belay_client.proving import End, end_of, is_owed, last_line, steps
from belay_kube.client import DELEGATIONS, SUBSCRIPTIONS, Json, Kube
from belay_kube.clock import Clock, SystemClock
from belay_kube.errors import Forbidden, NotFound

_RESOURCE = f"{Delegation.RESOURCE.singular}.{GROUP}"


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    name: str
    cascade: bool = True
    """Whether those that are part of it are cancelled too."""
    wait: bool = False
    timeout: float | None = None
    """Seconds to wait for the proof; None: as long as it takes."""

    def patch(self) -> Json:
        """The merge patch: the cancel, and in the same write what it spares."""
        change: Json = {"spec": {"desiredState": DesiredState.CANCELLED}}
        if not self.cascade:
            change["metadata"] = {"annotations": {ANNOTATION_CANCEL_CASCADE: "false"}}
        return change


async def cancel(where: Where, wanted: Wanted) -> int:
    """Ask for the end of one delegation and, with `wait`, follow it; returns the exit code. Raises ClientError."""
    namespace = where.resolved_namespace()
    async with cluster(where) as kube:
        obj = await kube.get(DELEGATIONS, namespace, wanted.name)
        if phase(obj) not in TERMINAL:
            obj = await kube.patch(DELEGATIONS, namespace, wanted.name, wanted.patch())
            spared = "" if wanted.cascade else ", without those that are part of it"
            print(f"{_RESOURCE}/{wanted.name} is to be cancelled{spared}", flush=True)
            if not wanted.wait:
                return End.STOPPED
        end = end_of(obj)
        if end is None and wanted.wait:
            return await _follow(kube, obj, wanted.timeout, SystemClock())
        print(last_line(obj))
        return End.STOPPED if end is None else end


async def _follow(kube: Kube, obj: Json, timeout: float | None, clock: Clock) -> int:
    name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
    try:
        async with watched(kube, obj, clock) as newest:
            end = await _within(timeout, _Teller(kube, newest, obj["metadata"]["uid"]), clock)
    except asyncio.CancelledError:
        say(f"the cancel of {name} stands; how far it is: belay why {name} -n {namespace}")
        return EXIT_INTERRUPTED
    if end is End.UNPROVEN:
        say(f"{name}: no word that it stopped within {timeout:g}s; the cancel stands: belay why {name} -n {namespace}")
    if end is End.DELETED:
        say(f"{name} was deleted: there is nothing left to tell whether it stopped")
    return end


async def _within(timeout: float | None, teller: "_Teller", clock: Clock) -> End:
    telling = asyncio.create_task(teller.run())
    late = asyncio.create_task(clock.sleep(timeout)) if timeout is not None else None
    try:
        await asyncio.wait({telling, late} if late else {telling}, return_when=asyncio.FIRST_COMPLETED)
        return telling.result() if telling.done() else End.UNPROVEN
    finally:
        for task in filter(None, (telling, late)):
            task.cancel()
        await asyncio.wait(filter(None, (telling, late)))


class _Teller:
    """Prints each step of the proof once, as it comes."""

    def __init__(self, kube: Kube, newest: Newest, uid: str) -> None:
        self._kube = kube
        self._newest = newest
        self._uid = uid
        self._told: set[str] = set()
        self._explained = False

    async def run(self) -> End:
        """Until there is nothing to wait for. Raises KubeError."""
        while True:
            obj, gone = await self._newest.next()
            if obj["metadata"].get("uid") != self._uid:
                return End.DELETED
            self._tell(obj)
            if (end := end_of(obj)) is not None:
                print(last_line(obj))
                return end
            if gone:
                return End.DELETED
            await self._explain(obj)

    def _tell(self, obj: Json) -> None:
        for step in steps(obj):
            if step.word not in self._told:
                self._told.add(step.word)
                print(step.line(), flush=True)

    async def _explain(self, obj: Json) -> None:
        """Say once whom it waits for, if that session isn't there to be told."""
        if self._explained or not is_owed(obj) or "delivered" in self._told:
            return
        self._explained = True
        agent, session = obj["spec"]["agentRef"]["name"], obj["status"]["sessionId"]
        if await _is_away(self._kube, obj["metadata"]["namespace"], agent, session):
            print(f"session {session} of agent {agent} is not attached: it is told when it returns", flush=True)


async def _is_away(kube: Kube, namespace: str, agent: str, session: str) -> bool:
    """Whether the session isn't live; False where that may not be looked at."""
    try:
        row = await kube.get(SUBSCRIPTIONS, namespace, subscription_name(agent, session))
    except NotFound:
        return True
    except Forbidden:
        return False
    return (row.get("status") or {}).get("phase") != SubscriptionPhase.LIVE
