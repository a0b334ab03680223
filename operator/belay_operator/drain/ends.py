"""Ends delegations in the operator's name: decided again on each newer view, until it is written or over."""

from collections.abc import Callable

from belay_api.names import Ref
from belay_api.transitions import TERMINAL, Writer, allowed
from belay_kube.client import Json
from belay_kube.errors import Conflict
from belay_operator.apply import Applier
from belay_operator.decisions import fate
from belay_operator.decisions.view import Change
from belay_operator.observe.records import Work
from belay_operator.seen import Seen

_TRIES = 5


class Ends:
    """Writes an end."""

    def __init__(self, seen: Seen, applier: Applier) -> None:
        self._seen = seen
        self._applier = applier

    async def end(self, ref: Ref, change: Change, may: Callable[[Work], bool] = lambda _: True) -> Json | None:
        """The delegation as it is then: ended by `change`, or before it, or left alone where it `may` not be ended so;
        None when there is none. Raises KubeError; Conflict: it changes too often just now."""
        found = await self._applier.live_delegation(ref)
        for _ in range(_TRIES):
            work = Work.read(found) if found else None
            if work is None or work.phase in TERMINAL or not may(work):
                return found
            if not allowed(work.phase, change.target, Writer.OPERATOR):
                return found
            outcome = await self._applier.delegation(work, fate.without_holder(work, change))
            self._seen.answered_work(ref, outcome.obj)
            if outcome.written:
                return outcome.obj
            found = outcome.obj
        raise Conflict(f"delegation {ref} changes too often just now to be {change.target}", 409)
