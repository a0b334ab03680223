"""The newest turns of sessions, as far as a model is told of them: read by their numbers, and a few sessions kept.

Turns never change and only the holder of a claim adds any, so what is kept is right as long as the number is; a turn
that somebody else added in between shows when the next one is created (L18). A conversation may be longer than any
memory: nothing before what is wanted is ever read.
"""

import asyncio
from collections import OrderedDict

from belay_api.sessionturn import TurnOutcome
from belay_kube.client import Json
from belay_operator.drain.store import Store
from belay_operator.observe.mailbox_records import SessionRecord

MOST_BYTES = 8 * 1024 * 1024
"""Most of one conversation that is ever read, as `size_of` estimates it."""
_KEPT_BYTES = 16 * 1024 * 1024
"""Of all that is kept, by the same measure."""
_TURN_BYTES = 2048
"""What a turn takes beside what was said, and a session beside its turns."""
_AT_ONCE = 8
"""Turns that are read side by side."""


class History:
    """Reads the turns of a session, those it read last from memory."""

    def __init__(self, store: Store, most: int = _KEPT_BYTES) -> None:
        self._store = store
        self._most = most
        self._held: OrderedDict[str, list[Json]] = OrderedDict()
        self._sizes: dict[str, int] = {}

    async def turns(self, session: SessionRecord, wanted: int = MOST_BYTES) -> list[Json]:
        """The specifications of the newest turns up to `session.turns`, in order: all of them, or at least `wanted`
        bytes. Raises KubeError."""
        wanted = min(wanted, MOST_BYTES)
        held = self._held.get(session.uid, [])
        if held and held[-1]["sequence"] != session.turns:
            held = []
        while sum(map(size_of, held)) < wanted and (first := _first(held, session)) > 1:
            held = [*await self._read(session, range(max(1, first - _AT_ONCE), first)), *held]
        self._keep(session.uid, held)
        return list(held)

    def add(self, session: SessionRecord, turn: Json) -> None:
        """`turn` follows the ones that were read."""
        held = self._held.get(session.uid)
        if held is not None and turn["sequence"] == session.turns + 1:
            self._keep(session.uid, [*held, turn])

    def forget(self, uid: str) -> None:
        """The session is gone, or is not what was thought."""
        self._held.pop(uid, None)
        self._sizes.pop(uid, None)

    async def _read(self, session: SessionRecord, numbers: range) -> list[Json]:
        """Turns by number; one that was deleted by hand, or is an earlier session's, stands there as an empty one."""
        found = await asyncio.gather(*(self._store.turn(session.ref, number) for number in numbers))
        pairs = zip(numbers, found, strict=True)
        return [turn["spec"] if turn and is_of(turn, session) else _missing(number) for number, turn in pairs]

    def _keep(self, uid: str, turns: list[Json]) -> None:
        self.forget(uid)
        # What grows by `add` is cut well above what is read at most, so that nothing is read that was just let go.
        self._held[uid] = kept = _newest(turns, 2 * MOST_BYTES)
        self._sizes[uid] = sum(map(size_of, kept), _TURN_BYTES)
        while len(self._held) > 1 and sum(self._sizes.values()) > self._most:
            self.forget(next(iter(self._held)))


def _newest(turns: list[Json], most: int) -> list[Json]:
    """The newest of `turns` that take at most `most` bytes, and the last in any case."""
    kept: list[Json] = []
    for turn in reversed(turns):
        most -= size_of(turn)
        if most < 0 and kept:
            break
        kept.append(turn)
    return kept[::-1]


def _first(held: list[Json], session: SessionRecord) -> int:
    """Number of the first turn that was read; one more than the last when none was."""
    return int(held[0]["sequence"]) if held else session.turns + 1


def _missing(number: int) -> Json:
    """What stands in the place of a turn that isn't there: it settled nothing that is known, and said nothing."""
    return {"sequence": number, "outcome": str(TurnOutcome.PARKED)}


def is_of(turn: Json, session: SessionRecord) -> bool:
    """Whether a turn is this session's, and was not left over by an earlier one of that name."""
    return any(owner["uid"] == session.uid for owner in turn["metadata"].get("ownerReferences") or ())


def size_of(turn: Json) -> int:
    """About what a turn takes in memory: what was said, and what is around it, which is more where little was said."""
    blocks = (*(turn.get("user") or ()), *(turn.get("assistant") or ()))
    return _TURN_BYTES + sum(len(block.get("text") or "") + len(block.get("input") or "") for block in blocks)
