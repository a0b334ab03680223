"""A gateway played by the test, with the gateway's own account: its Lease, the rows of its sessions, their answers."""

import uuid
from contextlib import suppress
from typing import Any

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.meta import (
    ANNOTATION_TOUCH_SECONDS,
    API_VERSION,
    COMPONENT_GATEWAY,
    LABEL_COMPONENT,
)
from belay_api.names import subscription_name
from belay_api.reasons import SubscriptionReason
from belay_api.times import to_wire
from belay_api.transitions import Phase
from belay_kube.client import DELEGATIONS, SUBSCRIPTIONS, Kube
from belay_kube.clock import Clock
from belay_kube.errors import AlreadyExists, NotFound
from belay_kube.lease import OwnLease

BELAY = "belay"
_DURATION = 20
_CLAIM_TRIES = 8


class PlayedSession:
    """One socket of an agent: its row is Live until it drops."""

    def __init__(self, gateway: "PlayedGateway", agent: str, session: str) -> None:
        self._gateway = gateway
        self.agent = agent
        self.id = session
        self.row = subscription_name(agent, session)
        self.renewing = True
        """Whether its gateway touches its row."""

    async def attach(self) -> None:
        """Create the row, or take it over; a row that the operator removes just then is made anew, as gateways do."""
        for _ in range(_CLAIM_TRIES):
            try:
                await self._claim()
            except NotFound:
                continue
            break
        self.renewing = True

    async def _claim(self) -> None:
        spec = {"agentRef": {"name": self.agent}, "sessionId": self.id}
        body = {"apiVersion": API_VERSION, "kind": "AgentSubscription", "metadata": {"name": self.row}, "spec": spec}
        with suppress(AlreadyExists):
            await self._gateway.kube.create(SUBSCRIPTIONS, self._gateway.namespace, body)
        now = to_wire(self._gateway.clock.now())
        await self._row(
            phase=str(SubscriptionPhase.LIVE),
            holderIdentity=self._gateway.identity,
            token=uuid.uuid4().hex,
            user="somebody",
            acquireTime=now,
            renewTime=now,
            disconnectedTime=None,
            reason=None,
        )

    async def touch(self) -> None:
        """Renew the row."""
        if self.renewing:
            await self._row(renewTime=to_wire(self._gateway.clock.now()))

    async def drop(self, reason: SubscriptionReason = SubscriptionReason.CONNECTION_LOST) -> None:
        """The socket is gone, and its gateway says so."""
        self.renewing = False
        now = to_wire(self._gateway.clock.now())
        await self._row(phase=str(SubscriptionPhase.DISCONNECTED), disconnectedTime=now, reason=str(reason))

    def crash(self) -> None:
        """The socket is gone, and nobody says so: the row stays as it is."""
        self.renewing = False

    async def accept(self, name: str) -> None:
        """Take an offered delegation."""
        now = to_wire(self._gateway.clock.now())
        await self.write(
            name, phase=str(Phase.IN_PROGRESS), sessionId=self.id, gateway=self._gateway.identity, acceptedTime=now
        )

    async def beat(self, name: str) -> None:
        """Say that work goes on."""
        await self.write(name, lastHeartbeatTime=to_wire(self._gateway.clock.now()))

    async def hand_back(self, name: str, reason: str, message: str = "no luck") -> None:
        """Give work up, as `fail` with attempts left, `release` and a `resume` without it do."""
        await self.write(name, reason=reason, message=message)

    async def wedge(self, *, unresponsive: bool = True) -> None:
        """Its gateway says whether the session has work that it doesn't answer for."""
        await self._row(unresponsive=unresponsive)

    async def complete(self, name: str) -> None:
        """Hand in a result."""
        now = to_wire(self._gateway.clock.now())
        await self.write(name, phase=str(Phase.COMPLETED), reason="Completed", completionTime=now, result={"text": "x"})

    async def write(self, name: str, **status: Any) -> None:
        """Write a delegation's status as it is now; raises Conflict when somebody wrote in between."""
        kube, namespace = self._gateway.kube, self._gateway.namespace
        await kube.patch_status(DELEGATIONS, await kube.get(DELEGATIONS, namespace, name), status)

    async def _row(self, **status: Any) -> None:
        kube, namespace = self._gateway.kube, self._gateway.namespace
        await kube.patch(SUBSCRIPTIONS, namespace, self.row, {"status": status}, subresource="status")


class PlayedGateway:
    """One gateway process: a Lease, and sessions in one namespace."""

    def __init__(self, kube: Kube, clock: Clock, namespace: str, touch_seconds: int = 15) -> None:
        self.kube = kube
        self.clock = clock
        self.namespace = namespace
        self.identity = f"gateway-{uuid.uuid4().hex[:8]}"
        self.alive = True
        self.sessions: list[PlayedSession] = []
        self._annotations = {ANNOTATION_TOUCH_SECONDS: str(touch_seconds)}
        labels = {LABEL_COMPONENT: COMPONENT_GATEWAY}
        self._lease = OwnLease(kube, clock, BELAY, self.identity, labels, _DURATION)

    async def attach(self, agent: str, session: str) -> PlayedSession:
        """A new socket."""
        made = PlayedSession(self, agent, session)
        await made.attach()
        self.sessions.append(made)
        return made

    async def renew(self) -> None:
        """Renew the Lease and every row, unless it was killed."""
        if self.alive:
            await self._lease.renew(self._annotations)
            for session in self.sessions:
                await session.touch()

    def kill(self) -> None:
        """As SIGKILL: it says nothing any more."""
        self.alive = False

    async def shut_down(self) -> None:
        """As SIGTERM: it gives its Lease up."""
        self.alive = False
        await self._lease.release()
