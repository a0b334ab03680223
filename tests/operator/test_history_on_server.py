"""drain/history.py: turns are read from the API server, by number, and a few of them are kept."""

from dataclasses import replace

import pytest

from belay_api.names import turn_name
from belay_kube.client import TURNS, Json, Kube
from belay_kube.clock import SystemClock
from belay_operator.drain.history import History
from belay_operator.drain.store import Store
from belay_operator.observe.mailbox_records import SessionRecord

from .mail import Mail, heard


class Past:
    """Sessions with turns behind them, made with the operator's own account."""

    def __init__(self, operator: Kube, admin: Kube, namespace: str) -> None:
        self.mail = Mail(admin, namespace)
        self.store = Store(operator, SystemClock())

    async def session(self, name: str, *said: str) -> SessionRecord:
        """A session that was told these things, one in each turn."""
        session = SessionRecord.read(await self.mail.open(name))
        for number, text in enumerate(said, 1):
            await self.store.add_turn(session, self.turn(name, number, text))
        return replace(session, turns=len(said))

    async def lose(self, session: SessionRecord) -> None:
        """Delete its turns: who still knows them kept them."""
        for number in range(1, session.turns + 1):
            await self.mail.kube.delete(TURNS, self.mail.namespace, turn_name(session.ref.name, number))

    @staticmethod
    def turn(session: str, number: int, text: str) -> Json:
        """The specification of a turn."""
        user = [{"type": "Text", "text": text}]
        return {"sessionRef": {"name": session}, "sequence": number, "outcome": "Answered", "user": user}


@pytest.fixture
def past(operator_kube: Kube, admin_kube: Kube, namespace: str) -> Past:
    """Sessions of the test's namespace."""
    return Past(operator_kube, admin_kube, namespace)


async def told(history: History, session: SessionRecord) -> list[str]:
    """What a session was told, turn by turn."""
    return [text for turn in await history.turns(session) for text in heard(turn)]


async def test_L5_turns_are_told_in_order_as_far_as_the_session_says(past: Past) -> None:
    """A turn that was left behind is settled first: it isn't part of the conversation before."""
    session = await past.session("s", *map(str, range(1, 12)))
    assert await told(History(past.store), replace(session, turns=10)) == [str(n) for n in range(1, 11)]


async def test_turns_that_were_read_are_kept(past: Past) -> None:
    """The next half-step reads nothing; the turn that it made is added."""
    session, history = await past.session("s", "one", "two"), History(past.store)
    await told(history, session)
    await past.lose(session)
    history.add(session, past.turn("s", 3, "three"))
    assert await told(history, replace(session, turns=3)) == ["one", "two", "three"]


async def test_a_session_without_turns_has_none(past: Past) -> None:
    """What was made before its first turn was settled isn't told."""
    session = await past.session("s", "left behind")
    assert await told(History(past.store), replace(session, turns=0)) == []


async def test_little_that_was_said_takes_room_too(past: Past) -> None:
    """However short the turns of many sessions are, only as many are kept as were said to fit."""
    first, second = await past.session("first", "a", "b"), await past.session("second", "c", "d")
    history = History(past.store, most=10_000)
    assert [await told(history, session) for session in (first, second)] == [["a", "b"], ["c", "d"]]
    await past.lose(first)
    await past.lose(second)
    assert [await told(history, session) for session in (second, first)] == [["c", "d"], []]
