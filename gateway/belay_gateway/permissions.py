"""Permissions: what a session asks people, asks for again, and no longer asks (C4, C5).

Answered on live reads. What an action causes to be said is said before its ack.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from belay_api.actions import Action, ReplayPermissions, RequestPermission, Resolved
from belay_api.messages import Ack, ErrorCode
from belay_api.permission_words import PermissionReason, permission_resolved, permission_superseded
from belay_api.times import to_wire
from belay_gateway import permitting
from belay_gateway.acting import Acting, who
from belay_gateway.attempts import FENCED
from belay_gateway.bucket import Buckets
from belay_gateway.decisions import Decisions
from belay_gateway.inbound import Other
from belay_gateway.metrics import Metrics
from belay_gateway.presence import Presence
from belay_gateway.sockets import Session
from belay_gateway.tasks import KeyedLocks
from belay_gateway.verdicts import Asker, Refusal
from belay_kube.client import AGENTS, DELEGATIONS, PERMISSION_REQUESTS, Json, Kube, pages
from belay_kube.clock import Clock
from belay_kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, KubeError, NotFound, TooLarge

_ATTEMPTS = 8
_NEW_PER_SECOND, _NEW_AT_ONCE = 1.0, 128.0
"""New requests of one agent: they are kept for long, whether or not anybody decides them."""
_SINGLY = 8
_TOO_FAST = Refusal(ErrorCode.RATE_LIMITED, "this agent asks for too many permissions at once: wait a minute")
_BUSY = Refusal(ErrorCode.UNAVAILABLE, "it changes too often just now: try again")


class Permissions:
    """Carries out the three actions."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        identity: str,
        decisions: Decisions,
        presence: Presence,
        acting: Acting,
        metrics: Metrics,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._identity = identity
        self._decisions = decisions
        self._presence = presence
        self._acting = acting
        self._metrics = metrics
        self._locks = KeyedLocks()
        self._budgets = Buckets(clock, _NEW_PER_SECOND, _NEW_AT_ONCE)

    def serve(self, others: dict[type[Action], Other]) -> None:
        """Take over the actions that are about permissions."""
        others[RequestPermission] = self.request
        others[ReplayPermissions] = self.replay
        others[Resolved] = self.resolved

    # --- actions -----------------------------------------------------------------------------------------------

    async def request(self, session: Session, action: RequestPermission) -> Ack | Refusal:
        """Ask people; the ack names the PermissionRequest. The same question again is the same object."""
        return await self._settle(session, lambda: self._request(session, action))

    async def replay(self, session: Session, action: ReplayPermissions) -> Ack | Refusal:
        """Say again what was decided on what each id means now, to this socket; of the rest, nothing."""
        return await self._settle(session, lambda: self._replay(session, action))

    async def resolved(self, session: Session, action: Resolved) -> Ack | Refusal:
        """The agent no longer asks: nobody can decide it any more."""
        return await self._settle(session, lambda: self._resolved(session, action))

    async def _settle(self, session: Session, step: Callable[[], Awaitable[Ack | Refusal]]) -> Ack | Refusal:
        """One after another for one session; decided again when somebody wrote in between."""
        async with self._locks.hold(who(session)):
            with self._acting.writing(session):
                try:
                    return await self._until_it_stands(session, step)
                except NotFound as error:
                    return Refusal(ErrorCode.NOT_FOUND, error.message[:500])
                except KubeError as error:
                    return _refusal_of(error)

    async def _until_it_stands(self, session: Session, step: Callable[[], Awaitable[Ack | Refusal]]) -> Ack | Refusal:
        for _ in range(_ATTEMPTS):
            if not await self._presence.holds(session):
                return FENCED
            try:
                return await step()
            except (Conflict, AlreadyExists):
                self._metrics.conflicts.labels("permissionrequests").inc()
        return _BUSY

    async def _request(self, session: Session, action: RequestPermission) -> Ack | Refusal:
        asker = self._asker(session)
        if action.delegation and (refusal := await self._not_held(session, asker, action.delegation)):
            return refusal
        name = permitting.name_of(asker, action)
        if not self._budgets.take(session.agent) and not await self._exists(session, name):
            return _TOO_FAST
        same_id, unsettled = await asyncio.gather(
            self._of(session, f"spec.requestId={action.request_id}"), self._of(session, permitting.UNSETTLED)
        )
        verdict = permitting.judge(name, same_id, unsettled, self._clock.now())
        if isinstance(verdict, Refusal):
            return verdict
        if isinstance(verdict, permitting.New):
            # Made before the others end: refused, by a quota say, it leaves the old question as it was.
            await self._make(session, asker, action, verdict)
            await self._supersede(name, same_id)
        else:
            await self._supersede(name, same_id)
            await self._ask_again(session, verdict)
        return Ack(ref=action.ref, name=name)

    async def _make(self, session: Session, asker: Asker, action: RequestPermission, new: permitting.New) -> None:
        agent = await self._kube.get(AGENTS, session.agent.namespace, session.agent.name)
        request = permitting.body(asker, agent, action, new.at)
        self._decisions.note_asked(await self._kube.create(PERMISSION_REQUESTS, session.agent.namespace, request))

    async def _exists(self, session: Session, name: str) -> bool:
        try:
            await self._kube.get(PERMISSION_REQUESTS, session.agent.namespace, name)
        except NotFound:
            return False
        return True

    async def _not_held(self, session: Session, asker: Asker, name: str) -> Refusal | None:
        try:
            delegation = await self._kube.get(DELEGATIONS, session.agent.namespace, name)
        except NotFound:
            delegation = None
        return permitting.not_held(asker, name, delegation)

    async def _supersede(self, name: str, same_id: list[Json]) -> None:
        """Whatever else the id meant is no longer asked, and what was decided on it is no answer to this. Raises
        Conflict when it was decided just now."""
        for other in same_id:
            if other["metadata"]["name"] == name:
                continue
            if permitting.is_open(other):
                await self._end(other, PermissionReason.SUPERSEDED, permission_superseded(name))
            else:
                self._decisions.note_told(other)

    async def _ask_again(self, session: Session, known: permitting.Known) -> None:
        if known.again:
            status = {"askedAgainTime": to_wire(known.again)}
            await self._kube.patch_status(PERMISSION_REQUESTS, known.request, status)
        if permitting.is_open(known.request):
            self._decisions.note_asked(known.request)
        self._decisions.tell(session, known.request)

    async def _replay(self, session: Session, action: ReplayPermissions) -> Ack:
        latest = await self._latest(session, dict.fromkeys(action.request_ids))
        for request in latest.values():
            if request:
                self._decisions.tell(session, request)
        return Ack(ref=action.ref)

    async def _latest(self, session: Session, ids: dict[str, None]) -> dict[str, Json | None]:
        """What each of these ids means now; no more than that is held, however much was asked before."""
        found: dict[str, Json | None] = dict.fromkeys(ids)
        each = [f"spec.requestId={request_id}" for request_id in ids]
        # Few are looked up one by one; for many, all that the session ever asked is paged through once.
        for selectors in [[one] for one in each] if len(each) <= _SINGLY else [[]]:
            async for request in self._paged(session, *selectors):
                request_id = request["spec"]["requestId"]
                if request_id in found:
                    known = found[request_id]
                    found[request_id] = permitting.newest((known, request) if known else (request,))
        return found

    async def _resolved(self, session: Session, action: Resolved) -> Ack | Refusal:
        same_id = await self._of(session, f"spec.requestId={action.request_id}")
        latest = permitting.newest(same_id)
        if latest is None:
            return Refusal(ErrorCode.NOT_FOUND, f"this session asked nothing with request_id {action.request_id}")
        for request in filter(permitting.is_open, same_id):
            await self._end(request, PermissionReason.RESOLVED, permission_resolved())
        return Ack(ref=action.ref, name=latest["metadata"]["name"])

    async def _end(self, request: Json, reason: PermissionReason, message: str) -> None:
        status = permitting.ended(request, reason, message, self._clock.now())
        await self._kube.patch_status(PERMISSION_REQUESTS, request, status)

    async def _of(self, session: Session, *selectors: str) -> list[Json]:
        """The session's requests, by a live read."""
        return [request async for request in self._paged(session, *selectors)]

    async def _paged(self, session: Session, *selectors: str) -> AsyncIterator[Json]:
        own = f"spec.agentRef.name={session.agent.name},spec.sessionId={session.session_id}"
        query = {"fieldSelector": ",".join((own, *selectors))}
        async for page in pages(self._kube, PERMISSION_REQUESTS, session.agent.namespace, **query):
            for request in page["items"]:
                yield request

    def _asker(self, session: Session) -> Asker:
        return Asker(session.agent.name, session.session_id, self._identity)


def _refusal_of(error: KubeError) -> Refusal:
    """What a session is told of an answer of the API server about its question."""
    match error:
        case TooLarge():
            return Refusal(ErrorCode.TOO_LARGE, "too large to be stored: shorten the description or the input preview")
        case Forbidden():
            return Refusal(ErrorCode.FORBIDDEN, f"the question can't be kept: {error.message}"[:500])
        case Invalid():
            return Refusal(ErrorCode.INVALID, error.message[:500])
        case _:
            return Refusal(ErrorCode.UNAVAILABLE, f"the API server can't be reached, try again: {error.message}"[:500])
