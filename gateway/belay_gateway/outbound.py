"""Offers: Dispatched delegations become frames at the sockets that may take them.

The Sink of the reader of `status.phase=Dispatched`. An offer goes once to each socket, again after eight seconds
without a sign of life (D7), and is revoked when the delegation left that phase by somebody else's hand.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from belay_api.messages import Dispatch, Revoked
from belay_api.names import Ref
from belay_api.times import from_wire
from belay_api.transitions import TERMINAL, Phase
from belay_gateway.hints import Hints
from belay_gateway.objects import agent_of, attempt_of, phase_in, ref_of
from belay_gateway.patience import patiently
from belay_gateway.showing import Showing
from belay_gateway.sockets import Offer, Session, Sockets
from belay_gateway.tasks import Tasks
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
from belay_kube.finding import find
from belay_kube.logs import about

log = structlog.get_logger(__name__)

OFFER_AGAIN_SECONDS = 8.0
_TICK_SECONDS = 1.0
_READS_AT_ONCE = 8
_TAKEN: Final = TERMINAL | {Phase.IN_PROGRESS, Phase.STUCK}


class Offers:
    """Knows what is on offer, and to whom it was shown."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        sockets: Sockets,
        threshold: Callable[[Ref, Json], int],
        is_unfit: Callable[[Session], bool],
        hints: Hints,
        tasks: Tasks,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._hints = hints
        self._tasks = tasks
        self._sockets = sockets
        self._threshold = threshold
        self._is_unfit = is_unfit
        self._open: dict[Ref, dict[str, Json]] = {}
        self._agent_of: dict[Ref, Ref] = {}
        self._showing = Showing(self._show)
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    def get(self, ref: Ref) -> Json | None:
        """What is on offer under that name, as last seen."""
        agent = self._agent_of.get(ref)
        return self._open[agent].get(ref.name) if agent else None

    async def run(self) -> None:
        """Offer again what nobody reacted to, until cancelled."""
        while True:
            await self._clock.sleep(_TICK_SECONDS)
            self._showing.fill_all()
            for session in self._sockets:
                if session.offers:
                    self._offer_again(session)

    def offer_all(self, session: Session) -> None:
        """Everything that is on offer to this session, unless it was shown already."""
        for delegation in tuple(self._open.get(session.agent, {}).values()):
            self._offer(session, delegation)

    # --- Sink --------------------------------------------------------------------------------------------------

    def changed(self, obj: Json) -> None:
        """On offer, or changed while it is."""
        agent = agent_of(obj)
        obj["metadata"].pop("managedFields", None)
        self._open.setdefault(agent, {})[obj["metadata"]["name"]] = obj
        self._agent_of[ref_of(obj)] = agent
        for session in self._sockets.of(agent):
            self._offer(session, obj)

    def deleted(self, obj: Json) -> None:
        """No longer on offer: accepted, ended, queued again or deleted."""
        agent = self._agent_of.pop(ref_of(obj), None)
        if agent is None:
            return
        name = obj["metadata"]["name"]
        self._open[agent].pop(name, None)
        if not self._open[agent]:
            del self._open[agent]
        shown = [(session, at) for session in self._sockets.of(agent) if (at := self._withdraw(session, name))]
        if shown:
            self._revoke(Ref(agent.namespace, name), shown)

    def synced(self) -> None:
        """Nothing waits for it here."""

    def lost(self) -> None:
        """What was seen stays in use: an accept of an old offer is refused by the API server."""

    # --- one session -------------------------------------------------------------------------------------------

    def _offer(self, session: Session, delegation: Json) -> None:
        shown = session.offers.get(delegation["metadata"]["name"])
        if self._may_take(session, delegation) and (shown is None or shown.attempt != attempt_of(delegation)):
            self._showing.soon(session, delegation["metadata"]["name"])

    def _offer_again(self, session: Session) -> None:
        open_here = self._open.get(session.agent, {})
        before = self._clock.monotonic() - OFFER_AGAIN_SECONDS
        for name in [name for name, shown in session.offers.items() if shown.at <= before]:
            if name in open_here and not session.in_flight[name]:
                self._showing.soon(session, name)

    def _may_take(self, session: Session, delegation: Json) -> bool:
        addressed = delegation["spec"].get("sessionId")
        there = session.is_open and session.is_ready and not session.leaving
        return there and addressed in (None, session.session_id) and not self._is_unfit(session)

    def _show(self, session: Session, name: str, sent: Callable[[], None]) -> None:
        delegation = self._open.get(session.agent, {}).get(name)
        if delegation is None or not self._may_take(session, delegation):
            return
        frame = dispatch_frame(delegation, self._threshold(session.agent, delegation))
        session.offers[frame.name] = Offer(frame.attempt, self._clock.monotonic())
        session.say(frame, sent)

    def _withdraw(self, session: Session, name: str) -> int | None:
        """Show it no more; the attempt that was shown, if the session must hear of that."""
        session.pending.pop(name, None)
        shown = session.offers.pop(name, None)
        # Whoever has an action on it under way is answered by that: it won, or is told why not.
        return shown.attempt if shown and not session.in_flight[name] else None

    def _revoke(self, ref: Ref, shown: list[tuple[Session, int]]) -> None:
        now = self._hints.newest(ref)
        if now and all(is_taken(now, attempt) for _, attempt in shown):
            self._tell_revoked(shown, now, ref.name)
        else:
            with about(delegation=ref):
                self._tasks.spawn(self._look_and_revoke(ref, shown), "reading an offer again")

    async def _look_and_revoke(self, ref: Ref, shown: list[tuple[Session, int]]) -> None:
        """A session may have taken it by HTTP through another gateway: it must not be told to leave what it holds."""

        async def read() -> Json | None:
            return await find(self._kube, DELEGATIONS, ref.namespace, ref.name)

        try:
            async with self._reads:
                now = await patiently(self._clock, read, lambda: any(session.is_open for session, _ in shown))
        except KubeError as error:
            # Whoever accepts it all the same is told then.
            log.warning("an offer could not be read again", delegation=str(ref), error=error.message[:300])
            return
        still = [(session, at) for session, at in shown if ref.name not in {*session.offers, *session.in_flight}]
        self._tell_revoked(still, now, ref.name)

    def _tell_revoked(self, shown: list[tuple[Session, int]], now: Json | None, name: str) -> None:
        for session, attempt in shown:
            if not (now and is_taken(now, attempt) and now["status"].get("sessionId") == session.session_id):
                session.say(Revoked(name=name, attempt=attempt))


def is_taken(delegation: Json, attempt: int) -> bool:
    """Whether that attempt is nobody else's to take any more. Pure."""
    return attempt_of(delegation) == attempt and phase_in(delegation) in _TAKEN


def dispatch_frame(delegation: Json, threshold: int) -> Dispatch:
    """The offer of one delegation."""
    meta, spec = delegation["metadata"], delegation["spec"]
    task = spec["task"]
    return Dispatch(
        name=meta["name"],
        namespace=meta["namespace"],
        agent=spec["agentRef"]["name"],
        attempt=attempt_of(delegation),
        prompt=task["prompt"],
        inputs=task.get("inputs"),
        topic=spec.get("topic"),
        requester=spec.get("requester"),
        deadline=_deadline(delegation),
        stuck_threshold_seconds=threshold,
        addressed=spec.get("sessionId") is not None,
    )


def _deadline(delegation: Json) -> datetime | None:
    return from_wire((delegation.get("status") or {}).get("deadline"))
