"""The operator on a real API server: finished delegations vanish after their time, unfinished ones never (D11)."""

import asyncio
from typing import Any

from belay_api.names import Ref
from belay_kube.client import DELEGATIONS, SWEEPERS, Collection, Json, Kube
from belay_operator.keys import Key, KeyKind
from belay_operator.sweep import UNFINISHED
from waiting import eventually

from .builders import DelegationBuilder, delegation
from .faulty import Faulty
from .played import BELAY, PlayedGateway, PlayedSession
from .world import LONG_STEP, World

SWEEP = 300
DAY = 86_400


async def working(world: World, gateway: PlayedGateway, **spec: Any) -> PlayedSession:
    """Agent `a` with one session."""
    await world.agent(maxActiveDelegations=20, **spec)
    session = await gateway.attach("a", "s")
    await world.settled()
    return session


async def done(world: World, session: PlayedSession, *given: DelegationBuilder) -> None:
    """Created, offered and Completed."""
    await world.create(*given)
    await world.settled()
    for one in given:
        await session.complete(one.name)
    await world.settled()


async def listed(world: World) -> None:
    """The operator lists what is finished, now."""
    await world.operator.finished.list()
    await world.settled()


async def there(world: World) -> set[str]:
    """Names of all delegations."""
    await world.settled()
    return {obj["metadata"]["name"] for obj in (await world.admin.list(DELEGATIONS, world.namespace))["items"]}


async def test_D11_a_short_life_ends_on_time_and_a_long_one_does_not(world: World, gateway: PlayedGateway) -> None:
    """At once, after a minute, and much later."""
    session = await working(world, gateway)
    await done(world, session, delegation("zero").kept_for(0), delegation("minute").kept_for(60), delegation("day"))
    assert await there(world) == {"minute", "day"}
    await world.pass_time(55)
    assert await there(world) == {"minute", "day"}
    await world.pass_time(10)
    assert await there(world) == {"day"}


async def test_D11_a_listing_finds_what_falls_due_before_the_next(world: World, gateway: PlayedGateway) -> None:
    """Also what ended before this operator was there; the time to live may be changed afterwards, and no sweep is
    needed."""
    session = await working(world, gateway)
    await done(world, session, delegation("hour").kept_for(3600), delegation("changed"))
    await world.stop()
    await world.admin.patch(SWEEPERS, BELAY, "default", {"spec": {"suspend": True}})
    try:
        await world.start()
        await eventually(lambda: is_noted(world, "hour"))
        spec = {"spec": {"ttlSecondsAfterFinished": 5000}}
        await world.admin.patch(DELEGATIONS, world.namespace, "changed", spec)
        await world.pass_time(3500, LONG_STEP)
        assert await there(world) == {"hour", "changed"}
        await world.pass_time(200, LONG_STEP)
        assert await there(world) == {"changed"}
        await eventually(lambda: is_noted(world, "changed"))
        await world.pass_time(1400, LONG_STEP)
        assert await there(world) == set()
    finally:
        await world.admin.patch(SWEEPERS, BELAY, "default", {"spec": {"suspend": None}})


async def is_noted(world: World, name: str) -> bool:
    """Whether it is known when a delegation is to be deleted."""
    return Key(KeyKind.ENDED, Ref(world.namespace, name)) in world.operator.seen.timers._due


class Log:
    """What the operator asked for, in order: `delete NAME`, `list NAMES_OF_PARENT`."""

    def __init__(self, kube: Faulty) -> None:
        self.lists: list[str] = []
        kube.before_list = self._list

    async def _list(self, path: Collection, query: Json) -> None:
        self.lists.append(query.get("fieldSelector", ""))


async def test_a_burst_of_expiry_does_not_hold_up_a_deadline(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """Eighty finished ones fall due, then one deadline: it is written when at most a few of them are gone.

    None is read before all are due: how many would be by then is the machine's affair.
    """
    world, kube = stopped_world, Faulty(operator_kube)
    await world.start(kube, workers=2)
    session = await working(world, gateway)
    names = [f"old{number}" for number in range(80)]
    await world.create(delegation("late").due_in(150))
    await done(world, session, *(delegation(name).kept_for(100) for name in names))
    reads: list[str] = []
    seen_at: list[int] = []
    all_due = asyncio.Event()

    async def count(path: Collection, name: str) -> None:
        if name.startswith("old"):
            await all_due.wait()
            reads.append(name)

    async def mark(path: Collection, obj: Json) -> None:
        if obj["metadata"]["name"] == "late" and not seen_at:
            seen_at.append(len(reads))

    kube.before_get, kube.before_write = count, mark
    await world.clock.advance(200)
    all_due.set()
    assert await there(world) == {"late"}
    assert await world.told("late") == "Failed DeadlineExceeded"
    assert seen_at[0] < 10
    assert len(reads) >= len(names)


async def test_D11_only_a_parent_costs_a_list_of_its_children(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """One that nobody was ever below is deleted without."""
    world, kube = stopped_world, Faulty(operator_kube)
    await world.start(kube)
    session = await working(world, gateway)
    await world.agent("b")
    other = await gateway.attach("b", "s-b")
    await listed(world)
    lists = Log(kube).lists
    await done(world, session, delegation("alone").kept_for(0))
    await world.create(delegation("top").kept_for(0), delegation("low").to("b").under("top").kept_for(DAY))
    await world.settled()
    await session.complete("top")
    await world.settled()
    await other.complete("low")
    assert await there(world) == {"top", "low"}
    children = [asked for asked in lists if "parentRef" in asked]
    assert children == ["spec.parentRef.name=top"]


async def test_D11_a_child_that_cannot_be_read_keeps_nobody_for_ever(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """It counts as a child as long as it is there, and no longer."""
    world, kube = stopped_world, Faulty(operator_kube)
    await world.start(kube)
    session = await working(world, gateway)

    async def garble(path: Collection, answer: Json) -> None:
        for obj in answer["items"]:
            if obj["metadata"]["name"] == "other":
                obj["status"]["phase"] = "Gibberish"

    await world.create(delegation("other"), delegation("top").kept_for(60))
    await world.settled()
    await session.complete("top")
    kube.after_list = garble
    await world.pass_time(120)
    assert await there(world) == {"other"}


async def test_a_long_sweep_is_not_taken_for_a_stalled_one(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """Each page is a sign of life: three that take 100 s each are no reason to start anew."""
    world, kube = stopped_world, Faulty(operator_kube)
    await world.start(kube)
    await world.settled()
    ages = []

    async def slow(path: Collection, answer: Json) -> None:
        kube.after_list = None
        await world.clock.advance(100)
        kube.after_list = slow
        ages.append(world.operator.sweeper.age())

    kube.after_list = slow
    await world.operator.sweeper.sweep()
    kube.after_list = None
    assert len(ages) >= 3
    assert max(ages) <= 100 + 1


async def test_what_is_finished_is_not_read_by_a_sweep(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """Its cost doesn't grow with what is finished."""
    world, kube = stopped_world, Faulty(operator_kube)
    await world.start(kube)
    await listed(world)
    lists = Log(kube).lists
    await world.operator.sweeper.sweep()
    assert [asked for asked in lists if "phase" in asked] == [UNFINISHED]


async def sweep(world: World) -> None:
    """One sweep, now."""
    await world.operator.sweeper.sweep()
    await world.settled()


async def test_D11_the_default_is_a_day_or_what_the_setting_says(stopped_world: World, gateway: PlayedGateway) -> None:
    """Where the delegation says nothing; what was deleted is counted in the sweeper's status."""
    world = stopped_world
    await world.start(ttl_seconds=120)
    session = await working(world, gateway)
    await done(world, session, delegation("d"), delegation("own").kept_for(DAY))
    await world.pass_time(115)
    assert await there(world) == {"d", "own"}
    await world.pass_time(10)
    assert await there(world) == {"own"}
    await world.pass_time(SWEEP, LONG_STEP)

    async def is_counted() -> bool:
        sweeper = await world.admin.get(SWEEPERS, BELAY, "default")
        return bool(sweeper["status"]["totals"].get("expired", 0) >= 1)

    await eventually(is_counted)


async def test_D11_unfinished_work_is_never_deleted(world: World, gateway: PlayedGateway) -> None:
    """Queued, running and Pending work with no time to live at all stays, sweep after sweep, listing after listing."""
    session = await working(world, gateway)
    await world.create(
        delegation("runs").kept_for(0).stuck_after(DAY),
        delegation("waits").to("nobody").kept_for(0),
    )
    await world.settled()
    await session.accept("runs")
    for _ in range(3):
        await sweep(world)
        await listed(world)
        await world.pass_time(SWEEP, LONG_STEP)
    assert await there(world) == {"runs", "waits"}


async def test_D11_the_acknowledgement_is_waited_for_but_not_longer_than_a_grace(
    world: World, gateway: PlayedGateway
) -> None:
    """Cancelled in its holder's hand: kept until the holder said that it stopped, or had its grace to say so."""
    session = await working(world, gateway)
    await world.create(delegation("silent").kept_for(0), delegation("queued").to("nobody").kept_for(0))
    await world.settled()
    await session.accept("silent")
    await world.settled()
    await world.cancel("silent")
    await world.cancel("queued")
    assert await there(world) == {"silent"}
    await world.pass_time(25)
    assert await there(world) == {"silent"}
    await world.pass_time(10)
    assert await there(world) == set()


async def test_D11_descendants_are_waited_for(world: World, gateway: PlayedGateway) -> None:
    """A finished parent stays while anything below it is there, and goes after it."""
    session = await working(world, gateway)
    await world.agent("b")
    other = await gateway.attach("b", "s-b")
    await world.create(delegation("top").kept_for(0))
    await world.create(delegation("low").to("b").under("top").kept_for(600))
    await world.settled()
    await other.accept("low")
    await session.complete("top")
    await sweep(world)
    assert await there(world) == {"top", "low"}
    assert await world.told("low") == "InProgress Dispatched"
    await other.complete("low")
    await listed(world)
    assert await there(world) == {"top", "low"}
    await world.pass_time(610, LONG_STEP)
    assert await there(world) == {"top"}
    await world.pass_time(60)
    assert await there(world) == set()
