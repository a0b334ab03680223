"""Who is below whom: unfinished delegations by each ancestor they are known to have."""

from collections import OrderedDict
from collections.abc import Collection

from belay_api.names import Ref
from belay_operator.observe.records import Work

_MOST_MISSED = 10_000
_SESSION = "AgentSession "
"""No delegation's name has a space."""


def above(work: Work) -> Ref | None:
    """What it is a part of: a delegation, or an AgentSession under a name that no delegation can have."""
    if work.parent_session:
        return session_key(Ref(work.ref.namespace, work.parent_session))
    return work.parent


def session_key(session: Ref) -> Ref:
    """An AgentSession among delegations."""
    return Ref(session.namespace, _SESSION + session.name)


def session_of(key: Ref) -> Ref | None:
    """The AgentSession of a key; None for a delegation."""
    return Ref(key.namespace, key.name.removeprefix(_SESSION)) if key.name.startswith(_SESSION) else None


class Kinship:
    """Both ways; an ancestor may be finished, or missing, which is when its descendants must be found.

    A child's parent stands in its own record and isn't kept here a second time: `drop` is told it.
    """

    def __init__(self) -> None:
        self._below = Relation()
        self._above = Relation()
        self._missed: OrderedDict[Ref, float] = OrderedDict()
        self._asked: set[Ref] = set()

    def asks(self, ancestor: Ref) -> None:
        """`ancestor` is being asked for: word of it that comes before the answer counts more than that."""
        self._asked.add(ancestor)

    def answered(self, ancestor: Ref) -> None:
        """The asking is over, however it ended."""
        self._asked.discard(ancestor)

    def missed(self, ancestor: Ref, at: float) -> None:
        """`ancestor` was asked for, and wasn't there; not noted if there was word of it since `asks`."""
        if ancestor not in self._asked:
            return
        self._missed[ancestor] = at
        self._missed.move_to_end(ancestor)
        if len(self._missed) > _MOST_MISSED:
            self._missed.popitem(last=False)

    def missed_at(self, ancestor: Ref) -> float | None:
        """When that was; None once there was word of it."""
        return self._missed.get(ancestor)

    def heard_of(self, ancestor: Ref) -> None:
        """Word of `ancestor`: that it is there, or has ended."""
        self._missed.pop(ancestor, None)
        self._asked.discard(ancestor)

    def add_parent(self, child: Ref, parent: Ref) -> None:
        """`parent` is the parent of `child`."""
        self._below.add(parent, child)

    def add(self, child: Ref, ancestor: Ref) -> None:
        """`ancestor` is above the parent of `child`."""
        self._below.add(ancestor, child)
        self._above.add(child, ancestor)

    def drop(self, child: Ref, parent: Ref | None) -> None:
        """`child` of `parent` is unfinished no more; what is below it stays known."""
        for ancestor in (*self._above.pop(child), *([parent] if parent else [])):
            self._below.remove(ancestor, child)

    def below(self, ancestor: Ref) -> Collection[Ref]:
        """Unfinished delegations known to be below `ancestor`."""
        return self._below.of(ancestor)


class Relation:
    """From one to some. Nearly always to one, which costs no set: an empty set is 216 bytes, of a budget of 1 KiB."""

    def __init__(self) -> None:
        self._held: dict[Ref, Ref | set[Ref]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, ref: Ref) -> tuple[Ref, ...]:
        """What `ref` is related to."""
        held = self._held.get(ref)
        if held is None:
            return ()
        return tuple(held) if isinstance(held, set) else (held,)

    def add(self, ref: Ref, other: Ref) -> None:
        """`ref` is related to `other`."""
        held = self._held.get(ref)
        if isinstance(held, set):
            held.add(other)
        elif held is None or held == other:
            self._held[ref] = other
        else:
            self._held[ref] = {held, other}

    def remove(self, ref: Ref, other: Ref) -> None:
        """`ref` is related to `other` no more."""
        held = self._held.get(ref)
        if isinstance(held, set):
            held.discard(other)
            if held:
                return
        elif held != other:
            return
        self._held.pop(ref, None)

    def pop(self, ref: Ref) -> tuple[Ref, ...]:
        """What `ref` was related to, which is forgotten."""
        found = self.of(ref)
        self._held.pop(ref, None)
        return found
