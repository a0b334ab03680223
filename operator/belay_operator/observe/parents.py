"""Who has delegations below it, finished ones too: only these need a look before they are deleted (D11)."""

from collections.abc import Iterable

from belay_api.names import Ref

MOST = 50_000
"""Most that are known at once; beyond that anyone may be one."""


class Parents:
    """Delegations that are the parent of another, as a listing of all finished ones and the watch of the others tell.

    Each listing forgets who has none any more. Until the first one is complete, and again from `forget` to the end of
    the next, anyone may be a parent.
    """

    def __init__(self) -> None:
        self._known: set[Ref] | None = None
        self._gathered: set[Ref] | None = None

    def saw(self, parent: Ref) -> None:
        """Somebody is below `parent`."""
        for refs in (self._known, self._gathered):
            if refs is not None and len(refs) < MOST:
                refs.add(parent)

    def begin(self, unfinished: Iterable[Ref]) -> None:
        """A listing begins; `unfinished` are the parents of all unfinished delegations known by now."""
        self._gathered = set()
        for parent in unfinished:
            self.saw(parent)

    def forget(self) -> None:
        """The watch was away: a child may have come and ended unseen. A listing that runs may be past it already."""
        self._known = self._gathered = None

    def are_known(self) -> bool:
        """Whether a listing was complete since."""
        return self._known is not None

    def end(self) -> None:
        """The listing is complete."""
        self._known, self._gathered = self._gathered, None

    def may_be(self, ref: Ref) -> bool:
        """Whether anybody may be below `ref`."""
        return self._known is None or len(self._known) >= MOST or ref in self._known
