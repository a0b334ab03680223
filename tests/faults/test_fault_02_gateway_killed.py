"""Fault 2: a gateway is killed with SIGKILL under 1,000 sockets, while another one is up."""

from typing import Any

from belay_dev.stack import Stack
from faults.site import Site
from waiting import eventually

SOCKETS = 1000
AGENTS = 100
RETURNING = 600
"""Sessions of the agents `a0` to `a59`, by their numbers."""
HOLDING = 8


def agent_of(number: int) -> str:
    """Ten sessions an agent."""
    return f"a{number // 10}"


async def _tokens(site: Site) -> dict[str, Any]:
    """Who holds each session of the agent that is attached elsewhere, under which token."""
    rows = [row for row in await site.rows() if row["spec"]["agentRef"]["name"] == "elsewhere"]
    return {row["spec"]["sessionId"]: (row["status"]["phase"], row["status"]["token"]) for row in rows}


async def test_P7_fault_2_rows_of_a_killed_gateway_expire_and_work_goes_on(site: Site, stack: Stack) -> None:
    """All its rows expire by others' watching, nothing elsewhere changes, the brake holds every grace, and sessions
    that come back hold their work as before; what never comes back is treated in the end."""
    await site.agents(*(f"a{n}" for n in range(AGENTS)), "elsewhere")
    doomed, other = site.workers(stack.start_gateway("doomed")), site.workers(stack.ready.gateway)
    await other.dial_many(5, site.session_of(lambda _: "elsewhere"))
    await doomed.dial_many(SOCKETS, site.session_of(agent_of), at_once=200)
    for n in range(HOLDING):
        await site.delegate(f"held{n}", f"a{n}")
    await site.delegate("never-back", f"a{AGENTS - 1}")
    await site.delegate("elsewhere", "elsewhere")
    before = await _tokens(site)

    stack.kill("doomed")
    await doomed.until(lambda: doomed.count["lost"] == SOCKETS)
    await site.until_rows(SOCKETS, "Expired")
    await eventually(lambda: _is(site, "True", "FleetLost"))
    assert (await _tokens(site), other.count["lost"], other.sent_away) == (before, 0, [])

    back = site.workers(stack.ready.gateway)
    await back.dial_many(RETURNING, site.session_of(agent_of), at_once=200)
    await eventually(lambda: _is(site, "False", "FleetBack"))
    for n in range(HOLDING):
        await _finish(site, back, f"held{n}")
    await _finish(site, other, "elsewhere")
    site.lost.add("never-back")
    assert (await site.until_phase("never-back", "Cancelled"))["reason"] == "AgentOffline"
    await site.until_rows(RETURNING + 5)


async def _is(site: Site, *told: str) -> bool:
    return await site.braked() == told


async def _finish(site: Site, fleet: Any, name: str) -> None:
    """Its holder, under its old name at whichever gateway, hands in the result of the attempt it always had."""
    status = await site.status(name)
    assert (status["phase"], status["attempt"]) == ("InProgress", 1)
    fleet.complete(int(status["sessionId"].removeprefix("s")), name)
    done = await site.until_phase(name, "Completed")
    assert done["result"] == {"text": f"by {status['sessionId']}"}
