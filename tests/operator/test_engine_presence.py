"""The operator on a real API server: who is there, and since when we can see (P2, P3, P6, P7, I7)."""

import pytest

from belay_kube.client import SUBSCRIPTIONS, Collection, Json, Kube
from belay_kube.reader import Reader
from belay_operator.handlers.sinks import EngineSink

from .builders import delegation
from .faulty import Faulty, refusing
from .played import PlayedGateway, PlayedSession
from .world import LONG_STEP, World


async def test_P2_routable_while_any_session_is_live(world: World, gateway: PlayedGateway) -> None:
    """Two sessions, one, none: routable until the last goes, and then at once."""
    await world.agent()
    sessions = [await gateway.attach("a", name) for name in ("s", "t")]
    seen = [await _shown(world)]
    for session in sessions:
        await session.drop()
        seen.append(await _shown(world))
    assert seen == [(True, 2, "True"), (True, 1, "True"), (False, 0, "False")]


async def test_P2_offline_since_is_shown_while_nobody_is_there(world: World, gateway: PlayedGateway) -> None:
    """Set when the last session goes, removed when one comes."""
    await world.agent()
    session = await gateway.attach("a", "s")
    assert "offlineSince" not in await world.agent_status()
    await session.drop()
    assert "offlineSince" in await world.agent_status()
    await session.attach()
    assert "offlineSince" not in await world.agent_status()


async def _shown(world: World) -> tuple[bool, int, str]:
    status = await world.agent_status()
    online = next(c["status"] for c in status["conditions"] if c["type"] == "Online")
    return status["routable"], status["liveSessions"], online


async def test_P3_a_session_that_is_not_renewed_is_live_at_44_s_and_expired_at_46_s(
    world: World, gateway: PlayedGateway
) -> None:
    """Its gateway is heard, its sibling renewed; it is Expired (Stale) and doesn't count any more."""
    await world.agent()
    silent, _ = await gateway.attach("a", "s"), await gateway.attach("a", "t")
    await world.settled()
    silent.crash()
    await world.pass_time(44)
    assert await world.rows() == {"s": "Live", "t": "Live"}
    await world.pass_time(2)
    assert await world.rows() == {"s": "Expired", "t": "Live"}
    assert (await world.agent_status())["liveSessions"] == 1


async def test_P3_one_missed_beat_does_not_flap(world: World, gateway: PlayedGateway) -> None:
    """Renewed every 30 s instead of every 15, a session is live all along: it is never written."""
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.settled()
    for _ in range(4):
        session.renewing = False
        await world.pass_time(15)
        assert await world.rows() == {"s": "Live"}
        session.renewing = True
        await world.pass_time(15)
    assert (await world.agent_status())["routable"]


async def test_P6_a_dead_row_that_cannot_be_marked_does_not_pin_routing(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """Rows can't be written: a stale sibling isn't counted all the same, and agent-wide work is ended in time."""
    world, kube = stopped_world, Faulty(operator_kube)
    kube.before_write = refusing(SUBSCRIPTIONS)
    await world.start(kube)
    await world.agent()
    session, crashed = await gateway.attach("a", "s"), await gateway.attach("a", "t")
    await world.create(delegation("d"))
    await world.settled()
    crashed.crash()
    await world.pass_time(46)
    assert (await world.agent_status())["liveSessions"] == 1
    await session.drop()
    assert (await world.agent_status())["routable"] is False
    await world.pass_time(29)
    assert await world.told("d") == "Cancelled AgentOffline"
    assert (await world.rows())["t"] == "Live"


async def test_P7_the_rows_of_a_killed_gateway_expire_and_others_stay(world: World, gateway: PlayedGateway) -> None:
    """Another gateway is up: within 60 s the killed one's rows are Expired without its help."""
    await world.agent()
    other = world.gateway()
    await other.renew()
    for number in range(3):
        await gateway.attach("a", f"killed-{number}")
    await other.attach("a", "stays")
    await world.settled()
    gateway.kill()
    await world.pass_time(60)
    assert await world.rows() == {**{f"killed-{n}": "Expired" for n in range(3)}, "stays": "Live"}


async def test_P7_a_gateway_that_shuts_down_ends_its_rows_at_once_and_nothing_is_cancelled_in_time(
    world: World, gateway: PlayedGateway
) -> None:
    """Its rows are Disconnected (GatewayShutdown); the session is back at another gateway within the grace."""
    await world.agent()
    session, other = await gateway.attach("a", "s"), world.gateway()
    await other.renew()
    await world.create(delegation("d"))
    await world.settled()
    await session.accept("d")
    await gateway.shut_down()
    await world.settled()
    row = await world.admin.get(SUBSCRIPTIONS, world.namespace, session.row)
    assert (row["status"]["phase"], row["status"]["reason"]) == ("Disconnected", "GatewayShutdown")
    await world.pass_time(20)
    await other.attach("a", "s")
    await world.pass_time(60)
    assert await world.told("d") == "InProgress Dispatched"


async def test_P3_a_renewal_that_the_watch_did_not_tell_of_keeps_the_row_live(
    world: World, gateway: PlayedGateway
) -> None:
    """Stale as far as we saw, but the write is refused as the row has moved: what is read then is a sign of life."""
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.settled()
    session.crash()
    await world.pass_time(40)
    watching = world.operator.readers["subscriptions"]
    assert isinstance(watching, Reader)
    sink = watching._sink
    assert isinstance(sink, EngineSink)
    sink._saw = lambda _: None
    session.renewing = True
    await session.touch()
    await world.clock.advance(6)
    assert await world.rows() == {"s": "Live"}


# --- blind time ---


async def lost_one(world: World, gateway: PlayedGateway) -> PlayedSession:
    """`d` is held by a session that was just dropped."""
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.create(delegation("d"))
    await world.settled()
    await session.accept("d")
    await session.drop()
    return session


@pytest.mark.parametrize("reader", ["delegations", "subscriptions", "leases"])
async def test_I7_without_contact_nothing_is_cancelled_and_then_the_grace_starts_anew(
    world: World, gateway: PlayedGateway, reader: str
) -> None:
    """Blind from 10 s to 100 s after the drop: untouched until 130 s, then cancelled."""
    await lost_one(world, gateway)
    await world.pass_time(10)
    watching = world.operator.readers[reader]
    assert isinstance(watching, Reader)
    sink = watching._sink
    assert isinstance(sink, EngineSink)
    sink.lost()
    await world.pass_time(90)
    sink.synced()
    await world.pass_time(29.9)
    assert await world.told("d") == "InProgress Dispatched"
    await world.pass_time(0.1)
    assert await world.told("d") == "Cancelled AgentOffline"


async def test_I7_without_any_gateway_nothing_is_expired_or_cancelled(world: World, gateway: PlayedGateway) -> None:
    """The only gateway is gone for 10 minutes: rows and work stay; its successor starts every grace anew."""
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.create(delegation("d"))
    await world.settled()
    await session.accept("d")
    await world.pass_time(1)
    gateway.kill()
    await world.pass_time(600, LONG_STEP)
    assert await world.rows() == {"s": "Live"}
    successor = world.gateway()
    await successor.renew()
    await world.pass_time(40)
    await successor.attach("a", "s")
    await world.pass_time(60)
    assert await world.told("d") == "InProgress Dispatched"


async def test_I7_the_live_read_finds_a_session_that_the_watch_has_not_told_of(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """It is back at the very moment at which its work is about to be cancelled: nothing is."""
    world, kube = stopped_world, Faulty(operator_kube)
    await world.start(kube)
    session = await lost_one(world, gateway)

    async def return_now(path: Collection, query: Json) -> None:
        if path == SUBSCRIPTIONS and query["namespace"] == world.namespace:
            kube.before_list = None
            await session.attach()

    kube.before_list = return_now
    await world.pass_time(60)
    assert kube.before_list is None
    assert await world.told("d") == "InProgress Dispatched"
