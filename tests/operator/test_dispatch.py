"""decisions/dispatch.py: what is offered, in which order, and what the others are told they wait for (D4, D6)."""

import asyncio

import pytest

from belay_api.agent import Runtime
from belay_api.names import opened_session_name
from belay_api.reasons import Reason
from belay_api.times import to_wire, to_wire_seconds
from belay_api.timing import Times
from belay_api.transitions import Phase
from belay_kube.clock import FakeClock
from belay_operator.decisions import dispatch
from belay_operator.decisions.view import AgentView
from belay_operator.observe.records import Work
from belay_operator.places import Places

from .builders import DelegationBuilder, agent, at, delegation, live, lost

NOW = 100
HERE = agent({"s": live()})
OFFLINE = agent({"s": lost(at=0)})
Told = dict[str, tuple[Phase, Reason]]


def in_order(given: list[DelegationBuilder]) -> list[Work]:
    """The queue."""
    return dispatch.in_order([g.work for g in given], at(NOW))


def told(given: list[DelegationBuilder], view: AgentView = HERE, active: int = 0) -> Told:
    """New phase and reason of each delegation that is written, in the order of writing."""
    plan = dispatch.plan(in_order(given), active, view, at(NOW))
    return {work.ref.name: (change.target, change.reason) for work, change in plan}


def offered(given: list[DelegationBuilder], view: AgentView, active: int = 0) -> list[str]:
    """Names of what is offered, in order."""
    return [name for name, (phase, _) in told(given, view, active).items() if phase is Phase.DISPATCHED]


@pytest.mark.parametrize(
    ("given", "order"),
    [
        pytest.param(
            [delegation("low").priority(-1), delegation("high").priority(5), delegation("none")],
            ["high", "none", "low"],
            id="priority first",
        ),
        pytest.param(
            [delegation("late").queued(at=20), delegation("early").queued(at=10)], ["early", "late"], id="then age"
        ),
        pytest.param(
            [delegation("new").created(at=30), delegation("queued").queued(at=10)],
            ["queued", "new"],
            id="a new one comes behind what waits",
        ),
        pytest.param(
            [delegation("z").created(at=10), delegation("a").created(at=11)], ["z", "a"], id="new ones by their age"
        ),
        pytest.param(
            [delegation("new").created(at=30), delegation("queued").queued(at=30.5)],
            ["queued", "new"],
            id="creation is told in whole seconds",
        ),
        pytest.param([delegation("b"), delegation("a"), delegation("c")], ["a", "b", "c"], id="then name"),
    ],
)
def test_D4_the_queue_goes_by_priority_then_age_then_name(given: list[DelegationBuilder], order: list[str]) -> None:
    """With slots for all, the order of writing is the order of the queue."""
    assert offered(given, agent({"s": live()}, slots=10)) == order


@pytest.mark.parametrize(
    ("slots", "active", "expected"),
    [
        pytest.param(1, 0, ["a"], id="one slot"),
        pytest.param(2, 0, ["a", "b"], id="two slots"),
        pytest.param(2, 1, ["a"], id="one of two in use"),
        pytest.param(1, 1, [], id="none free"),
        pytest.param(1, 3, [], id="limit lowered meanwhile"),
    ],
)
def test_D4_no_more_is_offered_than_slots_are_free(slots: int, active: int, expected: list[str]) -> None:
    """The rest is Queued, as the agent is busy."""
    given = [delegation(name) for name in "abc"]
    view = agent({"s": live()}, slots=slots)
    assert offered(given, view, active) == expected
    rest = {name: said for name, said in told(given, view, active).items() if name not in expected}
    assert set(rest.values()) == {(Phase.QUEUED, Reason.AGENT_BUSY)}


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(agent(exists=False), (Phase.PENDING, Reason.AGENT_NOT_FOUND), id="D6 no such agent"),
        pytest.param(OFFLINE, (Phase.QUEUED, Reason.AGENT_OFFLINE), id="offline"),
        pytest.param(agent({"s": live()}, suspended=True), (Phase.QUEUED, Reason.AGENT_SUSPENDED), id="suspended"),
        pytest.param(
            agent(suspended=True), (Phase.QUEUED, Reason.AGENT_SUSPENDED), id="suspended and offline: suspended"
        ),
        pytest.param(
            agent(runtime=Runtime.MODEL, suspended=True), (Phase.QUEUED, Reason.AGENT_SUSPENDED), id="a suspended Model"
        ),
        pytest.param(
            agent(runtime=Runtime.MODEL, provider="p"),
            (Phase.QUEUED, Reason.PROVIDER_UNKNOWN),
            id="a Model that Belay can't drive",
        ),
    ],
)
def test_what_waits_is_told_why(view: AgentView, expected: tuple[Phase, Reason]) -> None:
    """Whatever hinders an offer is the reason of the waiting delegation."""
    assert told([delegation("d")], view) == {"d": expected}


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param({"s": live()}, (Phase.DISPATCHED, Reason.DISPATCHED), id="attached"),
        pytest.param({"s": lost(at=0), "t": live()}, (Phase.QUEUED, Reason.SESSION_OFFLINE), id="lost"),
        pytest.param({"t": live()}, (Phase.QUEUED, Reason.SESSION_OFFLINE), id="never seen"),
    ],
)
def test_addressed_work_is_offered_to_its_session_only(
    sessions: dict[str, object], expected: tuple[Phase, Reason]
) -> None:
    """A sibling of the session it is addressed to can't take it."""
    view = agent(sessions)  # type: ignore[arg-type]
    assert told([delegation("d").to("a", session="s")], view) == {"d": expected}


def test_addressed_work_that_waits_holds_no_slot() -> None:
    """The next in the queue gets the slot that the first can't use."""
    given = [delegation("first").to("a", session="gone").priority(9), delegation("second")]
    assert offered(given, HERE) == ["second"]


@pytest.mark.parametrize(
    ("given", "view", "written"),
    [
        pytest.param(delegation("d").queued(at=0, reason=Reason.AGENT_OFFLINE), OFFLINE, False, id="same reason"),
        pytest.param(delegation("d").queued(at=0, reason=Reason.AGENT_BUSY), OFFLINE, True, id="another reason"),
        pytest.param(delegation("d").pending(Reason.AGENT_NOT_FOUND), agent(exists=False), False, id="still no agent"),
        pytest.param(
            delegation("d").queued(at=0, reason=Reason.AGENT_OFFLINE), agent(exists=False), True, id="agent deleted"
        ),
        pytest.param(delegation("d"), OFFLINE, True, id="never written"),
    ],
)
def test_I6_what_waits_for_the_same_reason_is_not_written_again(
    given: DelegationBuilder, view: AgentView, written: bool
) -> None:
    """Only a new reason is a write."""
    assert bool(told([given], view)) is written


MODEL = agent(runtime=Runtime.MODEL, slots=2)
OWN_SESSION = opened_session_name("a", "uid-d")


@pytest.mark.parametrize(
    ("given", "session"),
    [
        pytest.param(delegation("d"), OWN_SESSION, id="a session of its own"),
        pytest.param(delegation("d").to("a", session="chat"), "chat", id="the session it names"),
        pytest.param(delegation("d").to("a", session="x" * 63), "x" * 63, id="as long as it may be"),
    ],
)
def test_a_model_agent_needs_no_session_attached(given: DelegationBuilder, session: str) -> None:
    """It is dispatched to an AgentSession, which need not be there yet."""
    [(_, change)] = dispatch.plan([given.work], 0, MODEL, at(NOW))
    assert (change.target, change.reason) == (Phase.DISPATCHED, Reason.DISPATCHED)
    assert change.fields["sessionId"] == session
    assert session in change.message


def test_D4_a_model_agents_slots_are_counted_too() -> None:
    """Two at once, no session is unfit."""
    given = [delegation(name) for name in "abc"]
    plan = dispatch.plan(in_order(given), 0, MODEL, at(NOW), {"a"})
    assert [change.reason for _, change in plan] == [Reason.DISPATCHED, Reason.DISPATCHED, Reason.AGENT_BUSY]


@pytest.mark.parametrize("session", ["Chat", "a_b", "-a", "a..b", "a.-b", "x" * 64], ids=str)
def test_a_session_that_no_AgentSession_can_be_is_refused(session: str) -> None:
    """At once, holding no slot, and only after a live read of the agent, which might not be a Model any more."""
    given = [delegation("d").to("a", session=session).priority(1), delegation("e"), delegation("f")]
    [(_, change), *others] = dispatch.plan(in_order(given), 0, MODEL, at(NOW))
    assert (change.target, change.reason, change.live_read) == (Phase.FAILED, Reason.SESSION_MISMATCH, True)
    assert session in change.message
    assert [other.reason for _, other in others] == [Reason.DISPATCHED, Reason.DISPATCHED]


def test_taking_up_settles_deadline_and_attempt() -> None:
    """The first write fixes the deadline, from the creation, and the number of the attempt."""
    [(_, change)] = dispatch.plan([delegation().due_in(60).work], 0, HERE, at(NOW))
    assert change.fields == {
        "deadline": to_wire_seconds(at(60)),
        "attempt": 1,
        "dispatchedTime": to_wire(at(NOW)),
        "queuePosition": None,
    }


def test_S5_the_agents_deadline_counts_when_the_delegation_has_none() -> None:
    """An Agent's own deadlineSeconds is used for its work."""
    [(_, change)] = dispatch.plan([delegation().work], 0, agent({"s": live()}, times=Times(deadline=90)), at(NOW))
    assert change.fields["deadline"] == to_wire_seconds(at(90))


def test_waiting_keeps_the_place_in_the_queue() -> None:
    """queuedTime is set once and kept when only the reason changes."""
    [(_, first)] = dispatch.plan([delegation().work], 0, OFFLINE, at(NOW))
    [(_, again)] = dispatch.plan([delegation().queued(at=7).work], 0, OFFLINE, at(NOW))
    assert first.fields["queuedTime"] == to_wire(at(NOW))
    assert "queuedTime" not in again.fields


def test_a_later_attempt_keeps_its_number() -> None:
    """Dispatching a requeued delegation does not count it again."""
    [(_, change)] = dispatch.plan([delegation().queued(at=0, attempt=3).work], 0, HERE, at(NOW))
    assert change.fields["attempt"] == 3


def test_D7_work_that_nobody_accepted_backs_off_and_holds_up_nobody() -> None:
    """Offered in vain: not offered again for its backoff, while what came after it is."""
    vain = delegation("vain").queued(at=NOW, reason=Reason.NOT_ACCEPTED)
    younger = delegation("younger").queued(at=NOW)
    assert offered([vain, younger], HERE) == ["younger"]


@pytest.mark.parametrize(
    ("given", "sessions", "unfit", "expected"),
    [
        pytest.param(delegation(), {"s": live()}, {"s"}, Reason.AGENT_UNRESPONSIVE, id="the only session"),
        pytest.param(delegation(), {"s": live(), "t": live()}, {"s"}, Reason.DISPATCHED, id="a sibling is fit"),
        pytest.param(
            delegation(), {"s": live(), "t": lost(at=0)}, {"s"}, Reason.AGENT_UNRESPONSIVE, id="the fit one is lost"
        ),
        pytest.param(delegation(), {"s": live(), "t": live()}, {"s", "t"}, Reason.AGENT_UNRESPONSIVE, id="all of them"),
        pytest.param(
            delegation().to("a", session="s"),
            {"s": live(), "t": live()},
            {"s"},
            Reason.AGENT_UNRESPONSIVE,
            id="the one it is addressed to",
        ),
        pytest.param(
            delegation().to("a", session="t"), {"s": live(), "t": live()}, {"s"}, Reason.DISPATCHED, id="to a fit one"
        ),
        pytest.param(
            delegation().to("a", session="s"), {"s": lost(at=0), "t": live()}, {"s"}, Reason.SESSION_OFFLINE, id="away"
        ),
    ],
)
def test_D9_nothing_is_offered_where_only_wedged_sessions_could_take_it(
    given: DelegationBuilder, sessions: dict[str, object], unfit: set[str], expected: Reason
) -> None:
    """A session with work it doesn't answer for counts as none; what waits for that says so."""
    [(_, change)] = dispatch.plan([given.work], 0, agent(sessions), at(NOW), unfit)  # type: ignore[arg-type]
    assert change.reason is expected


def test_D4_a_resumed_beat_over_the_limit_stops_offers_until_below() -> None:
    """Two are in hand where one may be: nothing is offered at two nor at one."""
    assert [len(offered([delegation()], HERE, active)) for active in (2, 1, 0)] == [0, 0, 1]


def test_D4_what_is_queued_is_told_its_place_with_the_reason() -> None:
    """The first ten of what is left in the queue, in one write with why they wait."""
    given = [delegation(f"d{number:02}") for number in range(13)]
    plan = dispatch.plan(in_order(given), 0, HERE, at(NOW))
    assert [change.fields["queuePosition"] for _, change in plan] == [None, *range(1, 11), None, None]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        pytest.param([delegation("a").queued(at=0).placed(1), delegation("b").queued(at=1).placed(2)], {}, id="right"),
        pytest.param([delegation("b").queued(at=1).placed(2)], {"b": 1}, id="the first has gone"),
        pytest.param(
            [delegation("a").queued(at=0).placed(1), delegation("b").priority(9).queued(at=1).placed(2)],
            {"a": 2, "b": 1},
            id="overtaken",
        ),
        pytest.param([delegation("a").pending(Reason.AGENT_NOT_FOUND)], {}, id="not in a queue yet"),
        pytest.param(
            [*(delegation(f"{n:02}").queued(at=n).placed(n + 1) for n in range(10)), delegation("x").queued(at=99)],
            {},
            id="the eleventh has none",
        ),
        pytest.param(
            [delegation("!").priority(1).queued(at=50).placed(1)]
            + [delegation(f"{n:02}").queued(at=n).placed(n + 2) for n in range(10)],
            {"09": None},
            id="pushed out of the first ten",
        ),
    ],
)
def test_D4_places_that_are_wrong_are_found(given: list[DelegationBuilder], wrong: dict[str, int | None]) -> None:
    """Only those are written."""
    assert {work.ref.name: place for work, place in dispatch.misplaced(in_order(given))} == wrong


def test_D4_places_are_told_each_at_most_once_in_ten_seconds() -> None:
    """Seen first at 0 and wrong: told at 10; wrong again at once: told at 20."""
    clock = FakeClock(at(0))
    places = Places(clock)
    ref = agent().ref

    async def at_second(seconds: float, work: DelegationBuilder) -> tuple[list[int | None], float | None]:
        await clock.advance(seconds - (clock.now() - at(0)).total_seconds())
        ready, wait = places.due(ref, [work.work])
        return [place for _, place in ready], wait

    async def told() -> list[tuple[list[int | None], float | None]]:
        wrong = delegation("d").queued(at=0).placed(2)
        return [await at_second(seconds, wrong) for seconds in (0, 9, 10, 10, 20)]

    assert asyncio.run(told()) == [([], 10.0), ([], 1.0), ([1], None), ([], 10.0), ([1], None)]


def test_why_and_since_when_it_waits_is_told_to_pending_work_too() -> None:
    """A missing agent: the sentence says what to do, queuedTime since when."""
    [(_, change)] = dispatch.plan([delegation().work], 0, agent(exists=False), at(NOW))
    assert "create it" in change.message
    assert change.fields == {"queuedTime": to_wire(at(NOW))}
