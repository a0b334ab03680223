"""What the operator's log says of what it handles: agent, delegation and session, on no other's line."""

from collections.abc import Mapping
from typing import Any

from structlog.testing import capture_logs

from belay_kube.client import DELEGATIONS
from belay_kube.logs import say_names
from waiting import eventually

from .builders import delegation
from .faulty import Faulty, refusing
from .mail import Mail
from .played import PlayedGateway
from .world import World

UNANSWERABLE = "::fail 529 1000"
NAMES = ("namespace", "agent", "delegation", "session")


def named(line: Mapping[str, Any]) -> tuple[object, ...]:
    """The names on a line."""
    return tuple(line.get(name) for name in NAMES)


async def test_a_delegation_that_ends_is_named_with_its_agent_and_session(world: World, gateway: PlayedGateway) -> None:
    """Of two that end at the same instant each line names its own."""
    for name in ("a", "b"):
        await world.agent(name)
        session = await gateway.attach(name, f"s-{name}")
        await world.create(delegation(f"d-{name}").to(name).due_in(30))
        await world.settled()
        await session.accept(f"d-{name}")
    with capture_logs([say_names]) as logged:
        await world.pass_time(31)
    ns = world.namespace
    assert sorted(named(line) for line in logged if line["event"] == "delegation") == [
        (ns, f"{ns}/{name}", f"{ns}/d-{name}", f"s-{name}") for name in ("a", "b")
    ]


async def test_a_session_that_is_lost_is_named(world: World, gateway: PlayedGateway) -> None:
    """With its agent; other rows are named on their own lines."""
    await world.agent("a")
    await gateway.attach("a", "s-1")
    await gateway.attach("a", "s-2")
    await world.settled()
    with capture_logs([say_names]) as logged:
        await gateway.shut_down()
        await world.pass_time(120)
    ns = world.namespace
    assert sorted(named(line) for line in logged if line["event"] == "session lost") == [
        (ns, f"{ns}/a", None, "s-1"),
        (ns, f"{ns}/a", None, "s-2"),
    ]


async def test_what_fails_is_named_by_what_was_worked_on(stopped_world: World) -> None:
    """A write that is refused: the line that says so names the delegation, and nothing of the agent's line before."""
    world = stopped_world
    faulty = Faulty(world.operator_kube)
    await world.start(faulty)
    await world.agent("a")
    await world.settled()
    faulty.before_write = refusing(DELEGATIONS, "d")
    with capture_logs([say_names]) as logged:
        await world.create(delegation("d").to("a").due_in(5))
        await eventually(lambda: any(line["event"] == "will try again" for line in logged))
    ns = world.namespace
    found = {named(line) for line in logged if line["event"] == "will try again"}
    assert found <= {(ns, f"{ns}/a", None, None), (ns, None, f"{ns}/d", None)}


async def test_half_steps_of_two_sessions_name_their_own(world: World, mail: Mail) -> None:
    """Both ask at the same time, and get no answer."""
    for session in ("s", "t"):
        await mail.open(session)
    with capture_logs([say_names]) as logged:
        for session in ("s", "t"):
            await mail.send(UNANSWERABLE, session)
        for session in ("s", "t"):
            await mail.tells(session, phase="Idle", failedRounds=1)
    ns = mail.namespace
    lines = {named(line) for line in logged if line["event"] == "no answer"}
    assert lines == {(ns, f"{ns}/m", None, f"{ns}/{session}") for session in ("s", "t")}
    assert world.is_mine({"metadata": {"namespace": ns}})
