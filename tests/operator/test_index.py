"""observe/index.py: a newer view replaces an older one, and what ended does not come back by late word of it."""

from dataclasses import replace

from belay_api.names import Ref
from belay_api.timing import Times
from belay_api.transitions import Phase
from belay_operator.observe.index import Graves, Index
from belay_operator.observe.records import Work

from .builders import delegation

REF = delegation("d").work.ref


def work(version: int, phase: Phase = Phase.DISPATCHED) -> Work:
    """The delegation `d` as it was at a version."""
    return replace(delegation("d").dispatched(at=0).work, version=str(version), phase=phase)


def test_an_older_view_replaces_nothing() -> None:
    """The answer of a write may be overtaken by the watch."""
    index = Index(Times())
    index.put_work(work(7))
    index.put_work(work(5))
    assert index.work[REF].version == "7"


def test_late_word_of_ended_work_does_not_bring_it_back() -> None:
    """The watch told of its end; then comes the answer of our own earlier write, which must not hold a slot again."""
    index = Index(Times())
    index.put_work(work(5))
    index.drop_work(REF, "8")
    index.put_work(work(6))
    assert index.work == {}
    assert index.count(delegation("d").work.agent, {Phase.DISPATCHED}) == 0


def test_another_object_of_the_same_name_is_taken_in() -> None:
    """Deleted and made again: its version is past the end of the first."""
    index = Index(Times())
    index.put_work(work(5))
    index.drop_work(REF, "8")
    index.put_work(work(9))
    assert index.work[REF].version == "9"


def test_late_word_of_a_deletion_does_not_remove_the_next_of_that_name() -> None:
    """Made again before the deletion of the first was heard of."""
    index = Index(Times())
    index.put_work(work(9))
    assert index.drop_work(REF, "8") is None
    assert REF in index.work


def test_terminal_work_is_let_go_for_good() -> None:
    """An unfinished view of it that comes late is not taken in."""
    index = Index(Times())
    index.put_work(work(7, Phase.COMPLETED))
    index.put_work(work(6))
    assert index.work == {}


def test_graves_are_bounded() -> None:
    """The oldest are forgotten."""
    graves = Graves()
    for number in range(Graves._MOST + 10):
        graves.bury(Ref("ns", f"d{number}"), "1")
    assert len(graves._versions) == Graves._MOST
    assert not graves.holds(Ref("ns", "d0"), "1")
