"""A session that comes back while a write of its old socket is under way: the write is waited for, or not made."""

import asyncio

from belay_api.names import Ref
from belay_gateway.acting import ALL
from gateway.caller import Caller
from gateway.peer import Peer, identifier
from gateway.slow import FirstWriteWaits, SlowWrites
from gateway.stage import Running, Stage
from waiting import eventually


async def _attach(gateway: Running, token: str, agent: str) -> tuple[Peer, str]:
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    return peer, identifier(agent_id=agent, session_id="s1")


def _slowed(gateway: Running) -> SlowWrites:
    writes = gateway.gateway.attempts.writes
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


async def _return_with_an_old_action(stage: Stage, gateway: Running, back_at: Running) -> None:
    """A result waits for its turn at `gateway` while the session goes and comes back at `back_at`: it isn't written."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    session = gateway.gateway.sockets.session(Ref(stage.namespace, "a"), "s1")
    assert session
    async with gateway.gateway.inbound._acting._locks.hold((Ref(stage.namespace, "a"), "s1", "d")):
        await peer.start(text, "complete", name="d", attempt=1, result={"text": "stale"})
        await eventually(lambda: session.in_flight["d"])
        await peer.ws.close()
        await stage.row_is("a", "s1", "Disconnected", "Closed")
        await _attach(back_at, token, agent)
    await gateway.gateway.tasks.finish(5)
    assert (await stage.status("d"))["phase"] == "InProgress"


async def test_P5_old_action_writes_nothing_after_a_return(stage: Stage, gateway: Running) -> None:
    """What had not been sent when the session came back, after an orderly close, is not sent any more."""
    await _return_with_an_old_action(stage, gateway, gateway)


async def test_P5_old_action_writes_nothing_after_a_return_elsewhere(
    stage: Stage, gateway: Running, other_gateway: Running
) -> None:
    """The same when the session came back at another gateway: the row carries another token by then."""
    await _return_with_an_old_action(stage, gateway, other_gateway)


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
    gateway.gateway.attempts.writes._kube = None  # type: ignore[assignment]
    answer = await asyncio.wait_for(peer.act(text, "accept", name="d", attempt=1), 10)
    assert (answer["type"], answer["code"]) == ("error", "unavailable")


REPLY = {"agent": "a", "sessionId": "s1", "attempt": 1, "result": {"text": "done"}}


async def _held(stage: Stage, gateway: Running) -> tuple[Caller, Peer, str]:
    """Alice, and the socket of her session, which holds `d`."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await _attach(gateway, token, agent)
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    return Caller(gateway, stage.namespace, token), peer, text


def _first_write_waits(gateway: Running) -> FirstWriteWaits:
    writes = gateway.gateway.attempts.writes
    slow = writes._kube = FirstWriteWaits(writes._kube)  # type: ignore[assignment]
    return slow


async def _for_a_while(stage: Stage) -> None:
    """As long as many requests take: time enough for whoever doesn't wait."""
    for _ in range(20):
        await stage.status("d")


async def test_C9_resume_waits_for_a_reply_by_http(stage: Stage, gateway: Running) -> None:
    """A result that is on its way is not forgotten work, though the client has it no longer in hand."""
    alice, peer, text = await _held(stage, gateway)
    slow = _first_write_waits(gateway)
    reply = asyncio.create_task(alice.post("delegations/d/reply", REPLY))
    await eventually(lambda: slow.began)
    await peer.start(text, "resume", held=[], ref="held")
    session = gateway.gateway.sockets.session(Ref(stage.namespace, "a"), "s1")
    assert session
    await eventually(lambda: session.in_flight[ALL] or peer.heard("ack", ref="held"))
    await _for_a_while(stage)
    assert not peer.heard("ack", ref="held")
    slow.gate.set()
    assert (await reply).status == 200
    await peer.hears("ack", ref="held")
    status = await stage.status("d")
    assert (status["phase"], status["reason"]) == ("Completed", "Completed")


async def test_P5_return_waits_for_a_reply_by_http(stage: Stage, gateway: Running) -> None:
    """Who comes back while a result is on its way is told to stop what the result ends, not to go on."""
    alice, _, text = await _held(stage, gateway)
    slow = _first_write_waits(gateway)
    reply = asyncio.create_task(alice.post("delegations/d/reply", REPLY))
    await eventually(lambda: slow.began)
    back = await gateway.dialer.dial(alice.token)
    await back.send(command="subscribe", identifier=text)
    await back.start(text, "resume", held=[{"name": "d", "attempt": 1}], ref="held")
    await _for_a_while(stage)
    assert not [frame for frame in back.frames if frame.get("type") == "confirm_subscription"]
    assert not back.heard("ack", ref="held")
    slow.gate.set()
    assert (await reply).status == 200
    answer = await back.hears("ack", ref="held")
    assert [entry["verdict"] for entry in answer["held"]] == ["cancelled"]


async def test_P5_old_reply_by_http_writes_nothing_after_a_return(stage: Stage, gateway: Running) -> None:
    """One that had not been sent to the API server when the session came back is refused."""
    alice, _, text = await _held(stage, gateway)
    session = gateway.gateway.sockets.session(Ref(stage.namespace, "a"), "s1")
    assert session
    async with gateway.gateway.inbound._acting._locks.hold((Ref(stage.namespace, "a"), "s1", "d")):
        reply = asyncio.create_task(alice.post("delegations/d/reply", REPLY))
        await eventually(lambda: session.in_flight["d"] or reply.done())
        back = await gateway.dialer.dial(alice.token)
        assert (await back.asks(text))["type"] == "confirm_subscription"
    problem = (await reply).refused(409, "another socket has this session now")
    assert problem["type"] == "urn:belay:problem:superseded"
    assert (await stage.status("d"))["phase"] == "InProgress"


async def test_P5_a_reply_by_http_outlives_its_caller(stage: Stage, gateway: Running) -> None:
    """Who hangs up has said it all the same: the write is finished."""
    alice, _, _ = await _held(stage, gateway)
    slow = _first_write_waits(gateway)
    reply = asyncio.create_task(alice.post("delegations/d/reply", REPLY))
    await eventually(lambda: slow.began)
    reply.cancel()
    await _for_a_while(stage)
    slow.gate.set()
    await stage.becomes("d", lambda status: status["phase"] == "Completed")
