"""What sessions spend shows in the status of their agent, on the real API server (issue "model agents")."""

from belay_kube.client import AGENTS

from .mail import Mail
from .world import World

_LATER = 10
"""Seconds after which counts are told."""


async def spent(mail: Mail) -> int:
    """Calls that the agent's status tells of."""
    status = (await mail.kube.get(AGENTS, mail.namespace, "m")).get("status") or {}
    return int((status.get("usage") or {}).get("calls", 0))


async def test_an_agent_tells_what_its_sessions_spent(world: World, mail: Mail) -> None:
    """Each half-step is counted soon, also when nothing else happens to the agent."""
    await mail.open()
    await world.pass_time(_LATER)
    told = []
    for number in (1, 2):
        await mail.send("hello")
        await mail.has_turns(number)
        await world.pass_time(_LATER)
        told.append(await spent(mail))
    assert told == [1, 2]
