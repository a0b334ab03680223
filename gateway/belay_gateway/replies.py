"""What a session does by HTTP instead of on its socket: the same verdicts and the same writes, for a session that has a
socket, on whichever gateway; and the goodbye that somebody says for it (D10, D12, C7).
"""

import asyncio
from dataclasses import dataclass

from belay_api.actions import OnAttempt
from belay_api.agentsubscription import SubscriptionPhase
from belay_api.messages import ErrorCode
from belay_api.names import Ref, subscription_name
from belay_api.reasons import SubscriptionReason
from belay_api.times import to_wire
from belay_gateway.access import Access
from belay_gateway.acting import Acting
from belay_gateway.agents import Agents
from belay_gateway.attempts import FENCED, IN_FLIGHT, TOO_MANY, Attempts, Outcome, Speaker
from belay_gateway.auth import User
from belay_gateway.refused import Refused
from belay_gateway.rows import Lease, lease_of, said_goodbye
from belay_gateway.sockets import Session, Sockets
from belay_gateway.tasks import Tasks
from belay_gateway.verdicts import Refusal
from belay_kube.client import SUBSCRIPTIONS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import Conflict, NotFound
from belay_kube.finding import find
from belay_kube.logs import also

_CONFLICTS = 8


@dataclass(frozen=True)
class Replies:
    """Carries out what sessions ask for by HTTP."""

    kube: Kube
    clock: Clock
    access: Access
    agents: Agents
    sockets: Sockets
    acting: Acting
    attempts: Attempts
    tasks: Tasks
    gateway: str

    async def act(self, caller: User, agent: Ref, session_id: str, action: OnAttempt) -> Json:
        """Carry out an action on one attempt; returns the delegation it was decided on or, after a write, as it was
        written, which is the holder's own. Raises Refused, KubeError."""
        also(agent=agent, session=session_id)
        await self.check_agent(caller, agent)
        speaker = self._here(caller, agent, session_id) or await self._elsewhere(caller, agent, session_id)
        here = speaker.here
        if here:
            if here.in_flight.total() >= IN_FLIGHT:
                raise Refused(TOO_MANY.code, TOO_MANY.message)
            self.acting.enter(here, action.name)
        # In a task of its own: it outlives a caller who hangs up, and a new socket of the session waits for it (P5).
        work = self.tasks.spawn(self._in_turn(speaker, action), f"{action.__class__.__name__} by HTTP")
        outcome = await asyncio.shield(work)
        if isinstance(outcome.verdict, Refusal):
            raise Refused(outcome.verdict.code, outcome.verdict.message)
        if outcome.delegation is None:
            raise Refused(ErrorCode.NOT_FOUND, f"there is no delegation {action.name} (any more): stop working on it")
        return outcome.delegation

    async def _in_turn(self, speaker: Speaker, action: OnAttempt) -> Outcome:
        try:
            async with self.acting.turn(speaker.who, action.name):
                return await self.attempts.act(speaker, action)
        finally:
            if speaker.here:
                self.acting.leave(speaker.here, action.name)

    def _here(self, caller: User, agent: Ref, session_id: str) -> Speaker | None:
        """The session, if its socket is here and is the one that counts. Raises Refused if it is another user's."""
        here = self.sockets.session(agent, session_id)
        if here is None or here.fenced:
            return None
        _check_own(caller, agent, session_id, here.user.name)
        return self._speaker(caller, agent, session_id, here.token, self.gateway, here)

    async def _elsewhere(self, caller: User, agent: Ref, session_id: str) -> Speaker:
        """The session, as its row says that it has a socket. Raises Refused, KubeError."""
        status = ((await self._row(agent, session_id)) or {}).get("status") or {}
        _check_own(caller, agent, session_id, status.get("user"))
        if refused := no_socket(status, agent, session_id):
            raise Refused(refused.code, refused.message)
        return self._speaker(caller, agent, session_id, status["token"], status.get("holderIdentity") or "", None)

    def _speaker(
        self, caller: User, agent: Ref, session_id: str, token: str, gateway: str, here: Session | None
    ) -> Speaker:
        async def may() -> Refusal | None:
            row = await self._row(agent, session_id)
            return no_longer(row, token) or await self.attempts.lost_right(caller, agent)

        return Speaker(agent, session_id, gateway, here, may)

    async def check_agent(self, caller: User, agent: Ref) -> None:
        """See that the caller may speak as this agent: its owner, or `attach`. Raises Refused, KubeError."""
        seen = await self.agents.find(agent)
        if not await self.access.may_attach(caller, agent, seen.owners if seen else ()):
            sentence = f"{caller.name} may not act as agent {agent}: needs a place in its owners or the verb attach"
            raise Refused(ErrorCode.FORBIDDEN, sentence)
        if seen is None:
            raise Refused(ErrorCode.NOT_FOUND, f"agent {agent} doesn't exist: create it with kubectl apply")

    async def _row(self, agent: Ref, session_id: str) -> Json | None:
        return await find(self.kube, SUBSCRIPTIONS, agent.namespace, subscription_name(agent.name, session_id))

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


def no_socket(status: Json, agent: Ref, session_id: str) -> Refusal | None:
    """Why a session whose row has this status may say nothing by HTTP. Pure."""
    if status.get("phase") == SubscriptionPhase.LIVE:
        return None
    if status.get("reason") == SubscriptionReason.GATEWAY_SHUTDOWN:
        sentence = f"session {session_id} of agent {agent} was sent to another gateway: try again once it is attached"
        return Refusal(ErrorCode.UNAVAILABLE, sentence)
    sentence = f"session {session_id} of agent {agent} has no socket: attach it at /cable first"
    return Refusal(ErrorCode.NOT_HOLDER, sentence)


def no_longer(row: Json | None, token: str) -> Refusal | None:
    """Why the session of this epoch may write nothing more, if it may not: it was taken over, said goodbye, or was
    given up. A socket that was merely lost takes nothing back. Pure."""
    match lease_of(row, token):
        case Lease.HELD:
            return None
        case Lease.TAKEN:
            return FENCED
    status = (row or {}).get("status") or {}
    ended = status.get("phase") != SubscriptionPhase.DISCONNECTED or said_goodbye(row, token)
    return Refusal(ErrorCode.NOT_HOLDER, "the session has ended: attach it at /cable first") if ended else None


def _check_own(caller: User, agent: Ref, session_id: str, user: str | None) -> None:
    if user not in (None, caller.name):
        sentence = f"session {session_id} of agent {agent} is another user's: act as the one who attached it"
        raise Refused(ErrorCode.FORBIDDEN, sentence)
