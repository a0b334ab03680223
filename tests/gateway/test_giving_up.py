"""Work that its holder gives up while another attempt may follow: handed back, and held by nobody from then on."""

from gateway.peer import Peer, identifier
from gateway.stage import Running, Stage
from waiting import eventually

RETRY = {"retry": {"maxAttempts": 2}}


async def _holder(stage: Stage, gateway: Running, **spec: object) -> tuple[Peer, str]:
    """Session s1 of agent a, which has accepted d."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    text = identifier(agent_id=agent, session_id="s1")
    await stage.offered("d", "a", **spec)
    await peer.act(text, "accept", name="d", attempt=1)
    return peer, text


async def _next_attempt(stage: Stage) -> None:
    """The operator's part: back to the queue, and offered again."""
    fresh = dict.fromkeys(("sessionId", "gateway", "dispatchedTime", "acceptedTime"))
    await stage.operate("d", phase="Queued", reason="Released", attempt=2, failures=0, **fresh)
    await stage.dispatch("d", attempt=2)


async def test_released_work_waits_for_its_next_attempt(stage: Stage, gateway: Running) -> None:
    """Handed back with its words; late frames are refused; the next attempt is offered, without a cancel of the old."""
    peer, text = await _holder(stage, gateway)
    assert (await peer.act(text, "release", name="d", attempt=1, message="shutting down"))["type"] == "ack"
    status = await stage.status("d")
    assert (status["phase"], status["reason"], status["message"]) == ("InProgress", "Released", "shutting down")
    for late in ("heartbeat", "accept"):
        assert (await peer.act(text, late, name="d", attempt=1))["code"] == "superseded"
    answer = await peer.act(text, "complete", name="d", attempt=1, result={"text": "late"})
    assert answer["code"] == "superseded"
    await _next_attempt(stage)
    await peer.hears("dispatch", name="d", attempt=2)
    assert not peer.heard("cancel", name="d")


async def test_a_failure_that_may_be_retried_is_not_the_end(stage: Stage, gateway: Running) -> None:
    """The first is handed back, and saying it twice changes nothing; that of the last attempt is Failed."""
    peer, text = await _holder(stage, gateway, **RETRY)
    for _ in range(2):
        assert (await peer.act(text, "fail", name="d", attempt=1, message="no luck"))["type"] == "ack"
    status = await stage.status("d")
    assert (status["phase"], status["reason"], status["message"]) == ("InProgress", "AgentFailed", "no luck")
    await stage.operate("d", phase="Queued", attempt=2, failures=1, sessionId=None, gateway=None, dispatchedTime=None)
    await stage.dispatch("d", attempt=2)
    assert (await peer.act(text, "accept", name="d", attempt=2))["type"] == "ack"
    assert (await peer.act(text, "fail", name="d", attempt=2, message="no luck"))["type"] == "ack"
    assert (await stage.status("d"))["phase"] == "Failed"


async def test_D9_a_session_that_does_not_answer_says_so_in_its_row(stage: Stage, still_gateway: Running) -> None:
    """Long before its turn to be renewed, at 500 s with 10,000 sockets: the operator must know where to offer nothing.

    A reconnect doesn't take it back, an acknowledgement does, as soon.
    """
    gateway = still_gateway
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer, text = await gateway.dialer.dial(token), identifier(agent_id=agent, session_id="s1")
    await peer.subscribe(agent, "s1")
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    await stage.cancel("d")
    await stage.becomes("d", lambda s: stage.condition(s, "CancelDelivered") == "True")
    await gateway.pass_time(7)

    async def says(expected: bool) -> bool:
        row = await stage.row("a", "s1") or {}
        return row.get("status", {}).get("unresponsive") is expected

    await eventually(lambda: says(True))
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    assert await says(True)
    assert (await peer.act(text, "cancelled", name="d", attempt=1))["type"] == "ack"
    await gateway.pass_time(7)
    await eventually(lambda: says(False))
