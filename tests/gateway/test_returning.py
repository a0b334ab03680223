"""Sessions that come back, and all that they missed, owe, or are offered."""

import asyncio
import copy
from typing import Any

from belay_api.names import Ref
from belay_kube.client import DELEGATIONS, Kube
from belay_kube.clock import SystemClock
from belay_kube.errors import Unreachable
from gateway.peer import Peer, identifier
from gateway.slow import Meanwhile
from gateway.stage import Running, Stage, running
from waiting import eventually


async def _attach(gateway: Running, token: str, agent: str, session: str = "s1") -> tuple[Peer, str]:
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, session)
    return peer, identifier(agent_id=agent, session_id=session)


async def _held_and_left(stage: Stage, gateway: Running) -> tuple[str, str]:
    """Session s1 holds d and closed its socket."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    await peer.ws.close()
    await stage.row_is("a", "s1", "Disconnected", "Closed")
    return token, agent


async def test_D7_more_offers_than_a_queue_holds_reach_a_peer_that_reads(stage: Stage, gateway_kube: Kube) -> None:
    """However much is on offer, it comes as fast as it is read, and the socket stays."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    names = [f"d{n}" for n in range(30)]
    await asyncio.gather(*(stage.offered(name, "a", task={"prompt": "\u00e9" * 10_000}) for name in names))
    async with running(gateway_kube, SystemClock(), max_queue_per_socket=8) as gateway:
        peer, text = await _attach(gateway, token, agent)
        for name in names:
            await peer.hears("dispatch", name=name)
        assert (await peer.act(text, "accept", name="d7", attempt=1))["type"] == "ack"


async def test_D9_cancel_between_the_list_and_the_adoption_is_told(
    stage: Stage, gateway: Running, other_gateway: Running
) -> None:
    """No watch of this gateway sees it, so what is read for the adoption counts."""
    token, agent = await _held_and_left(stage, gateway)
    returning = other_gateway.gateway.channel.returning

    async def cancel() -> None:
        returning._kube = real
        await stage.cancel("d")

    real = returning._kube
    returning._kube = Meanwhile(real, cancel)  # type: ignore[assignment]
    back, _ = await _attach(other_gateway, token, agent)
    await back.hears("cancel", name="d", attempt=1)
    await stage.becomes("d", lambda s: stage.condition(s, "CancelDelivered") == "True")


async def test_D9_deletion_between_the_list_and_the_adoption_is_told(
    stage: Stage, gateway: Running, other_gateway: Running, admin_kube: Kube
) -> None:
    """As a cancel is."""
    token, agent = await _held_and_left(stage, gateway)
    returning = other_gateway.gateway.channel.returning

    async def delete() -> None:
        returning._kube = real
        await admin_kube.delete(DELEGATIONS, stage.namespace, "d")

    real = returning._kube
    returning._kube = Meanwhile(real, delete)  # type: ignore[assignment]
    back, _ = await _attach(other_gateway, token, agent)
    assert (await back.hears("cancel", name="d", attempt=1))["reason"] == "Deleted"


async def test_D9_name_used_again_is_cancelled_again(stage: Stage, gateway: Running, admin_kube: Kube) -> None:
    """The end of another object of the same name is told on the same socket, and nothing is remembered for ever."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    for times in (1, 2):
        await stage.offered("d", "a")
        await eventually(lambda times=times: len(peer.heard("dispatch", name="d")) == times)  # type: ignore[misc]
        await peer.act(text, "accept", name="d", attempt=1)
        await stage.cancel("d")
        await eventually(lambda times=times: len(peer.heard("cancel", name="d")) == times)  # type: ignore[misc]
        await stage.becomes("d", lambda s: stage.condition(s, "CancelDelivered") == "True")
        await admin_kube.delete(DELEGATIONS, stage.namespace, "d")
    session = next(iter(gateway.gateway.sockets))
    await eventually(lambda: not session.told)


async def test_D9_nothing_new_before_what_is_owed_elsewhere(
    stage: Stage, gateway: Running, other_gateway: Running
) -> None:
    """A cancel that was not acknowledged at another gateway keeps offers away here too, until it is."""
    token, agent = await _held_and_left(stage, gateway)
    await stage.cancel("d")
    await stage.offered("new", "a")
    await eventually(lambda: other_gateway.gateway.offers._open)
    back, text = await _attach(other_gateway, token, agent)
    await back.hears("cancel", name="d", attempt=1)
    await stage.becomes("d", lambda s: stage.condition(s, "CancelDelivered") == "True")
    assert not back.heard("dispatch", name="new")
    assert (await back.act(text, "cancelled", name="d", attempt=1))["type"] == "ack"
    await back.hears("dispatch", name="new")


async def test_D9_holder_found_replaced_in_a_relist_is_told(stage: Stage, gateway: Running) -> None:
    """A new attempt with a new holder may be the next that is seen of it: the old holder has lost it all the same."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    held = await eventually(lambda: gateway.gateway.holdings.get(stage.namespace, "d"))
    later: dict[str, Any] = copy.deepcopy(held)
    later["status"].update(attempt=2, sessionId="s2")
    gateway.gateway.holdings.changed(later)
    assert (await peer.hears("cancel", name="d", attempt=1))["phase"] == "InProgress"


async def test_finished_work_is_not_listed_again(stage: Stage, gateway: Running) -> None:
    """What completed, with its prompt and result, is no part of what a session has in hand; failed work is."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    for name in ("done", "held"):
        await stage.offered(name, "a")
        await peer.act(text, "accept", name=name, attempt=1)
    await peer.act(text, "complete", name="done", attempt=1, result={"text": "x"})
    session = next(iter(gateway.gateway.sockets))
    assert [d["metadata"]["name"] for d in await gateway.gateway.channel.returning._of(session)] == ["held"]
    answer = await peer.act(text, "resume", held=[{"name": "done", "attempt": 1}, {"name": "held", "attempt": 1}])
    assert [entry["verdict"] for entry in answer["held"]] == ["cancelled", "continue"]


async def test_D9_outage_while_a_session_returns_leaves_nothing_untold(
    stage: Stage, gateway: Running, other_gateway: Running
) -> None:
    """The list of what it holds is asked for again until it is answered."""
    token, agent = await _held_and_left(stage, gateway)
    await stage.cancel("d")
    returning = other_gateway.gateway.channel.returning

    async def fail() -> None:
        returning._kube = real
        raise Unreachable("out of a test")

    real = returning._kube
    returning._kube = Meanwhile(real, fail)  # type: ignore[assignment]
    back, _ = await _attach(other_gateway, token, agent)
    await back.hears("cancel", name="d", attempt=1)


async def test_C8_too_many_actions_at_once_are_refused(stage: Stage, gateway: Running) -> None:
    """The bound for one session is 64; what was begun goes on."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    async with gateway.gateway.inbound._acting._locks.hold((Ref(stage.namespace, "a"), "s1", "d")):
        for n in range(65):
            await peer.start(text, "heartbeat", name="d", attempt=1, ref=n)
        assert (await peer.hears("error", ref=64))["code"] == "unavailable"
    assert (await peer.hears("error", ref=63))["code"] == "not_found"
