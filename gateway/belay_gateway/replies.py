"""What a session does by HTTP instead of on its socket: the same verdicts and the same writes, for a session that has a
socket, on whichever gateway; and the goodbye that somebody says for it (D10, D12, C7).
"""

from dataclasses import dataclass
from typing import Final

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.frames import Complete, ErrorCode, Fail, Heartbeat, OnAttempt, ProgressMade
from belay_api.names import Ref, subscription_name
from belay_api.reasons import SubscriptionReason
from belay_api.times import to_wire
from belay_api.transitions import Phase
from belay_gateway.access import Access
from belay_gateway.acting import Acting
from belay_gateway.agents import Agents
from belay_gateway.auth import User
from belay_gateway.inbound import Inbound, pending_progress
from belay_gateway.objects import phase_in
from belay_gateway.refused import Refused
from belay_gateway.sockets import Session, Sockets
from belay_gateway.verdicts import Asker, Case, Refusal, Verdict, decide
from belay_gateway.writes import Writes
from belay_kube.client import DELEGATIONS, SUBSCRIPTIONS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import Conflict, NotFound

_CONFLICTS = 8
_BEATS: Final = (Heartbeat, ProgressMade)
_PATIENT: Final = (Complete, Fail)


@dataclass(frozen=True)
class Attached:
    """A session as its row has it: `token` is the epoch of its lease, `gateway` the process that has its socket."""

    agent: Ref
    session_id: str
    token: str
    gateway: str


@dataclass(frozen=True)
class Replies:
    """Carries out what sessions ask for by HTTP."""

    kube: Kube
    clock: Clock
    access: Access
    agents: Agents
    sockets: Sockets
    acting: Acting
    writes: Writes
    inbound: Inbound

    async def act(self, caller: User, agent: Ref, session_id: str, action: OnAttempt) -> Json:
        """Carry out an action on one attempt; returns the delegation after it. Raises Refused, KubeError."""
        attached = await self._attached(caller, agent, session_id)
        here = self._here(attached)
        if here:
            self.acting.enter(here, action.name)
        try:
            await self._settle(attached, here, action)
        finally:
            if here:
                self.acting.leave(here, action.name)
        return await self.kube.get(DELEGATIONS, agent.namespace, action.name)

    async def _settle(self, attached: Attached, here: Session | None, action: OnAttempt) -> None:
        asker = Asker(attached.agent.name, attached.session_id, attached.gateway)
        seen: list[Json] = []

        def verdict_on(delegation: Json) -> Verdict:
            seen[:] = [delegation]
            if not here and isinstance(action, _BEATS) and phase_in(delegation) == Phase.DISPATCHED:
                # The gateway with the socket would take the offer back from the very session that beats.
                return Refusal(ErrorCode.NOT_HOLDER, "not accepted yet: accept it on the session's socket first")
            threshold = self.inbound.threshold(attached.agent, delegation)
            return decide(
                Case(
                    delegation,
                    asker,
                    action,
                    self.clock.now(),
                    threshold,
                    pending_progress(here, action) if here else None,
                )
            )

        ref = Ref(attached.agent.namespace, action.name)
        patient, what = isinstance(action, _PATIENT), action.__class__.__name__
        verdict = await self.writes.settle(ref, what, verdict_on, patient=patient, may=lambda: self._still(attached))
        if here:
            self.inbound.remember(here, action, verdict)
        if isinstance(verdict, Refusal):
            self.inbound.record(attached.agent, attached.session_id, action, verdict, seen)
            raise Refused(verdict.code, verdict.message)

    async def _attached(self, caller: User, agent: Ref, session_id: str) -> Attached:
        """The session, if it is the caller's and has a socket. Raises Refused, KubeError."""
        await self.check_agent(caller, agent)
        status = ((await self._row(agent, session_id)) or {}).get("status") or {}
        if status.get("user") not in (None, caller.name):
            sentence = f"session {session_id} of agent {agent} is another user's: act as the one who attached it"
            raise Refused(ErrorCode.FORBIDDEN, sentence)
        if status.get("phase") != SubscriptionPhase.LIVE:
            sentence = f"session {session_id} of agent {agent} has no socket: attach it at /cable first"
            raise Refused(ErrorCode.NOT_HOLDER, sentence)
        return Attached(agent, session_id, status["token"], status.get("holderIdentity") or "")

    async def check_agent(self, caller: User, agent: Ref) -> None:
        """See that the caller may speak as this agent: its owner, or `attach`. Raises Refused, KubeError."""
        seen = await self.agents.find(agent)
        if not await self.access.may_attach(caller, agent, seen.owners if seen else ()):
            sentence = f"{caller.name} may not act as agent {agent}: needs a place in its owners or the verb attach"
            raise Refused(ErrorCode.FORBIDDEN, sentence)
        if seen is None:
            raise Refused(ErrorCode.NOT_FOUND, f"agent {agent} doesn't exist: create it with kubectl apply")

    async def _still(self, attached: Attached) -> Refusal | None:
        """Asked before each write: nobody took the session over since."""
        row = await self._row(attached.agent, attached.session_id)
        if ((row or {}).get("status") or {}).get("token") == attached.token:
            return None
        return Refusal(ErrorCode.SUPERSEDED, "another socket has this session now: stop")

    def _here(self, attached: Attached) -> Session | None:
        session = self.sockets.session(attached.agent, attached.session_id)
        return session if session and session.token == attached.token else None

    async def _row(self, agent: Ref, session_id: str) -> Json | None:
        try:
            return await self.kube.get(SUBSCRIPTIONS, agent.namespace, subscription_name(agent.name, session_id))
        except NotFound:
            return None

    # --- goodbye -----------------------------------------------------------------------------------------------

    async def goodbye(self, caller: User, agent: Ref, session_id: str) -> None:
        """The session will not come back: its row says so, and the gateway that has its socket closes it (C7).

        Said by the user who attached it, or by one whom RBAC lets delete the row. Raises Refused, KubeError.
        """
        await self.check_agent(caller, agent)
        for _ in range(_CONFLICTS):
            row = await self._row(agent, session_id)
            if row is None:
                raise Refused(ErrorCode.NOT_FOUND, f"agent {agent} has no session {session_id}: nothing to end")
            await self._check_may_end(caller, agent, row)
            status = farewell(row, to_wire(self.clock.now()))
            if status is None:
                return
            try:
                await self.kube.patch_status(SUBSCRIPTIONS, row, status)
            except (Conflict, NotFound):
                continue
            return
        raise Refused(ErrorCode.UNAVAILABLE, f"session {session_id} of agent {agent} changes too often: try again")

    async def _check_may_end(self, caller: User, agent: Ref, row: Json) -> None:
        if (row.get("status") or {}).get("user") == caller.name:
            return
        name = row["metadata"]["name"]
        if not await self.access.may(caller, "delete", "agentsubscriptions", agent.namespace, name):
            sentence = f"this session is another user's: {caller.name} lacks the verb delete on agentsubscriptions"
            raise Refused(ErrorCode.FORBIDDEN, f"{sentence}/{name} in namespace {agent.namespace}")


def farewell(row: Json, at: str) -> Json | None:
    """The status of a row whose session said goodbye at `at`; None when it did, or is given up. Pure."""
    status = row.get("status") or {}
    if status.get("phase") == SubscriptionPhase.EXPIRED or status.get("reason") == SubscriptionReason.GOODBYE:
        return None
    lost = status.get("disconnectedTime") if status.get("phase") == SubscriptionPhase.DISCONNECTED else None
    return {
        "phase": SubscriptionPhase.DISCONNECTED,
        "reason": SubscriptionReason.GOODBYE,
        "disconnectedTime": lost or at,
    }
