"""Fault 13: an Agent is deleted while it has live sockets and open work."""

from belay_api.reasons import Reason
from belay_dev.stack import Stack
from belay_kube.client import AGENTS, PERMISSION_REQUESTS
from faults.site import SECONDS, Site
from gateway.peer import Dialer, Peer, dialer, identifier
from waiting import eventually

SESSIONS = ("s0", "s1")


async def _attached(site: Site, dialing: Dialer, session: str) -> tuple[Peer, str]:
    agent = f"{site.namespace}/a"
    peer = await dialing.dial(site.token)
    await peer.subscribe(agent, session)
    return peer, identifier(agent_id=agent, session_id=session)


async def _works(site: Site, peer: Peer, text: str) -> None:
    """It has accepted `running`, is asked to take `offered`, and waits for a permission; `waiting` finds no slot."""
    await site.order("running", "a")
    await peer.hears("dispatch", name="running")
    assert (await peer.act(text, "accept", name="running", attempt=1))["type"] == "ack"
    await site.order("offered", "a")
    await peer.hears("dispatch", name="offered")
    await site.order("waiting", "a")
    await site.until_phase("waiting", "Queued")
    asked = {"request_id": "1", "tool": "Bash", "description": "runs a command", "input_preview": "ls"}
    assert (await peer.act(text, "request_permission", **asked))["type"] == "ack"


async def test_G7_fault_13_nothing_is_left_of_a_deleted_agent(site: Site, stack: Stack) -> None:
    """Sockets closed with the reason and without a call to return, work Failed, rows and requests gone."""
    await site.agents("a", "bystander", maxActiveDelegations=2)
    async with dialer(stack.ready.gateway) as dialing:
        (peer, text), (sibling, _) = [await _attached(site, dialing, session) for session in SESSIONS]
        await _works(site, peer, text)
        other = site.workers(stack.ready.gateway)
        await other.dial(site.session_of(lambda _: "bystander"))
        await site.delegate("bystanders", "bystander")

        await site.admin.delete(AGENTS, site.namespace, "a")

        for gone in (peer, sibling):
            frame = await gone.disconnected()
            assert (frame["reason"], frame["reconnect"]) == ("agent_deleted", False)
            assert "was deleted" in frame["message"]
    for name in ("running", "offered"):
        status = await site.until_phase(name, "Failed")
        assert (status["reason"], "agent a was deleted" in status["message"]) == (Reason.AGENT_DELETED, True)
    await _until_nothing_is_left(site)
    assert (await site.status("bystanders"))["phase"] == "InProgress"


async def _until_nothing_is_left(site: Site) -> None:
    await site.until_rows(1)

    async def no_requests() -> bool:
        return not (await site.admin.list(PERMISSION_REQUESTS, site.namespace))["items"]

    await eventually(no_requests, SECONDS)

    async def waits_for_an_agent() -> bool:
        return (await site.status("waiting")).get("reason") == Reason.AGENT_NOT_FOUND

    await eventually(waits_for_an_agent, SECONDS)
