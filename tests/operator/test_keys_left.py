"""What the operator remembers of a key is forgotten once nobody works on it any more: no API server is needed."""

from collections.abc import AsyncIterator, Iterable

import pytest
from kubernetes.aio.client import ApiClient

from belay_api.names import Ref
from belay_api.timing import Times
from belay_kube.client import Collection, Json, Kube
from belay_kube.clock import FakeClock
from belay_kube.errors import Forbidden
from belay_operator import expiry
from belay_operator.apply import Applier
from belay_operator.engine import Engine
from belay_operator.events import Recorder
from belay_operator.finished import GAP_SECONDS, FinishedLister
from belay_operator.handlers import sinks
from belay_operator.keys import Key, KeyKind
from belay_operator.metrics import Metrics
from belay_operator.observe.index import Index
from belay_operator.observe.presence import Presence
from belay_operator.observe.records import AgentRecord
from belay_operator.queues import after
from belay_operator.seen import Seen
from belay_operator.trouble import PERSISTENT

from .builders import NAMESPACE, T0, agent, delegation
from .faulty import Faulty
from .test_lagging import tail


class Given:
    """An engine whose keys are worked on by the test, one by one."""

    def __init__(self, kube: Kube) -> None:
        self.kube = Faulty(kube)
        self.clock = FakeClock(T0)
        metrics = Metrics()
        self.presence = Presence(self.clock, 45)
        self.seen = Seen(Index(Times()), self.presence, self.clock, metrics)
        applier = Applier(self.kube, self.clock, Recorder(self.kube, self.clock, "operator", metrics), metrics)
        self.engine = Engine(self.seen, applier, self.clock, metrics, Ref("belay", "default"))
        self.expiry = self.engine.expiry
        self.lister = FinishedLister(self.kube, self.seen, self.expiry, self.clock)
        self.sink = sinks.delegations(self.seen, metrics)

    async def work_on(self, kind: KeyKind) -> None:
        """Work on each key of this kind that waits; the others are dropped."""
        while len(self.seen.queue):
            key = await self.seen.queue.take()
            if key.kind is kind:
                await self.engine._work_on(key)
            self.seen.queue.done(key)

    def fails(self, key: Key) -> None:
        """It is tried in vain until that is said."""
        for _ in range(PERSISTENT):
            self.engine._before[key] = self.engine._failures.get(key, 0)
            self.engine._again(key, Forbidden("refused by the test", 403))
        self.engine._before.clear()
        assert self.engine.trouble._message()

    def is_in_trouble(self) -> bool:
        """Whether anything is remembered to fail."""
        return bool(self.engine._failures or self.engine.trouble._failing)

    def end(self, names: Iterable[str], ttl: int) -> None:
        """Delegations end now, and are to live so long."""
        for name in names:
            self.expiry.ended(delegation(name).kept_for(ttl).work)

    def noted(self) -> set[str]:
        """What is known to fall due."""
        return {ref.name for ref in self.expiry._noted}


@pytest.fixture
async def given() -> AsyncIterator[Given]:
    """An engine that can reach no API server."""
    kube = Kube(ApiClient())
    yield Given(kube)
    await kube.close()


async def test_fault_22_work_that_others_end_is_trouble_no_more(given: Given) -> None:
    """It failed again and again, then it was deleted before the next try: nothing is left of that."""
    work = delegation("d").work
    given.seen.saw_work(work)
    await given.seen.queue.take()
    given.seen.queue.done(Key(KeyKind.WORK, work.ref))
    given.fails(Key(KeyKind.WORK, work.ref))
    given.seen.gone_work(work.ref, "2")
    await given.work_on(KeyKind.WORK)
    assert not given.is_in_trouble()
    assert len(given.seen.timers) == 0


async def test_fault_22_what_is_left_to_a_listing_is_trouble_no_more(given: Given) -> None:
    """A finished one that could not be read is left out for want of room: it is found, and tried, later."""
    failing = Key(KeyKind.ENDED, Ref(NAMESPACE, "last"))
    given.end(["last"], 4000)
    given.fails(failing)
    given.end((f"d{number}" for number in range(expiry.MOST)), 60)
    assert "last" not in given.noted()
    assert not given.is_in_trouble()


async def test_D11_the_soonest_are_noted_and_room_is_made_once(given: Given) -> None:
    """Full: the later half makes room for what is sooner, and what is later than the kept waits for a listing."""
    for number in range(expiry.MOST):
        given.end([f"d{number}"], 100 + number // 10)
    assert not given.expiry.wants_listing()
    given.end(["soon"], 10)
    kept = {f"d{number}" for number in range(expiry.MOST // 2)}
    assert given.noted() == {*kept, "soon"}
    given.end(["later"], 4000)
    assert given.noted() == {*kept, "soon"}
    assert len(given.seen.timers) == len(kept) + 1


async def test_D11_no_room_is_made_for_what_is_later_than_all_that_is_noted(given: Given) -> None:
    """Room is made where all are due at one time too, and not for one that is due later than all of them."""
    given.end((f"d{number}" for number in range(expiry.MOST + 1)), 60)
    given.end((f"e{number}" for number in range(expiry.MOST // 2 - 1)), 60)
    before = given.noted()
    assert len(before) == expiry.MOST
    given.end(["later"], 61)
    assert given.noted() == before
    given.expiry.begin()
    assert not given.expiry.wants_listing()


async def refuse(path: Collection, query: Json) -> None:
    """No list is answered."""
    raise Forbidden("refused by the test", 403)


async def test_D11_a_listing_that_fails_is_tried_again(given: Given) -> None:
    """Also when it was asked for before its hour."""
    given.lister._listed_at = given.clock.monotonic()
    given.expiry.parents.end()
    given.expiry.parents.begin([])
    given.expiry.parents.end()
    assert not given.lister._is_due()
    given.kube.before_list = refuse
    await given.lister._try()
    assert given.lister._is_due()


async def test_D11_after_a_gap_anyone_may_be_a_parent_until_the_next_listing(given: Given) -> None:
    """A child may have come and ended unseen; a listing that runs meanwhile doesn't settle it."""
    parents, parent = given.expiry.parents, Ref(NAMESPACE, "top")
    given.lister._listed_at = given.clock.monotonic()
    parents.begin([])
    parents.end()
    assert not parents.may_be(parent)
    parents.begin([])
    given.sink.lost()
    given.sink.synced()
    parents.end()
    assert parents.may_be(parent)
    await given.clock.advance(GAP_SECONDS)
    assert given.lister._is_due()
    parents.begin([])
    parents.end()
    assert not parents.may_be(parent)
    assert not given.lister._is_due()


async def test_D11_a_child_that_cannot_be_read_is_one(given: Given) -> None:
    """Its parent is known as such by the watch as well."""
    parents = given.expiry.parents
    parents.begin([])
    parents.end()
    obj = delegation("low").under("top").obj
    obj["status"]["phase"] = 5
    given.sink.changed(obj)
    assert not given.seen.index.work
    assert parents.may_be(Ref(NAMESPACE, "top"))


async def test_I6_the_tail_of_a_queue_that_is_empty_is_forgotten(given: Given) -> None:
    """Whoever waited for the agent has gone."""
    meta = {"namespace": NAMESPACE, "name": "a", "uid": "u", "resourceVersion": "1"}
    given.seen.saw_agent(AgentRecord.read({"metadata": meta, "spec": {}}))
    agents = given.engine.agents
    agents._lagging.due(agent().ref, tail(3))
    assert agents._lagging._tails
    await agents._dispatch(agent().ref)
    assert not agents._lagging._tails


async def test_D6_who_is_answered_from_memory_asks_again(given: Given) -> None:
    """A parent that was missing a moment ago: in five seconds it is asked for; word of it while asked counts more."""
    kinship, top = given.seen.index.kinship, Ref(NAMESPACE, "top")
    child = delegation("low").under("top").work
    families = given.engine.delegations.families
    kinship.asks(top)
    kinship.heard_of(top)
    kinship.missed(top, given.clock.monotonic())
    assert not families._is_missing(top, child)
    kinship.asks(top)
    kinship.missed(top, given.clock.monotonic())
    assert families._is_missing(top, child)
    assert given.seen.timers._due == {Key(KeyKind.AGENT, child.agent): after(given.clock.now(), 5)}
