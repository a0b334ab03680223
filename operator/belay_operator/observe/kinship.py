"""Who is below whom: unfinished delegations by each ancestor they are known to have."""

from collections import defaultdict
from collections.abc import Collection

from belay_api.names import Ref


class Kinship:
    """Both ways; an ancestor may be finished, or missing, which is when its descendants must be found."""

    def __init__(self) -> None:
        self._below: defaultdict[Ref, set[Ref]] = defaultdict(set)
        self._above: defaultdict[Ref, set[Ref]] = defaultdict(set)

    def add(self, child: Ref, ancestor: Ref) -> None:
        """`ancestor` is above `child`, its parent or further up."""
        self._below[ancestor].add(child)
        self._above[child].add(ancestor)

    def drop(self, child: Ref) -> None:
        """`child` is unfinished no more; what is below it stays known."""
        for ancestor in self._above.pop(child, ()):
            self._below[ancestor].discard(child)
            if not self._below[ancestor]:
                del self._below[ancestor]

    def below(self, ancestor: Ref) -> Collection[Ref]:
        """Unfinished delegations known to be below `ancestor`."""
        return tuple(self._below.get(ancestor, ()))
