"""decisions/lineage.py: what is refused below its ancestors, what waits, what their end does (D6, D9); and kinship."""

import pytest

from belay_api.names import Ref
from belay_api.reasons import Reason
from belay_api.timing import Times
from belay_api.transitions import Phase
from belay_operator.decisions import lineage
from belay_operator.decisions.lineage import Ancestor, Line
from belay_operator.decisions.view import Change
from belay_operator.observe.kinship import Kinship, session_key, session_of
from belay_operator.observe.kinship import above as above_of
from belay_operator.observe.records import Work

from .builders import NAMESPACE, DelegationBuilder, at, delegation
from .mailbox import session

MISSING = Ref(NAMESPACE, "p")
CHILD = delegation("c").under("p")
TAKEN = delegation("c").under("p").in_progress(by="s")
CHAT = session_key(Ref(NAMESPACE, "chat"))
BELOW_CHAT = delegation("c").under("chat", "AgentSession")


def above(*ancestors: DelegationBuilder, missing: Ref | None = None) -> Line:
    """Ancestors, nearest first."""
    return Line(tuple(Ancestor.of(a.work, Times()) for a in ancestors), missing)


def within(*higher: DelegationBuilder, of: str = "boss", missing: Ref | None = None) -> Line:
    """Session `chat` of an agent, opened for the first of these; then the ancestors above."""
    opened = session("chat").of(of)
    chat = Ancestor.session((opened.under(higher[0].name) if higher else opened).record)
    return Line((chat, *above(*higher).ancestors), missing)


def parent(name: str = "p", to: str = "boss") -> DelegationBuilder:
    """An ancestor, for another agent."""
    return delegation(name).to(to)


def completed(name: str = "p") -> DelegationBuilder:
    """An ancestor that is done."""
    return parent(name).ended(Phase.COMPLETED, at=0)


def cancelled(name: str = "p") -> DelegationBuilder:
    """An ancestor that was cancelled."""
    return parent(name).ended(Phase.CANCELLED, at=0)


def failed(name: str = "p") -> DelegationBuilder:
    """An ancestor that failed."""
    return parent(name).ended(Phase.FAILED, at=0)


def admitted(given: DelegationBuilder, line: Line, *, reentry: bool = False) -> Work | Change:
    """What is decided on newborn work."""
    return lineage.admit(given.work, line, at(0), reentry=reentry, times=Times())


REFUSED = {
    "its agent is its parent's": (above(parent(to="a")), Reason.AGENT_ABOVE_IN_TREE),
    "its agent is further up": (above(parent(), parent("g", to="a")), Reason.AGENT_ABOVE_IN_TREE),
    "its agent was done further up": (above(completed(), completed("g").to("a")), Reason.AGENT_ABOVE_IN_TREE),
    "it is its own grandparent": (above(parent(), parent("c", to="b")), Reason.LINEAGE_CYCLE),
    "it is below a circle": (above(parent(), parent("g"), parent("p")), Reason.LINEAGE_CYCLE),
    "a seventeenth": (above(*(parent(f"p{n}", to=f"a{n}") for n in range(16))), Reason.LINEAGE_TOO_DEEP),
    "its agent's session is its parent": (within(of="a"), Reason.AGENT_ABOVE_IN_TREE),
    "its agent is above its session": (within(parent(to="a")), Reason.AGENT_ABOVE_IN_TREE),
    "a seventeenth, and a session": (
        within(*(parent(f"p{n}", to=f"a{n}") for n in range(16))),
        Reason.LINEAGE_TOO_DEEP,
    ),
    "its agent is above, higher is missing": (above(parent(to="a"), missing=MISSING), Reason.AGENT_ABOVE_IN_TREE),
}


@pytest.mark.parametrize(("line", "reason"), REFUSED.values(), ids=REFUSED)
def test_D6_what_does_not_fit_below_its_ancestors_is_failed(line: Line, reason: Reason) -> None:
    """With its own reason, and a sentence that says what to do."""
    change = admitted(CHILD, line)
    assert isinstance(change, Change)
    assert (change.target, change.reason) == (Phase.FAILED, reason)
    assert ": " in change.message


ADMITTED = {
    "one parent": above(parent()),
    "a parent that waits": above(parent().queued(at=0)),
    "a parent that is done": above(completed()),
    "a sixteenth": above(*(parent(f"p{n}", to=f"a{n}") for n in range(15))),
    "a parent whose cancel does not cascade": above(cancelled().not_cascading()),
    "a session": within(),
    "a session that was opened for another": within(parent()),
    "a sixteenth, below a session": within(*(parent(f"p{n}", to=f"a{n}") for n in range(15))),
    "a session and a delegation of one name": within(parent("chat")),
}


@pytest.mark.parametrize("line", ADMITTED.values(), ids=ADMITTED)
def test_D6_what_fits_is_taken_up(line: Line) -> None:
    """Below other agents, down to the sixteenth."""
    assert isinstance(admitted(CHILD, line), Work)


def test_D6_an_agent_may_allow_reentry() -> None:
    """Then it works below itself; a circle is refused all the same."""
    assert isinstance(admitted(CHILD, above(parent(to="a")), reentry=True), Work)
    assert isinstance(admitted(CHILD, above(parent(), parent("c")), reentry=True), Change)


@pytest.mark.parametrize(
    ("own", "parents", "expected"),
    [(100, 50, 50), (50, 100, 50), (None, 50, 50), (None, None, Times().deadline)],
    ids=["later than the parent's", "earlier", "the agent's", "none given"],
)
def test_a_deadline_is_no_later_than_the_parents(own: int | None, parents: int | None, expected: int) -> None:
    """The earlier of the two counts."""
    given, of_parent = delegation("c").under("p"), parent()
    given = given.due_in(own) if own else given
    of_parent = of_parent.due_in(parents) if parents else of_parent
    work = admitted(given, above(of_parent))
    assert isinstance(work, Work)
    assert work.due == at(expected)


def test_a_deadline_is_no_later_than_the_grandparents() -> None:
    """Also where the parent, not taken up yet, would have a later one of its own."""
    work = admitted(CHILD, above(parent(), parent("g").due_in(10)))
    assert isinstance(work, Work)
    assert work.due == at(10)


def test_D6_a_deadline_above_that_is_past_refuses_it() -> None:
    """A follow-up below what was done long ago would be overdue as soon as it was offered."""
    late = above(completed(), parent("g").due_in(10).ended(Phase.COMPLETED, at=0))
    change = lineage.admit(CHILD.work, late, at(10), reentry=False, times=Times())
    assert isinstance(change, Change)
    assert (change.target, change.reason) == (Phase.FAILED, Reason.DEADLINE_EXCEEDED)
    assert "deadline of g" in change.message


WAITS = {
    "its parent is missing": (CHILD, above(missing=MISSING), "Delegation p"),
    "its parent's parent is": (CHILD, above(parent(), missing=Ref(NAMESPACE, "g")), "Delegation g"),
    "its session is": (BELOW_CHAT, above(missing=CHAT), "AgentSession chat"),
}


@pytest.mark.parametrize(("given", "line", "named"), WAITS.values(), ids=WAITS)
def test_D6_a_missing_parent_is_waited_for(given: DelegationBuilder, line: Line, named: str) -> None:
    """Pending (AgentNotFound), with the name of what is missing; said once."""
    change = admitted(given, line)
    assert isinstance(change, Change)
    assert (change.target, change.reason) == (Phase.PENDING, Reason.AGENT_NOT_FOUND)
    assert named in change.message
    told = given.pending(change.reason).saying(change.message)
    assert lineage.told_already(told.work, change)
    assert not lineage.told_already(told.saying("agent a does not exist").work, change)


def test_D6_a_parent_that_came_is_no_reason_any_more() -> None:
    """The next reason must be written even if its word is the same: the sentence isn't."""
    change = admitted(CHILD, above(missing=MISSING))
    assert isinstance(change, Change)
    told = delegation("c").under("p").pending(change.reason).saying(change.message)
    work = admitted(told, above(parent()))
    assert isinstance(work, Work)
    assert work.reason is None


GOES_ON = {
    "parent unfinished": above(parent()),
    "parent done": above(completed()),
    "parent done, its parent unfinished": above(completed(), parent("g")),
    "parent's cancel does not cascade": above(cancelled().not_cascading()),
    "parent's failure does not cascade": above(failed().not_cascading()),
    "protected below a cancelled one": above(cancelled().not_cascading(), cancelled("g")),
    "an unfinished one is between": above(parent(), cancelled("g")),
    "a missing one above an unfinished": above(parent(), missing=MISSING),
    "a session": within(),
    "what its session was opened for is unfinished": within(parent()),
    "what its session was opened for is done": within(completed()),
}
CUT_OFF = {
    "parent cancelled": (above(cancelled()), Reason.PARENT_CANCELLED),
    "parent failed": (above(failed()), Reason.PARENT_FAILED),
    "done, and above that cancelled": (above(completed(), cancelled("g")), Reason.PARENT_CANCELLED),
    "parent deleted": (above(missing=MISSING), Reason.PARENT_DELETED),
    "its session deleted": (above(missing=CHAT), Reason.PARENT_DELETED),
    "what its session was opened for cancelled": (within(cancelled()), Reason.PARENT_CANCELLED),
    "what its session was opened for done, above that failed": (
        within(completed(), failed("g")),
        Reason.PARENT_FAILED,
    ),
    "done, and above that deleted": (above(completed(), missing=MISSING), Reason.PARENT_DELETED),
}


@pytest.mark.parametrize("line", GOES_ON.values(), ids=GOES_ON)
def test_D9_what_leaves_a_child_alone(line: Line) -> None:
    """Only an end that cascades reaches it, and parents first."""
    assert lineage.cut_off(TAKEN.work, line) is None


@pytest.mark.parametrize(("line", "reason"), CUT_OFF.values(), ids=CUT_OFF)
def test_D9_an_end_above_reaches_a_child(line: Line, reason: Reason) -> None:
    """Cancelled, with the reason of the nearest."""
    change = lineage.cut_off(TAKEN.work, line)
    assert change
    assert (change.target, change.reason) == (Phase.CANCELLED, reason)


def test_D9_a_child_that_was_never_taken_up_waits_for_its_parent_and_ends_with_it() -> None:
    """A missing parent may still come, one that is Cancelled will not return."""
    assert lineage.cut_off(CHILD.work, above(missing=MISSING)) is None
    assert lineage.cut_off(CHILD.work, above(cancelled()))
    change = admitted(CHILD, above(cancelled()))
    assert isinstance(change, Change)
    assert change.reason is Reason.PARENT_CANCELLED


def test_a_session_is_no_delegation_of_the_same_name() -> None:
    """Among ancestors it has a name that no delegation can have."""
    assert above_of(BELOW_CHAT.work) == CHAT != Ref(NAMESPACE, "chat")
    assert session_of(CHAT) == Ref(NAMESPACE, "chat")
    assert session_of(Ref(NAMESPACE, "chat")) is None
    assert above_of(CHILD.work) == MISSING


def test_a_deadline_is_no_later_than_that_above_the_session() -> None:
    """A session has none itself."""
    work = admitted(BELOW_CHAT, within(parent().due_in(50)))
    assert isinstance(work, Work)
    assert work.due == at(50)


def test_kinship_is_kept_both_ways_and_forgotten() -> None:
    """What is unfinished is found from each ancestor; nothing of it stays."""
    kinship = Kinship()
    child, other, top = (Ref(NAMESPACE, name) for name in ("c", "o", "t"))
    kinship.add_parent(child, MISSING)
    kinship.add(child, top)
    kinship.add_parent(other, top)
    assert set(kinship.below(top)) == {child, other}
    kinship.drop(child, MISSING)
    assert (set(kinship.below(MISSING)), set(kinship.below(top))) == (set(), {other})
    kinship.drop(other, top)
    assert not kinship.below(top)
    assert not vars(kinship)["_below"]
