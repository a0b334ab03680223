"""history.py: how much of a conversation is read, and kept."""

from typing import Any

import pytest

from belay_api.names import Ref
from belay_operator.drain import history
from belay_operator.drain.history import History, size_of

from .mailbox import Json, session, text, turn


class Shelf:
    """A store of turns that notes which of them were read."""

    def __init__(self, number: int, said: str = "x" * 1000, uid: str = "") -> None:
        self._owner = uid or session().record.uid
        self._said = said
        self._number = number
        self.read: list[int] = []

    async def turn(self, _: Ref, sequence: int) -> Json | None:
        """One of them."""
        self.read.append(sequence)
        if sequence > self._number:
            return None
        return {"metadata": {"ownerReferences": [{"uid": self._owner}]}, "spec": numbered(sequence, self._said)}


def numbered(sequence: int, said: str = "x" * 1000) -> Json:
    """An answered turn."""
    return {**turn([text("hi")], [text(said)]), "sequence": sequence}


def reader(shelf: Any, most: int = 10**9) -> History:
    """A history of it."""
    return History(shelf, most)


SIZE = size_of(numbered(1))


def numbers(turns: list[Json]) -> list[int]:
    """Which turns."""
    return [one["sequence"] for one in turns]


async def test_a_short_conversation_is_read_once() -> None:
    """All of it, in order; then it is known, and what follows is added."""
    shelf, now = Shelf(3), session().saying(turns=3).record
    found = reader(shelf)
    assert [numbers(await found.turns(now)), sorted(shelf.read)] == [[1, 2, 3], [1, 2, 3]]
    found.add(now, numbered(4))
    assert [numbers(await found.turns(session().saying(turns=4).record)), len(shelf.read)] == [[1, 2, 3, 4], 3]


@pytest.mark.parametrize(
    ("wanted", "most"),
    [pytest.param(5 * SIZE, 16, id="five turns"), pytest.param(0, 0, id="none")],
)
async def test_of_a_long_conversation_only_what_is_wanted_is_read(wanted: int, most: int) -> None:
    """From the newest backwards, a few at once."""
    shelf = Shelf(1000)
    found = await reader(shelf).turns(session().saying(turns=1000).record, wanted)
    assert len(shelf.read) <= most
    assert numbers(found) == list(range(1001 - len(found), 1001))
    assert sum(map(size_of, found)) >= wanted


async def test_no_conversation_is_read_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wanted."""
    monkeypatch.setattr(history, "MOST_BYTES", 10 * SIZE)
    shelf = Shelf(1000)
    await reader(shelf).turns(session().saying(turns=1000).record, 10**12)
    assert len(shelf.read) <= 16


async def test_what_grows_is_let_go_at_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that goes on and on takes no more than twice the bound."""
    monkeypatch.setattr(history, "MOST_BYTES", 4 * SIZE)
    found = reader(Shelf(1))
    await found.turns(session().saying(turns=1).record)
    for number in range(1, 50):
        found.add(session().saying(turns=number).record, numbered(number + 1))
    assert numbers(await found.turns(session().saying(turns=50).record, 0)) == list(range(43, 51))


async def test_sessions_that_were_not_asked_for_lately_are_let_go() -> None:
    """The one at work never."""
    shelf = Shelf(2)
    found = reader(shelf, most=1)
    one, two = session("one").saying(turns=2).record, session("two").saying(turns=2).record
    await found.turns(one)
    await found.turns(one)
    assert len(shelf.read) == 2
    await found.turns(two)
    await found.turns(one)
    assert len(shelf.read) == 6


async def test_L18_turns_of_an_earlier_session_of_that_name_say_nothing() -> None:
    """Left over by one that was deleted: their places are empty."""
    found = await reader(Shelf(2, uid="another")).turns(session().saying(turns=2).record)
    assert [(one["sequence"], one.get("assistant")) for one in found] == [(1, None), (2, None)]
