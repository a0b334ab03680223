"""Fault 3: a gateway is ended with SIGTERM, as a rolling update does."""

import asyncio

import aiohttp

from belay_dev.stack import Stack
from belay_kube.client import LEASES
from belay_kube.errors import NotFound
from faults.invariants import OPERATOR_NAMESPACE
from faults.site import Site
from gateway.stage import fetch
from waiting import eventually

SOCKETS = 30
AGENTS = 10


def agent_of(number: int) -> str:
    """Three sessions an agent."""
    return f"a{number // 3}"


async def _is_free(site: Site, lease: str) -> bool:
    """Whether a gateway gave its Lease up; the operator deletes those that nobody needs."""
    try:
        return not (await site.admin.get(LEASES, OPERATOR_NAMESPACE, lease))["spec"].get("holderIdentity")
    except NotFound:
        return True


async def _refusal(url: str) -> tuple[int, str] | None:
    """The first answer that isn't 200; None while it is."""
    try:
        status, text = await fetch(f"{url}/readyz")
    except aiohttp.ClientError as error:
        return 0, str(error)
    return None if status == 200 else (status, text)


async def test_P7_fault_3_peers_are_told_and_nothing_is_cancelled(site: Site, stack: Stack) -> None:
    """Everybody is told to reconnect, nobody is let in meanwhile, the Lease is released, the work goes on elsewhere."""
    await site.agents(*(f"a{n}" for n in range(AGENTS)))
    url = stack.start_gateway("leaving")
    leaving, other = site.workers(url), site.workers(stack.ready.gateway)
    await leaving.dial_many(SOCKETS, site.session_of(agent_of))
    for n in range(AGENTS):
        await site.delegate(f"d{n}", f"a{n}")
    lease = (await site.rows())[0]["status"]["holderIdentity"]

    stopping = asyncio.create_task(asyncio.to_thread(stack.stop, "leaving"))
    assert await eventually(lambda: _refusal(url)) == (503, "shutting down\n")
    assert (await fetch(f"{url}/cable"))[0] == 503
    await leaving.until(lambda: leaving.count["lost"] == SOCKETS)
    assert [(told["reason"], told["reconnect"]) for told in leaving.sent_away] == [("server_restart", True)] * SOCKETS
    await other.dial_many(SOCKETS, site.session_of(agent_of))
    await stopping
    await eventually(lambda: _is_free(site, lease))

    await site.until_rows(SOCKETS, "Live")
    for n in range(AGENTS):
        status = await site.status(f"d{n}")
        other.complete(int(status["sessionId"].removeprefix("s")), f"d{n}")
        done = await site.until_phase(f"d{n}", "Completed")
        assert (done["attempt"], done["sessionId"]) == (1, status["sessionId"])
