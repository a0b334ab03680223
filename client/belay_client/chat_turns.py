"""The turns of a session, each read once and by its number: nobody's whole conversation is listed because one talks."""

from collections.abc import AsyncIterator

from belay_api.names import turn_name
from belay_client import chat_mail
from belay_kube.client import TURNS, Json, Kube
from belay_kube.clock import Clock


class Turns:
    """Those that come after the ones that `session`, as it was read, counts."""

    def __init__(self, kube: Kube, session: Json, clock: Clock) -> None:
        self._kube = kube
        self._clock = clock
        self._meta = session["metadata"]
        self._next = _counted(session) + 1

    def is_behind(self, session: Json) -> bool:
        """Whether the session counts turns that weren't read."""
        return _counted(session) >= self._next

    async def skip(self) -> None:
        """Pass over those that are there, but aren't counted yet. Raises KubeError."""
        while await self._turn(self._next):
            self._next += 1

    async def new(self, session: Json | None = None) -> AsyncIterator[Json]:
        """Those there are by now, in order. Raises KubeError.

        A turn is there before the session counts it, so the next number is always tried; one that `session` counts and
        that isn't there was deleted by hand.
        """
        counted = _counted(session or {})
        while (turn := await self._turn(self._next)) or self._next <= counted:
            self._next += 1
            if turn:
                yield turn

    async def _turn(self, number: int) -> Json | None:
        """The turn, if it is there and not one that an earlier session of that name has left."""
        name = turn_name(self._meta["name"], number)
        turn = await chat_mail.read(self._kube, self._clock, TURNS, self._meta["namespace"], name)
        return turn if turn and self._is_ours(turn) else None

    def _is_ours(self, turn: Json) -> bool:
        owners = [owner["uid"] for owner in turn["metadata"].get("ownerReferences") or []]
        return not owners or self._meta["uid"] in owners


def _counted(session: Json) -> int:
    return int((session.get("status") or {}).get("turns") or 0)
