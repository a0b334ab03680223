"""Fault 21, for delegations: one that fails each time it is tried."""

from belay_api.reasons import Reason
from belay_dev.stack import Stack
from faults.site import Site
from gateway.peer import Peer, dialer, identifier

MOST = 3


async def _fails(peer: Peer, text: str, attempt: int) -> None:
    await peer.hears("dispatch", name="poison", attempt=attempt)
    assert (await peer.act(text, "accept", name="poison", attempt=attempt))["type"] == "ack"
    failed = await peer.act(text, "fail", name="poison", attempt=attempt, message=f"no luck, take {attempt}")
    assert failed["type"] == "ack", failed


async def _does(peer: Peer, text: str, name: str) -> None:
    await peer.hears("dispatch", name=name)
    await peer.act(text, "accept", name=name, attempt=1)
    assert (await peer.act(text, "complete", name=name, attempt=1, result={"text": "x"}))["type"] == "ack"


async def test_D12_fault_21_bounded_visible_and_the_next_is_delivered(site: Site, stack: Stack) -> None:
    """What waits behind it gets the slot while it backs off; after its last attempt it is Failed and says why."""
    site.lost.add("poison")
    await site.agents("a", maxActiveDelegations=1)
    async with dialer(stack.ready.gateway) as dialing:
        peer = await dialing.dial(site.token)
        await peer.subscribe(f"{site.namespace}/a", "s")
        text = identifier(agent_id=f"{site.namespace}/a", session_id="s")
        retry = {"maxAttempts": MOST, "backoffSeconds": 1, "on": [str(Reason.AGENT_FAILED)]}
        await site.order("poison", "a", priority=9, retry=retry)
        await peer.hears("dispatch", name="poison")
        await site.order("next", "a")
        await _fails(peer, text, 1)
        await _does(peer, text, "next")
        for attempt in range(2, MOST + 1):
            await _fails(peer, text, attempt)
        status = await site.until_phase("poison", "Failed")
        assert (status["reason"], status["attempt"]) == (Reason.AGENT_FAILED, MOST)
        assert f"no luck, take {MOST}" in status["message"]
        await site.order("last", "a")
        await _does(peer, text, "last")
        await site.until_phase("last", "Completed")
        assert {offer["attempt"] for offer in peer.heard("dispatch", name="poison")} == set(range(1, MOST + 1))
