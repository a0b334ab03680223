"""A Model agent delegates a part of its work, on the real API server: all parts of Belay are one loop (L14, D8)."""

from collections.abc import AsyncIterator

import pytest

from belay_kube.client import DELEGATIONS, SESSIONS, TURNS, Json
from waiting import eventually

from .builders import delegation
from .mail import Mail
from .played import PlayedGateway
from .world import World

PLAN = """Have the walls built.
::say I hand the walls to mason.
::call delegate {"agent": "mason", "prompt": "walls"}
::then
::say mason: {result}"""


@pytest.fixture
async def mail(world: World) -> AsyncIterator[Mail]:
    """A Model agent `lead` that may delegate to `mason`, which is a process."""
    made = Mail(world.admin, world.namespace)
    await world.agent("mason")
    await made.agent("lead", tools=[{"name": "delegate", "agents": ["mason"]}])
    yield made
    for collection in (SESSIONS, TURNS):
        await world.admin.delete(collection, world.namespace, "")


async def part_of(world: World, name: str) -> Json:
    """The delegation below another, once it is there."""

    async def found() -> Json | None:
        listed = await world.admin.list(DELEGATIONS, world.namespace, fieldSelector=f"spec.parentRef.name={name}")
        return listed["items"][0] if listed["items"] else None

    return await eventually(found)


async def test_L14_a_killed_agent_comes_back_as_a_tool_response(
    world: World, mail: Mail, gateway: PlayedGateway
) -> None:
    """The model's part is cancelled with its agent; the model is told, and finishes with that."""
    mason = await gateway.attach("mason", "s1")
    await world.create(delegation("house").to("lead").asking(PLAN))
    part = await part_of(world, "house")
    await world.settled()
    await mason.accept(part["metadata"]["name"])
    await mason.drop()
    await world.pass_time(31)

    async def ended() -> Json | None:
        status = await world.status("house")
        return status if status.get("phase") == "Completed" else None

    status = await eventually(ended)
    assert "AgentOffline" in status["result"]["text"]
