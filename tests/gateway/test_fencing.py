"""A session that comes back while a write of its old socket is under way: the write is waited for, or not made."""

import asyncio

from belay_api.names import Ref
from gateway.peer import Peer, identifier
from gateway.slow import SlowWrites
from gateway.stage import Running, Stage
from waiting import eventually


async def _attach(gateway: Running, token: str, agent: str) -> tuple[Peer, str]:
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    return peer, identifier(agent_id=agent, session_id="s1")


def _slowed(gateway: Running) -> SlowWrites:
    writes = gateway.gateway.inbound._writes
    slow = SlowWrites(writes._kube)
    writes._kube = slow  # type: ignore[assignment]
    return slow


async def _accept_and_lose_the_socket(stage: Stage, gateway: Running, token: str, agent: str, slow: SlowWrites) -> None:
    """An accept whose write is on its way, from a socket that was closed in an orderly way."""
    peer, text = await _attach(gateway, token, agent)
    await stage.offered("d", "a")
    await peer.hears("dispatch", name="d")
    await peer.start(text, "accept", name="d", attempt=1)
    await eventually(lambda: slow.waiting)
    await peer.ws.close()
    await stage.row_is("a", "s1", "Disconnected", "Closed")


async def test_P5_return_waits_for_what_the_old_socket_had_sent(stage: Stage, gateway: Running) -> None:
    """An accept that lands late is seen by the resume, so the work isn't dropped by the one who holds it."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    slow = _slowed(gateway)
    await _accept_and_lose_the_socket(stage, gateway, token, agent, slow)
    back = await gateway.dialer.dial(token)
    text = identifier(agent_id=agent, session_id="s1")
    await back.send(command="subscribe", identifier=text)
    await back.start(text, "resume", held=[{"name": "d", "attempt": 1}], ref="held")
    await stage.row_is("a", "s1", "Live")
    slow.gate.set()
    answer = await back.hears("ack", ref="held")
    assert [entry["verdict"] for entry in answer["held"]] == ["continue"]
    status = await stage.status("d")
    assert (status["phase"], status["sessionId"]) == ("InProgress", "s1")


async def test_P5_old_action_writes_nothing_after_a_return(stage: Stage, gateway: Running) -> None:
    """What had not been sent when the session came back, after an orderly close, is not sent any more."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    session = gateway.gateway.sockets.session(Ref(stage.namespace, "a"), "s1")
    assert session
    async with gateway.gateway.inbound._locks.hold((Ref(stage.namespace, "a"), "s1", "d")):
        await peer.start(text, "complete", name="d", attempt=1, result={"text": "stale"})
        await eventually(lambda: session.in_flight["d"])
        await peer.ws.close()
        await stage.row_is("a", "s1", "Disconnected", "Closed")
        await _attach(gateway, token, agent)
    await gateway.gateway.tasks.finish(5)
    assert (await stage.status("d"))["phase"] == "InProgress"


async def test_P5_old_action_writes_nothing_after_a_return_elsewhere(
    stage: Stage, gateway: Running, other_gateway: Running
) -> None:
    """The same when the session came back at another gateway: the row carries another token by then."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    session = gateway.gateway.sockets.session(Ref(stage.namespace, "a"), "s1")
    assert session
    async with gateway.gateway.inbound._locks.hold((Ref(stage.namespace, "a"), "s1", "d")):
        await peer.start(text, "complete", name="d", attempt=1, result={"text": "stale"})
        await eventually(lambda: session.in_flight["d"])
        await peer.ws.close()
        await stage.row_is("a", "s1", "Disconnected", "Closed")
        await _attach(other_gateway, token, agent)
    await gateway.gateway.tasks.finish(5)
    assert (await stage.status("d"))["phase"] == "InProgress"


async def test_C6_goodbye_that_waits_is_still_a_goodbye(stage: Stage, gateway: Running) -> None:
    """A socket that breaks while its goodbye waits for a slow write ended by that goodbye."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    slow = _slowed(gateway)
    peer, text = await _attach(gateway, token, agent)
    await stage.offered("d", "a")
    await peer.hears("dispatch", name="d")
    await peer.start(text, "accept", name="d", attempt=1)
    await eventually(lambda: slow.waiting)
    await peer.start(text, "goodbye")
    session = gateway.gateway.sockets.session(Ref(stage.namespace, "a"), "s1")
    assert session
    await peer.ws.close()
    await stage.row_is("a", "s1", "Disconnected", "Goodbye")
    slow.gate.set()


async def test_C8_action_that_fails_is_answered(stage: Stage, gateway: Running) -> None:
    """An error nobody thought of is the gateway's own fault, and the peer is told to try again."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    gateway.gateway.inbound._writes._kube = None  # type: ignore[assignment]
    answer = await asyncio.wait_for(peer.act(text, "accept", name="d", attempt=1), 10)
    assert (answer["type"], answer["code"]) == ("error", "unavailable")
