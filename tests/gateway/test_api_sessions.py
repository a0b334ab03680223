"""What a session does by HTTP: the same verdicts and refusals as on its socket, on whichever gateway; and goodbye."""

from typing import Any

import pytest

from accounts import grant, username
from belay_api.messages import ErrorCode
from belay_api.meta import GROUP
from belay_api.names import Ref
from belay_gateway.attempts import IN_FLIGHT
from belay_gateway.replies import no_longer, no_socket
from belay_kube.client import DELEGATIONS, EVENTS, Json, Kube
from belay_kube.clock import SystemClock
from gateway.caller import Caller, caller
from gateway.peer import Peer, identifier
from gateway.slow import AfterWrite, Counted
from gateway.stage import Running, Stage, running
from waiting import eventually

ATTACH = {"apiGroups": [GROUP], "resources": ["agents"], "verbs": ["attach"]}


@pytest.fixture
async def alice(stage: Stage, gateway: Running) -> Caller:
    """The owner of agent `a`, with no other right."""
    await stage.agent("a", "alice")
    return await caller(stage, gateway, "alice")


async def attached(alice: Caller, session: str = "s1") -> tuple[Peer, str]:
    """A session of agent `a` with a socket."""
    peer = await alice.gateway.dialer.dial(alice.token)
    await peer.subscribe(f"{alice.namespace}/a", session)
    return peer, identifier(agent_id=f"{alice.namespace}/a", session_id=session)


def of(attempt: int = 1, session: str = "s1", agent: str = "a", **more: Any) -> dict[str, Any]:
    """A body that names the session and the attempt."""
    return {"agent": agent, "sessionId": session, "attempt": attempt, **more}


async def test_D12_reply_without_accept_completes(stage: Stage, alice: Caller) -> None:
    """The result is the holder's, who never accepted; repeated, it is acknowledged; another one is refused."""
    peer, _ = await attached(alice)
    await stage.offered("d", "a")
    await peer.hears("dispatch", name="d")
    body = of(result={"text": "done", "data": {"n": 1}})
    for _ in range(2):
        answer = await alice.post("delegations/d/reply", body)
        assert (answer.status, answer.body["status"]["phase"]) == (200, "Completed"), answer
    assert (await stage.status("d"))["result"] == {"text": "done", "data": {"n": 1}}
    assert (await stage.status("d"))["sessionId"] == "s1"
    other = await alice.post("delegations/d/reply", of(result={"text": "other"}))
    other.refused(409, "already Completed")
    await stage.offered("later", "a")
    await peer.hears("dispatch", name="later")
    assert not peer.heard("revoked")


async def test_a_failure_by_reply(stage: Stage, alice: Caller) -> None:
    """Given up with a sentence; neither and both are refused."""
    await attached(alice)
    await stage.offered("d", "a")
    (await alice.post("delegations/d/reply", of())).refused(422, "either result or failure")
    both = of(result={"text": "x"}, failure="y")
    (await alice.post("delegations/d/reply", both)).refused(422, "either result or failure")
    assert (await alice.post("delegations/d/reply", of(failure="no disk"))).status == 200
    status = await stage.status("d")
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "AgentFailed", "no disk")


async def test_D10_beats_and_progress(stage: Stage, alice: Caller) -> None:
    """They count as on the socket: taken, beaten, with progress."""
    peer, _ = await attached(alice)
    await stage.offered("d", "a")
    await peer.hears("dispatch", name="d")
    assert (await alice.post("delegations/d/heartbeat", of())).status == 200
    status = await stage.status("d")
    assert (status["phase"], status["sessionId"], status["gateway"]) == ("InProgress", "s1", alice.gateway.identity)
    assert status["lastHeartbeatTime"]
    await stage.operate("d", lastHeartbeatTime="2026-01-01T00:00:00.000000Z")
    report = of(progress={"percent": 50, "message": "half"})

    async def told() -> Json | None:
        # Until the gateway has seen that the last beat was long ago, it keeps progress back.
        assert (await alice.post("delegations/d/progress", report)).status == 200
        found: Json | None = (await stage.status("d")).get("progress")
        return found

    assert await eventually(told) == {"percent": 50, "message": "half"}
    await stage.offered("later", "a")
    await peer.hears("dispatch", name="later")
    assert not peer.heard("revoked")


async def test_D10_old_attempts_and_strangers_are_refused(stage: Stage, alice: Caller) -> None:
    """`superseded` for an old attempt or an ended one, `not_holder` for another session; an Event says so."""
    await attached(alice)
    await attached(alice, "s2")
    await stage.offered("d", "a")
    await stage.dispatch("d", attempt=2)
    assert (await alice.post("delegations/d/heartbeat", of(2))).status == 200
    before = await stage.status("d")
    for verb, more in (("reply", {"result": {"text": "x"}}), ("heartbeat", {}), ("progress", {"progress": {}})):
        old = (await alice.post(f"delegations/d/{verb}", of(1, **more))).refused(409, "attempt 1 is over")
        assert old["type"] == "urn:belay:problem:superseded"
        stranger = await alice.post(f"delegations/d/{verb}", of(2, session="s2", **more))
        assert stranger.refused(409, "another session holds it")["type"] == "urn:belay:problem:not_holder"
    assert await stage.status("d") == before
    await stage.cancel("d")
    ended = await alice.post("delegations/d/reply", of(2, result={"text": "late"}))
    assert ended.refused(409, "already Cancelled")["type"] == "urn:belay:problem:superseded"

    async def reasons() -> bool:
        events = (await stage.admin.list(EVENTS, stage.namespace))["items"]
        return {"Superseded", "NotHolder"} <= {event["reason"] for event in events}

    await eventually(reasons)


async def test_D10_only_a_session_with_a_socket(stage: Stage, gateway: Running, alice: Caller) -> None:
    """And only its own user: neither another owner, nor one with `attach`, nor the owner before it attached."""
    await stage.offered("d", "a")
    body = of(result={"text": "x"})
    (await alice.post("delegations/d/reply", body)).refused(409, "has no socket")
    peer, _ = await attached(alice)
    nobody = await caller(stage, gateway, "nobody")
    (await nobody.post("delegations/d/reply", body)).refused(403, "may not act as agent")
    other = await caller(stage, gateway, "other", ATTACH)
    (await other.post("delegations/d/reply", body)).refused(403, "another user's")
    (await other.post("delegations/d/reply", of(agent="b", result={}))).refused(404, "agent", "doesn't exist")
    await peer.ws.close()
    await stage.row_is("a", "s1", "Disconnected", "Closed")
    (await alice.post("delegations/d/reply", body)).refused(409, "has no socket")
    assert (await stage.status("d"))["phase"] == "Dispatched"


async def test_D12_a_reply_through_another_gateway(stage: Stage, alice: Caller, other_gateway: Running) -> None:
    """It completes what nobody accepted; the others that it was offered to are told so, the one who did it is not."""
    there = Caller(other_gateway, alice.namespace, alice.token)
    peer, text = await attached(alice)
    sibling, _ = await attached(alice, "s2")
    await stage.offered("d", "a")
    await peer.hears("dispatch", name="d")
    await sibling.hears("dispatch", name="d")
    assert (await there.post("delegations/d/reply", of(result={"text": "x"}))).status == 200
    status = await stage.status("d")
    assert (status["phase"], status["sessionId"], status["gateway"]) == ("Completed", "s1", alice.gateway.identity)
    await sibling.hears("revoked", name="d")
    await peer.act(text, "heartbeat", name="d", attempt=1)
    assert not peer.heard("revoked")


async def test_D10_beats_through_another_gateway(stage: Stage, alice: Caller, other_gateway: Running) -> None:
    """A beat accepts; the holder's gateway stays the one with the socket, which takes nothing back."""
    there = Caller(other_gateway, alice.namespace, alice.token)
    peer, text = await attached(alice)
    sibling, _ = await attached(alice, "s2")
    await stage.offered("d", "a")
    await peer.hears("dispatch", name="d")
    await sibling.hears("dispatch", name="d")
    assert (await there.post("delegations/d/heartbeat", of())).status == 200
    status = await stage.status("d")
    assert (status["phase"], status["sessionId"], status["gateway"]) == ("InProgress", "s1", alice.gateway.identity)
    await sibling.hears("revoked", name="d")
    assert (await peer.act(text, "heartbeat", name="d", attempt=1))["type"] == "ack"
    assert not peer.heard("revoked")


async def test_D10_progress_through_another_gateway(stage: Stage, alice: Caller, other_gateway: Running) -> None:
    """Each change is written at once: nothing there remembers it for the next write."""
    there = Caller(other_gateway, alice.namespace, alice.token)
    peer, text = await attached(alice)
    await stage.offered("d", "a")
    assert (await peer.act(text, "accept", name="d", attempt=1))["type"] == "ack"
    for percent in (10, 99):
        answer = await there.post("delegations/d/progress", of(progress={"percent": percent}))
        assert (answer.status, answer.body["status"]["progress"]) == (200, {"percent": percent}), answer
        assert (await stage.status("d"))["progress"] == {"percent": percent}
    assert (await there.post("delegations/d/reply", of(result={"text": "x"}))).status == 200
    assert (await stage.status("d"))["progress"] == {"percent": 99}


async def test_D10_progress_here_is_kept_for_the_next_write(stage: Stage, alice: Caller) -> None:
    """What comes too soon after a write goes with the result."""
    peer, text = await attached(alice)
    await stage.offered("d", "a")
    assert (await peer.act(text, "accept", name="d", attempt=1))["type"] == "ack"
    for percent in (10, 99):
        assert (await alice.post("delegations/d/progress", of(progress={"percent": percent}))).status == 200
    assert (await stage.status("d"))["progress"] == {"percent": 10}
    assert (await alice.post("delegations/d/reply", of(result={"text": "x"}))).status == 200
    assert (await stage.status("d"))["progress"] == {"percent": 99}


async def test_D11_a_reply_whose_delegation_vanishes_at_once(stage: Stage, gateway: Running, alice: Caller) -> None:
    """What was written is answered, though there is nothing left to be read."""
    await attached(alice)
    await stage.offered("d", "a")
    writes = gateway.gateway.attempts.writes
    gone = AfterWrite(writes._kube, lambda: stage.admin.delete(DELEGATIONS, stage.namespace, "d"))
    writes._kube = gone  # type: ignore[assignment]
    answer = await alice.post("delegations/d/reply", of(result={"text": "x"}))
    assert (answer.status, answer.body["status"]["phase"]) == (200, "Completed"), answer
    assert (answer.body["kind"], "managedFields" in answer.body["metadata"]) == ("Delegation", False)


async def test_D10_a_beat_that_is_not_due_reads_nothing(stage: Stage, gateway_kube: Kube) -> None:
    """As on the socket: what this gateway knows is enough to answer it."""
    counted = Counted(gateway_kube)
    async with running(counted, SystemClock()) as gateway:  # type: ignore[arg-type]
        await stage.agent("a", "alice")
        alice = await caller(stage, gateway, "alice")
        await attached(alice)
        await stage.offered("d", "a")
        assert (await alice.post("delegations/d/heartbeat", of())).status == 200
        await eventually(lambda: gateway.gateway.holdings.get(stage.namespace, "d"))
        before = counted.reads
        answer = await alice.post("delegations/d/heartbeat", of())
        assert (answer.status, answer.body["kind"], counted.reads) == (200, "Delegation", before), answer


async def test_C8_too_many_at_once(stage: Stage, gateway: Running, alice: Caller) -> None:
    """A session has no more under way by HTTP than it may on its socket."""
    await attached(alice)
    await stage.offered("d", "a")
    session = gateway.gateway.sockets.session(Ref(stage.namespace, "a"), "s1")
    assert session
    session.in_flight["other"] = IN_FLIGHT
    (await alice.post("delegations/d/heartbeat", of())).refused(503, "too many actions at once")
    del session.in_flight["other"]
    assert (await alice.post("delegations/d/heartbeat", of())).status == 200


AGENT = Ref("ns", "a")
NO_SOCKET: dict[str, tuple[dict[str, str], ErrorCode | None]] = {
    "live": ({"phase": "Live"}, None),
    "no row": ({}, ErrorCode.NOT_HOLDER),
    "lost": ({"phase": "Disconnected", "reason": "ConnectionLost"}, ErrorCode.NOT_HOLDER),
    "goodbye": ({"phase": "Disconnected", "reason": "Goodbye"}, ErrorCode.NOT_HOLDER),
    "sent away": ({"phase": "Disconnected", "reason": "GatewayShutdown"}, ErrorCode.UNAVAILABLE),
    "given up": ({"phase": "Expired", "reason": "Stale"}, ErrorCode.NOT_HOLDER),
}


@pytest.mark.parametrize(("status", "code"), NO_SOCKET.values(), ids=NO_SOCKET)
def test_D10_who_may_speak_by_http(status: dict[str, str], code: ErrorCode | None) -> None:
    """A session with a socket; one that is on its way from a gateway that ends may try again."""
    refused = no_socket(status, AGENT, "s1")
    assert (refused.code if refused else None) == code


NO_LONGER: dict[str, tuple[dict[str, str] | None, ErrorCode | None]] = {
    "live": ({"phase": "Live", "token": "t"}, None),
    "its socket was lost": ({"phase": "Disconnected", "reason": "Closed", "token": "t"}, None),
    "taken over": ({"phase": "Live", "token": "other"}, ErrorCode.SUPERSEDED),
    "goodbye": ({"phase": "Disconnected", "reason": "Goodbye", "token": "t"}, ErrorCode.NOT_HOLDER),
    "given up": ({"phase": "Expired", "reason": "Stale", "token": "t"}, ErrorCode.NOT_HOLDER),
    "deleted": (None, ErrorCode.NOT_HOLDER),
}


@pytest.mark.parametrize(("status", "code"), NO_LONGER.values(), ids=NO_LONGER)
def test_D10_who_may_still_write(status: dict[str, str] | None, code: ErrorCode | None) -> None:
    """A write outlives the socket, but neither the epoch nor the session."""
    refused = no_longer({"status": status} if status else None, "t")
    assert (refused.code if refused else None) == code


@pytest.mark.parametrize("attempt", ["1", 1.5, True, None])
async def test_D10_an_attempt_is_a_number(alice: Caller, attempt: object) -> None:
    """As the document says; nothing is taken for one."""
    body = {"agent": "a", "sessionId": "s1", "attempt": attempt}
    (await alice.post("delegations/d/heartbeat", body)).refused(422, "body.attempt")


async def test_D6_a_result_that_is_too_large(stage: Stage, alice: Caller) -> None:
    """Refused by what it is in bytes, with what to do instead; the work goes on."""
    await attached(alice)
    await stage.offered("d", "a")
    (await alice.post("delegations/d/reply", of(result={"text": "é" * 40000}))).refused(413, "uri instead")
    assert (await stage.status("d"))["phase"] == "Dispatched"


@pytest.mark.parametrize("place", ["here", "there"])
async def test_C7_delete_is_goodbye(stage: Stage, alice: Caller, other_gateway: Running, place: str) -> None:
    """Through any gateway: the row says Goodbye, the socket is closed for good, other sessions stay; twice is once."""
    who = alice if place == "here" else Caller(other_gateway, alice.namespace, alice.token)
    peer, _ = await attached(alice)
    sibling, _ = await attached(alice, "s2")
    answer = await who.send("DELETE", "agents/a/sessions/s1")
    assert (answer.status, answer.text) == (204, "")
    await stage.row_is("a", "s1", "Disconnected", "Goodbye")
    frame = await peer.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("remote", False)
    assert (await who.send("DELETE", "agents/a/sessions/s1")).status == 204
    await stage.row_is("a", "s2", "Live")
    assert not sibling.ws.closed


async def test_C7_goodbye_of_a_session_that_dropped(stage: Stage, alice: Caller) -> None:
    """It ends its grace: the row keeps when it was lost and says why it will not come back."""
    peer, _ = await attached(alice)
    await peer.ws.close()
    lost = await stage.row_is("a", "s1", "Disconnected", "Closed")
    assert (await alice.send("DELETE", "agents/a/sessions/s1")).status == 204
    row = await stage.row_is("a", "s1", "Disconnected", "Goodbye")
    assert row["disconnectedTime"] == lost["disconnectedTime"]


async def test_C7_who_may_say_goodbye(stage: Stage, gateway: Running, alice: Caller) -> None:
    """The user who attached, or one who may also delete the row; nobody else ends another's session."""
    await attached(alice)
    nobody = await caller(stage, gateway, "nobody")
    (await nobody.send("DELETE", "agents/a/sessions/s1")).refused(403, "may not act as agent")
    other = await caller(stage, gateway, "other", ATTACH)
    (await other.send("DELETE", "agents/a/sessions/s1")).refused(403, "lacks the verb delete on agentsubscriptions")
    (await alice.send("DELETE", "agents/a/sessions/nope")).refused(404, "has no session nope")
    await stage.row_is("a", "s1", "Live")
    rule = {"apiGroups": [GROUP], "resources": ["agentsubscriptions"], "verbs": ["delete"]}
    admin = await caller(stage, gateway, "admin", ATTACH)
    await grant(stage.admin, stage.namespace, username(stage.namespace, "admin"), "deleting", [rule])
    assert (await admin.send("DELETE", "agents/a/sessions/s1")).status == 204
    await stage.row_is("a", "s1", "Disconnected", "Goodbye")
