"""What sessions of this gateway hold, and the word to a holder when somebody else ended it (D3, D9).

The Sink of the reader of `status.gateway=<me>`. An end is told once to a socket; that it was put on the wire is
recorded as CancelDelivered, and only the agent's own answer as CancelAcknowledged.
"""

from collections.abc import Callable

import structlog

from belay_api.messages import Cancel
from belay_api.names import Ref
from belay_api.reasons import Reason
from belay_api.retrying import is_handed_back
from belay_api.transitions import TERMINAL, Phase
from belay_gateway.held import cancel_frame, is_delivered, is_unacknowledged
from belay_gateway.objects import agent_of, attempt_of, ended_by_others, phase_in, ref_of
from belay_gateway.patience import patiently
from belay_gateway.proofs import delivered
from belay_gateway.sockets import Session, Sockets
from belay_gateway.tasks import Tasks
from belay_gateway.verdicts import NoChange, Refusal, Verdict
from belay_gateway.writes import Writes
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
from belay_kube.finding import find
from belay_kube.logs import about

log = structlog.get_logger(__name__)

Holder = tuple[Ref, str]


class Holdings:
    """Delegations that are, or were until they were acknowledged, held through this gateway."""

    def __init__(self, kube: Kube, clock: Clock, sockets: Sockets, writes: Writes, tasks: Tasks) -> None:
        self._kube = kube
        self._clock = clock
        self._sockets = sockets
        self._writes = writes
        self._tasks = tasks
        self._held: dict[Ref, Json] = {}
        self._unfit: dict[Holder, set[Ref]] = {}
        self.on_fit: Callable[[Session], None] = lambda _: None

    def get(self, namespace: str, name: str) -> Json | None:
        """A held delegation as last seen."""
        return self._held.get(Ref(namespace, name))

    def is_unfit(self, session: Session) -> bool:
        """Whether the session has work that it doesn't answer for: nothing new is offered to it."""
        return bool(session.owed or self._unfit.get((session.agent, session.session_id)))

    def note(self, session: Session, delegation: Json) -> None:
        """What a session that attaches is found to have, wherever it got it; nothing else may tell of it here."""
        if _is_unanswered(delegation) and _holder(delegation) == (session.agent, session.session_id):
            session.owed.add(ref_of(delegation))
        else:
            self._no_longer_owed(session, ref_of(delegation))

    def answered(self, session: Session, ref: Ref, delegation: Json | None) -> None:
        """The session said that it stopped working on it, or it is gone."""
        if delegation:
            session.told.discard(_told_key(delegation))
        self._no_longer_owed(session, ref)

    def _no_longer_owed(self, session: Session, ref: Ref) -> None:
        if ref in session.owed:
            session.owed.discard(ref)
            if not self.is_unfit(session):
                self.on_fit(session)

    # --- Sink --------------------------------------------------------------------------------------------------

    def changed(self, obj: Json) -> None:
        """Held here, or ended."""
        obj["metadata"].pop("managedFields", None)
        ref = ref_of(obj)
        old = self._held.get(ref)
        if old and left_frame(old, obj):
            self._forget(old)
            self.tell_left(old, obj)
        if phase_in(obj) in TERMINAL and not is_unacknowledged(obj):
            self._forget(obj)
            return
        self._held[ref] = obj
        self._set_unfit(ref, _holder(obj), _is_unanswered(obj))
        if ended_by_others(obj) and not is_delivered(obj):
            self.tell(obj)

    def deleted(self, obj: Json) -> None:
        """Deleted, queued again, or held through another gateway: the old object doesn't say which."""
        known = self._held.get(ref_of(obj))
        if known is None:
            return
        self._forget(known)
        if phase_in(known) not in TERMINAL and self._sockets.session(*_holder(known)):
            with _about(known):
                self._tasks.spawn(self._tell_why(known), "reading a delegation again")

    def synced(self) -> None:
        """Nothing waits for it here."""

    def lost(self) -> None:
        """What was seen stays in use: every write is decided on a live read."""

    def _forget(self, obj: Json) -> None:
        self._held.pop(ref_of(obj), None)
        session = self._sockets.session(*_holder(obj))
        if session:
            session.told.discard(_told_key(obj))
        self._set_unfit(ref_of(obj), _holder(obj), False)

    def _set_unfit(self, ref: Ref, holder: Holder, unanswered: bool) -> None:
        if unanswered:
            self._unfit.setdefault(holder, set()).add(ref)
            return
        session = self._sockets.session(*holder)
        if session:
            session.owed.discard(ref)
        refs = self._unfit.get(holder, set())
        if ref not in refs:
            return
        refs.discard(ref)
        if not refs:
            del self._unfit[holder]
        if session and not self.is_unfit(session):
            self.on_fit(session)

    # --- telling the holder ------------------------------------------------------------------------------------

    def tell(self, delegation: Json) -> None:
        """Tell the holder that its work was ended, if its socket is here and wasn't told."""
        session = self._sockets.session(*_holder(delegation))
        if session is None or not session.is_open:
            return
        frame = cancel_frame(delegation)
        ref, session_id = ref_of(delegation), session.session_id
        sent = None if is_delivered(delegation) else lambda: self._record_delivery(ref, session_id, frame.attempt)
        if _told_key(delegation) not in session.told:
            session.told.add(_told_key(delegation))
            self._say(session, frame, sent)

    def _say(self, session: Session, frame: Cancel, sent: Callable[[], None] | None) -> None:
        session.unwritten.pop(frame.name, None)
        session.say(frame, sent)

    def tell_left(self, known: Json, now: Json | None) -> None:
        """It is another's, or nobody's, or gone: tell who held it, unless that had ended or was given up before."""
        if is_handed_back(known.get("status") or {}):
            return
        session = self._sockets.session(*_holder(known))
        frame = left_frame(known, now)
        if session and frame and phase_in(known) not in TERMINAL:
            self._say(session, frame, None)

    def _record_delivery(self, ref: Ref, session_id: str, attempt: int) -> None:
        def verdict_on(delegation: Json) -> Verdict:
            if attempt_of(delegation) != attempt or not ended_by_others(delegation):
                return NoChange()
            return delivered(delegation, self._clock.now(), session_id)

        async def record() -> None:
            verdict = await self._writes.settle(ref, "delivered", verdict_on, patient=True)
            if isinstance(verdict, Refusal):
                log.warning("a delivery could not be recorded", delegation=str(ref), error=verdict.message)

        with about(delegation=ref, session=session_id):
            self._tasks.spawn(record(), "recording a delivery")

    async def _tell_why(self, known: Json) -> None:
        """It left the selection: find out where to."""
        ref = ref_of(known)

        async def read() -> Json | None:
            return await find(self._kube, DELEGATIONS, ref.namespace, ref.name)

        try:
            now = await patiently(self._clock, read, lambda: self._sockets.session(*_holder(known)) is not None)
        except KubeError as error:
            log.warning("a delegation could not be read", delegation=str(ref), error=error.message[:300])
            return
        self.tell_left(known, now)


def _about(known: Json) -> about:
    agent, session_id = _holder(known)
    return about(agent=agent, delegation=ref_of(known), session=session_id)


def left_frame(known: Json, now: Json | None) -> Cancel | None:
    """What the holder of `known` is told, given what stands there now; None if it still is the holder. Pure."""
    name, attempt = known["metadata"]["name"], attempt_of(known)
    if now is None or now["metadata"]["uid"] != known["metadata"]["uid"]:
        return Cancel(
            name=name, attempt=attempt, phase=Phase.CANCELLED, reason=Reason.DELETED, message="it was deleted"
        )
    status = now.get("status") or {}
    if attempt_of(now) == attempt and _holder(now) == _holder(known):
        return None
    reason, message = status.get("reason") or "", status.get("message") or ""
    return Cancel(name=name, attempt=attempt, phase=str(phase_in(now)), reason=reason, message=message)


def _is_unanswered(obj: Json) -> bool:
    """A holder that handed its work back has answered."""
    stuck = phase_in(obj) == Phase.STUCK and not is_handed_back(obj.get("status") or {})
    return stuck or is_unacknowledged(obj)


def _told_key(obj: Json) -> tuple[str, int]:
    return obj["metadata"]["uid"], attempt_of(obj)


def _holder(obj: Json) -> Holder:
    return agent_of(obj), (obj.get("status") or {}).get("sessionId") or ""
