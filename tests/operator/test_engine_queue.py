"""The operator on a real API server: places in the queue, and sessions that don't answer for their work (D4, D9)."""

from belay_api.times import to_wire
from belay_kube.client import AGENTS, DELEGATIONS, EVENTS
from belay_operator.telling import COUNTS_SECONDS
from waiting import eventually

from .builders import delegation
from .played import PlayedGateway, PlayedSession
from .world import World


async def busy(world: World, gateway: PlayedGateway, waiting: int) -> PlayedSession:
    """Agent `a` works on `first`; `d01`, `d02` and so on wait, a second apart."""
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.create(delegation("first"))
    await world.settled()
    await session.accept("first")
    for number in range(1, waiting + 1):
        await world.create(delegation(f"d{number:02}"))
        await world.pass_time(1)
    return session


async def places(world: World) -> dict[str, int | None]:
    """What each waiting delegation says of its place."""
    await world.settled()
    items = (await world.admin.list(DELEGATIONS, world.namespace))["items"]
    queued = [item for item in items if item["status"]["phase"] == "Queued"]
    return {item["metadata"]["name"]: item["status"].get("queuePosition") for item in queued}


async def test_D4_the_first_ten_are_told_their_place(world: World, gateway: PlayedGateway) -> None:
    """Twelve wait: ten have a place; when the head goes, the rest move up within ten seconds, the eleventh to ten."""
    session = await busy(world, gateway, 12)
    names = [f"d{number:02}" for number in range(1, 13)]
    assert await places(world) == dict(zip(names, [*range(1, 11), None, None], strict=True))
    await session.complete("first")
    await world.pass_time(20)
    assert await places(world) == dict(zip(names[1:], [*range(1, 11), None], strict=True))


async def test_I6_a_place_is_written_at_most_once_in_ten_seconds(world: World, gateway: PlayedGateway) -> None:
    """Five ends in a row, a second apart: the last of eight is written once for all of them."""
    session = await busy(world, gateway, 8)
    await world.pass_time(20)
    writes = 0
    running, last = "first", (await world.status("d08"))["queuePosition"]
    for number in range(1, 6):
        await session.complete(running)
        running = f"d{number:02}"
        await world.pass_time(1)
        now = (await world.status("d08"))["queuePosition"]
        writes += now != last
        last = now
    assert writes <= 1
    await world.pass_time(20)
    assert await places(world) == {"d06": 1, "d07": 2, "d08": 3}


async def test_D4_what_queued_for_a_moment_costs_no_write_for_its_place(world: World, gateway: PlayedGateway) -> None:
    """Created, Queued with its place, Dispatched: and nothing in between when what was before it goes."""
    session = await busy(world, gateway, 2)
    queued = await _version(world, "d02")
    await session.complete("first")
    await world.settled()
    assert await _version(world, "d02") == queued
    await session.complete("d01")
    assert await world.told("d02") == "Dispatched Dispatched"
    assert "queuePosition" not in await world.status("d02")


async def _version(world: World, name: str) -> str:
    found: str = (await world.admin.get(DELEGATIONS, world.namespace, name))["metadata"]["resourceVersion"]
    return found


async def test_D4_priority_raised_moves_up(world: World, gateway: PlayedGateway) -> None:
    """The queue follows spec.priority, which may change."""
    await busy(world, gateway, 3)
    await world.admin.patch(DELEGATIONS, world.namespace, "d03", {"spec": {"priority": 7}})
    await world.pass_time(12)
    assert await places(world) == {"d03": 1, "d01": 2, "d02": 3}


async def test_D9_a_wedged_session_is_offered_nothing_and_what_waits_says_so(
    world: World, gateway: PlayedGateway
) -> None:
    """Its row says that it owes an answer: AgentUnresponsive, also after a restart, until it answers."""
    await world.agent(maxActiveDelegations=2)
    session = await gateway.attach("a", "s")
    await session.wedge()
    await world.create(delegation("d"), delegation("for-t").to("a", session="t"))
    assert await world.told("d") == "Queued AgentUnresponsive"
    assert await world.told("for-t") == "Queued SessionOffline"
    await world.stop()
    await world.start()
    assert await world.told("d") == "Queued AgentUnresponsive"
    assert "queuedTime" in await world.status("d")
    await session.wedge(unresponsive=False)
    assert await world.told("d") == "Dispatched Dispatched"


async def test_S12_stuck_work_keeps_offers_from_its_session_until_it_beats(
    world: World, gateway: PlayedGateway
) -> None:
    """The slot is free, but nobody is there who could take the next; a resumed beat over the limit takes none away."""
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.create(delegation("d").stuck_after(20))
    await world.settled()
    await session.accept("d")
    await session.beat("d")
    await world.create(delegation("next"))
    await world.pass_time(25)
    assert [await world.told("d"), await world.told("next")] == ["Stuck NoHeartbeat", "Queued AgentUnresponsive"]
    sibling = await gateway.attach("a", "t")
    assert await world.told("next") == "Dispatched Dispatched"
    await sibling.accept("next")
    beat = to_wire(world.clock.now())
    await session.write("d", phase="InProgress", reason="Resumed", lastHeartbeatTime=beat)
    await world.create(delegation("third"))
    assert await world.told("third") == "Queued AgentBusy"
    await sibling.complete("next")
    assert await world.told("third") == "Queued AgentBusy"
    await session.complete("d")
    assert await world.told("third") == "Dispatched Dispatched"


async def test_addressed_work_waits_for_its_session(world: World, gateway: PlayedGateway) -> None:
    """A sibling is attached and idle: SessionOffline, until the session itself comes."""
    await world.agent()
    await gateway.attach("a", "t")
    await world.create(delegation("d").to("a", session="s"))
    assert await world.told("d") == "Queued SessionOffline"
    await gateway.attach("a", "s")
    assert await world.told("d") == "Dispatched Dispatched"


async def test_every_waiting_object_says_why_and_since_when(world: World, gateway: PlayedGateway) -> None:
    """No agent, none attached, suspended: a reason, a sentence, and queuedTime each."""
    await world.agent("off")
    await world.agent("drained", suspend=True)
    await world.create(
        delegation("nobody").to("nobody"), delegation("off").to("off"), delegation("drained").to("drained")
    )
    expected = {"nobody": "AgentNotFound", "off": "AgentOffline", "drained": "AgentSuspended"}
    await world.settled()
    for name, reason in expected.items():
        status = await world.status(name)
        assert (status["reason"], bool(status["message"]), "queuedTime" in status) == (reason, True, True)
    await world.admin.patch(AGENTS, world.namespace, "drained", {"spec": {"suspend": False}})
    assert await world.told("drained") == "Queued AgentOffline"


async def test_I6_a_flap_writes_only_the_head_of_a_queue(world: World, gateway: PlayedGateway) -> None:
    """The session is lost and back within 5 s: what waits behind the first ten isn't touched. Lost for good: it is."""
    session = await busy(world, gateway, 12)
    before = [await _version(world, name) for name in ("d11", "d12")]
    await session.drop()
    assert [await world.told("d01"), await world.told("d12")] == ["Queued AgentOffline", "Queued AgentBusy"]
    await world.pass_time(5)
    await session.attach()
    assert await world.told("d01") == "Queued AgentBusy"
    await world.pass_time(20)
    assert [await _version(world, name) for name in ("d11", "d12")] == before
    await session.drop()
    await world.pass_time(12)
    assert [await world.told("d11"), await world.told("d12")] == ["Queued AgentOffline", "Queued AgentOffline"]


async def test_a_place_in_the_queue_ends_with_the_work(world: World, gateway: PlayedGateway) -> None:
    """What was cancelled while it waited shows no place any more."""
    await world.agent()
    await gateway.attach("a", "s")
    await world.create(delegation("first"), delegation("second"))
    await world.settled()
    assert (await world.status("second"))["queuePosition"] == 1
    await world.cancel("second")
    assert await world.told("second") == "Cancelled Cancelled"
    assert "queuePosition" not in await world.status("second")


async def test_I6_why_work_waits_stands_in_its_status_and_costs_no_event(world: World, gateway: PlayedGateway) -> None:
    """Nothing is told of what waits for a slot; of its end, which was posted after that, there is an Event."""
    await busy(world, gateway, 3)
    await world.create(delegation("late").due_in(5))
    assert [await world.told(name) for name in ("d01", "late")] == ["Queued AgentBusy"] * 2
    await world.pass_time(20)

    async def told() -> set[tuple[str, str]]:
        events = (await world.admin.list(EVENTS, world.namespace))["items"]
        found = {(event["regarding"]["kind"], event["reason"]) for event in events}
        return found if ("Delegation", "DeadlineExceeded") in found else set()

    assert {reason for kind, reason in await eventually(told) if kind == "Delegation"} == {"DeadlineExceeded"}


async def test_I6_how_much_work_an_agent_has_is_told_every_few_seconds(world: World, gateway: PlayedGateway) -> None:
    """Work ends each second for ten: the Agent is written a few times for all of it, and then says what is true."""
    session = await busy(world, gateway, 10)
    await world.pass_time(COUNTS_SECONDS)
    told = [(await world.agent_status())["queuedDelegations"]]
    for number in range(10):
        await session.complete(f"d{number:02}" if number else "first")
        told.append((await world.agent_status())["queuedDelegations"])
    assert 2 <= len(set(told)) <= 2 + 10 / COUNTS_SECONDS + 1, told
    await world.pass_time(COUNTS_SECONDS)
    status = await world.agent_status()
    assert (status["queuedDelegations"], status["activeDelegations"]) == (0, 1)
