"""The turns of sessions that are at work: a few are kept, the others are read when they are needed.

Turns never change and only the holder of a claim adds any, so what is kept is right as long as the number is; a turn
that somebody else added in between shows when the next one is created (L18).
"""

from collections import OrderedDict

from belay_kube.client import Json
from belay_operator.drain.store import Store
from belay_operator.observe.mailbox_records import SessionRecord

_KEPT_BYTES = 16 * 1024 * 1024
"""Of all that is kept, as `size_of` estimates it."""
_TURN_BYTES = 2048
"""What a turn takes beside what was said, and a session beside its turns."""


class History:
    """Reads the turns of a session, those it read last from memory."""

    def __init__(self, store: Store, most: int = _KEPT_BYTES) -> None:
        self._store = store
        self._most = most
        self._held: OrderedDict[str, list[Json]] = OrderedDict()
        self._sizes: dict[str, int] = {}

    async def turns(self, session: SessionRecord) -> list[Json]:
        """The specifications of all turns up to `session.turns`, in order. Raises KubeError."""
        held = self._held.get(session.uid)
        if held is None or len(held) != session.turns:
            listed = await self._store.turns(session.ref) if session.turns else []
            mine = (turn["spec"] for turn in listed if is_of(turn, session))
            held = [turn for turn in mine if turn["sequence"] <= session.turns]
            self._keep(session.uid, held)
        self._held.move_to_end(session.uid)
        return list(held)

    def add(self, session: SessionRecord, turn: Json) -> None:
        """`turn` follows the ones that were read."""
        held = self._held.get(session.uid)
        if held is not None and turn["sequence"] == len(held) + 1:
            self._keep(session.uid, [*held, turn])

    def forget(self, uid: str) -> None:
        """The session is gone, or is not what was thought."""
        self._held.pop(uid, None)
        self._sizes.pop(uid, None)

    def _keep(self, uid: str, turns: list[Json]) -> None:
        self.forget(uid)
        self._held[uid] = turns
        self._sizes[uid] = sum(map(size_of, turns), _TURN_BYTES)
        while len(self._held) > 1 and sum(self._sizes.values()) > self._most:
            self.forget(next(iter(self._held)))


def is_of(turn: Json, session: SessionRecord) -> bool:
    """Whether a turn is this session's, and was not left over by an earlier one of that name."""
    return any(owner["uid"] == session.uid for owner in turn["metadata"].get("ownerReferences") or ())


def size_of(turn: Json) -> int:
    """About what a turn takes in memory: what was said, and what is around it, which is more where little was said."""
    blocks = (*(turn.get("user") or ()), *(turn.get("assistant") or ()))
    return _TURN_BYTES + sum(len(block.get("text") or "") + len(block.get("input") or "") for block in blocks)
