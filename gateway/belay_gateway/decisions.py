"""Decisions on permission requests, on their way to the sessions that asked (C4, C5).

The Sink of the reader of unsettled PermissionRequests. A decision is told once, by the gateway that has the session's
socket when it sees it made; whoever was away asks for it with `replay_permissions`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from belay_api.names import Ref
from belay_api.permissionrequest import SETTLED
from belay_gateway import permitting
from belay_gateway.objects import agent_of, ref_of
from belay_gateway.patience import patiently
from belay_gateway.sockets import Session, Sockets
from belay_gateway.tasks import Tasks
from belay_kube.client import PERMISSION_REQUESTS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError
from belay_kube.finding import find
from belay_kube.logs import about

log = structlog.get_logger(__name__)


@dataclass
class _Seen:
    """An unsettled request, and whether its decision is told, or shall not be."""

    uid: str
    agent: Ref
    session_id: str
    told: bool = False


class Decisions:
    """Knows the requests that nobody has settled, and tells what is decided on them."""

    def __init__(self, kube: Kube, clock: Clock, sockets: Sockets, tasks: Tasks) -> None:
        self._kube = kube
        self._clock = clock
        self._sockets = sockets
        self._tasks = tasks
        self._seen: dict[Ref, _Seen] = {}
        self.expects: Callable[[Json], bool] = lambda _: True
        """Whether the reader will tell what becomes of a request that was made just now."""

    # --- Sink --------------------------------------------------------------------------------------------------

    def changed(self, obj: Json) -> None:
        """Asked, or decided."""
        seen = self._entry(obj)
        if seen.told or not obj["spec"].get("decision"):
            return
        seen.told = True
        session = self._sockets.session(seen.agent, seen.session_id)
        if session and session.is_open:
            self.tell(session, obj)

    def deleted(self, obj: Json) -> None:
        """Settled, or deleted: the old object doesn't say which, and a decision may have come with it."""
        seen = self._seen.pop(ref_of(obj), None)
        if seen and not seen.told and self._sockets.session(seen.agent, seen.session_id):
            self._look_soon(ref_of(obj), seen)

    def synced(self) -> None:
        """Nothing waits for it here."""

    def lost(self) -> None:
        """What is decided meanwhile is told when contact is back."""

    def _entry(self, obj: Json) -> _Seen:
        ref, uid = ref_of(obj), obj["metadata"]["uid"]
        seen = self._seen.get(ref)
        if seen is None or seen.uid != uid:
            seen = self._seen[ref] = _Seen(uid, agent_of(obj), obj["spec"]["sessionId"])
        return seen

    def _look_soon(self, ref: Ref, seen: _Seen) -> None:
        with about(agent=seen.agent, session=seen.session_id, request=ref):
            self._tasks.spawn(self._look_again(ref, seen), "reading a permission request again")

    async def _look_again(self, ref: Ref, seen: _Seen) -> None:
        def is_there() -> bool:
            return self._sockets.session(seen.agent, seen.session_id) is not None

        async def read() -> Json | None:
            return await find(self._kube, PERMISSION_REQUESTS, ref.namespace, ref.name)

        try:
            now = await patiently(self._clock, read, is_there)
        except KubeError as error:
            log.warning("a permission request could not be read", request=str(ref), error=error.message[:300])
            return
        session = self._sockets.session(seen.agent, seen.session_id)
        if now and now["metadata"]["uid"] == seen.uid and session and session.is_open:
            self.tell(session, now)

    def note_asked(self, made: Json) -> None:
        """A request was made here: what is decided on it is told even if the reader never sees it unsettled, because it
        was decided and settled while the watch was away (C5)."""
        seen = self._entry(made)
        if not self.expects(made):
            self._seen.pop(ref_of(made), None)
            if not seen.told:
                self._look_soon(ref_of(made), seen)

    # --- telling -----------------------------------------------------------------------------------------------

    def tell(self, session: Session, request: Json) -> None:
        """Say what was decided on a request as read, if anything was."""
        frame = permitting.decision_frame(request)
        if frame:
            self.note_told(request)
            session.say(frame)

    def note_told(self, request: Json) -> None:
        """Its decision isn't told (again) when the reader sees it, which may be later than a live read does.

        Nothing is kept of what the reader is past: nobody would take it out again.
        """
        if (request.get("status") or {}).get("phase") in SETTLED:
            return
        seen = self._seen.get(ref_of(request))
        if (seen and seen.uid == request["metadata"]["uid"]) or self.expects(request):
            self._entry(request).told = True
