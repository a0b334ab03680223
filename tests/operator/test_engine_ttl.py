"""The operator on a real API server: finished delegations vanish after their time, unfinished ones never (D11)."""

from typing import Any

from belay_kube.client import DELEGATIONS, SWEEPERS
from waiting import eventually

from .builders import DelegationBuilder, delegation
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


async def test_D11_a_sweep_finds_what_falls_due_before_the_next(world: World, gateway: PlayedGateway) -> None:
    """Also what ended before this operator was there; the time to live may be changed afterwards."""
    session = await working(world, gateway)
    await done(world, session, delegation("hour").kept_for(3600), delegation("changed"))
    await world.stop()
    await world.start()
    spec = {"spec": {"ttlSecondsAfterFinished": 3600}}
    await world.admin.patch(DELEGATIONS, world.namespace, "changed", spec)
    for _ in range(11):
        await sweep(world)
        await world.pass_time(SWEEP, LONG_STEP)
    assert await there(world) == {"hour", "changed"}
    await sweep(world)
    await world.pass_time(SWEEP, LONG_STEP)
    assert await there(world) == set()


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
        return bool(sweeper["status"]["totals"].get("expired") == 1)

    await eventually(is_counted)


async def test_D11_unfinished_work_is_never_deleted(world: World, gateway: PlayedGateway) -> None:
    """Queued, running and Pending work with no time to live at all stays, sweep after sweep."""
    session = await working(world, gateway)
    await world.create(
        delegation("runs").kept_for(0).stuck_after(DAY),
        delegation("waits").to("nobody").kept_for(0),
    )
    await world.settled()
    await session.accept("runs")
    for _ in range(3):
        await sweep(world)
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
    await sweep(world)
    assert await there(world) == {"top", "low"}
    for _ in range(3):
        await world.pass_time(SWEEP, LONG_STEP)
        await sweep(world)
    assert await there(world) == set()
