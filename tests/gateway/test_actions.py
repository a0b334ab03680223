"""Offers, replies, races and ends, over real sockets and a real API server; the test plays the operator."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from belay_api.names import Ref
from belay_kube.client import AGENTS, DELEGATIONS, EVENTS, Kube
from belay_kube.errors import Forbidden, Invalid
from gateway.peer import Peer, identifier
from gateway.slow import Counted
from gateway.stage import Running, Stage
from waiting import eventually


async def _agent(stage: Stage, **spec: Any) -> tuple[str, str]:
    return await stage.person("alice"), await stage.agent("a", "alice", **spec)


async def _attach(gateway: Running, token: str, agent: str, session: str) -> tuple[Peer, str]:
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, session)
    return peer, identifier(agent_id=agent, session_id=session)


async def test_D4_offer_accept_complete(stage: Stage, gateway: Running) -> None:
    """The whole path: offered, taken, half done, done; each step is in the status."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("d", "a", topic="news", task={"prompt": "do it", "inputs": {"k": "v"}})
    offer = await peer.hears("dispatch", name="d")
    assert (offer["prompt"], offer["inputs"], offer["attempt"], offer["topic"]) == ("do it", {"k": "v"}, 1, "news")
    assert (offer["stuck_threshold_seconds"], offer["addressed"], bool(offer["deadline"])) == (600, False, True)
    assert (await peer.act(text, "accept", name="d", attempt=1))["type"] == "ack"
    status = await stage.status("d")
    assert (status["phase"], status["sessionId"], status["gateway"]) == ("InProgress", "s1", gateway.identity)
    await peer.act(text, "progress", name="d", attempt=1, progress={"percent": 50, "message": "half"})
    assert (await stage.status("d"))["progress"] == {"percent": 50, "message": "half"}
    assert (await peer.act(text, "complete", name="d", attempt=1, result={"text": "done"}))["type"] == "ack"
    status = await stage.status("d")
    assert (status["phase"], status["reason"], status["result"]) == ("Completed", "Completed", {"text": "done"})
    assert (stage.condition(status, "Finished"), stage.condition(status, "Complete")) == ("True", "True")
    await stage.offered("later", "a")
    await peer.hears("dispatch", name="later")  # by then the watch has told what became of the first
    assert not peer.heard("revoked")
    assert not peer.heard("cancel")


async def test_D7_open_offers_reach_who_subscribes_later(stage: Stage, gateway: Running) -> None:
    """What was on offer before a socket came is offered to it; an addressed offer to its session only."""
    token, agent = await _agent(stage)
    await stage.offered("for-all", "a")
    await stage.offered("for-one", "a", sessionId="s1")
    one, _ = await _attach(gateway, token, agent, "s1")
    two, text = await _attach(gateway, token, agent, "s2")
    assert (await one.hears("dispatch", name="for-one"))["addressed"] is True
    for peer in (one, two):
        await peer.hears("dispatch", name="for-all")
    assert (await two.act(text, "accept", name="for-one", attempt=1))["code"] == "not_holder"
    assert not two.heard("dispatch", name="for-one")


async def test_D7_offer_without_an_answer_is_repeated(stage: Stage, still_gateway: Running) -> None:
    """After eight seconds, the same attempt; not after it was taken."""
    token, agent = await _agent(stage)
    peer, text = await _attach(still_gateway, token, agent, "s1")
    await stage.offered("d", "a")
    await peer.hears("dispatch", name="d")
    await still_gateway.pass_time(7)
    assert len(peer.heard("dispatch", name="d")) == 1
    await still_gateway.pass_time(2)
    await eventually(lambda: len(peer.heard("dispatch", name="d")) == 2)
    await peer.act(text, "accept", name="d", attempt=1)
    await still_gateway.pass_time(20)
    assert len(peer.heard("dispatch", name="d")) == 2


async def test_I1_accept_race_has_one_winner(stage: Stage, gateway: Running, other_gateway: Running) -> None:
    """Sockets on two gateways accept at once: one holds it, the others are told `taken`."""
    token, agent = await _agent(stage)
    places = [gateway, other_gateway, gateway, other_gateway]
    attached = [await _attach(place, token, agent, f"s{n}") for n, place in enumerate(places)]
    await stage.offered("d", "a")
    for peer, _ in attached:
        await peer.hears("dispatch", name="d")
    answers = await asyncio.gather(*(peer.act(text, "accept", name="d", attempt=1) for peer, text in attached))
    assert sorted(answer.get("code", "won") for answer in answers) == ["taken", "taken", "taken", "won"]
    winner = next(n for n, answer in enumerate(answers) if answer["type"] == "ack")
    assert (await stage.status("d"))["sessionId"] == f"s{winner}"


async def test_D7_those_who_did_not_take_it_hear_revoked(stage: Stage, gateway: Running) -> None:
    """The offer ends for the others, not for the one who accepted."""
    token, agent = await _agent(stage)
    one, text = await _attach(gateway, token, agent, "s1")
    two, _ = await _attach(gateway, token, agent, "s2")
    await stage.offered("d", "a")
    for peer in (one, two):
        await peer.hears("dispatch", name="d")
    await one.act(text, "accept", name="d", attempt=1)
    await two.hears("revoked", name="d", attempt=1)
    assert not one.heard("revoked")


async def test_D2_replays_are_acknowledged(stage: Stage, gateway: Running) -> None:
    """Accept and complete twice: the second changes nothing, not even the resourceVersion."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("d", "a")
    for action, fields in (("accept", {}), ("complete", {"result": {"text": "x"}})):
        assert (await peer.act(text, action, name="d", attempt=1, **fields))["type"] == "ack"
        before = (await stage.work("d"))["metadata"]["resourceVersion"]
        assert (await peer.act(text, action, name="d", attempt=1, **fields))["type"] == "ack"
        assert (await stage.work("d"))["metadata"]["resourceVersion"] == before


async def test_D3_complete_against_cancel(stage: Stage, gateway: Running) -> None:
    """At the same instant, many times: one phase results, and it is the one the agent was told."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    names = [f"d{n}" for n in range(12)]
    for name in names:
        await stage.offered(name, "a")
        await peer.act(text, "accept", name=name, attempt=1)

    async def cancel(name: str) -> None:
        with suppress(Forbidden, Invalid):  # it came too late, and the API server says so
            await stage.cancel(name)

    async def race(name: str) -> None:
        answer, _ = await asyncio.gather(
            peer.act(text, "complete", name=name, attempt=1, result={"text": name}), cancel(name)
        )
        phase = (await stage.status(name))["phase"]
        assert (answer["type"], phase) in (("ack", "Completed"), ("error", "Cancelled")), answer
        if phase == "Cancelled":
            assert answer["code"] == "superseded"
            await peer.hears("cancel", name=name, attempt=1, phase="Cancelled")

    await asyncio.gather(*(race(name) for name in names))


async def test_D9_cancel_is_told_and_proven(stage: Stage, gateway: Running) -> None:
    """Told once, recorded as delivered; acknowledged when the agent says so."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    await stage.cancel("d", reason="DeadlineExceeded")
    frame = await peer.hears("cancel", name="d", attempt=1)
    assert (frame["phase"], frame["reason"], frame["message"]) == (
        "Cancelled",
        "DeadlineExceeded",
        "cancelled by a test",
    )
    status = await stage.becomes("d", lambda s: stage.condition(s, "CancelDelivered") == "True")
    assert stage.condition(status, "CancelAcknowledged") is None
    assert (await peer.act(text, "cancelled", name="d", attempt=1))["type"] == "ack"
    assert stage.condition(await stage.status("d"), "CancelAcknowledged") == "True"
    assert len(peer.heard("cancel", name="d")) == 1


async def test_D9_offline_agent_is_told_when_it_returns(stage: Stage, gateway: Running, other_gateway: Running) -> None:
    """Also at another gateway; and again at each return, until it acknowledges."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    await peer.ws.close()
    await stage.row_is("a", "s1", "Disconnected", "Closed")
    await stage.cancel("d")
    back, _ = await _attach(other_gateway, token, agent, "s1")
    await back.hears("cancel", name="d", attempt=1)
    await stage.becomes("d", lambda s: stage.condition(s, "CancelDelivered") == "True")
    again, _ = await _attach(gateway, token, agent, "s1")
    await again.hears("cancel", name="d", attempt=1)
    await again.act(text, "cancelled", name="d", attempt=1)
    last, _ = await _attach(other_gateway, token, agent, "s1")
    await other_gateway.gateway.tasks.finish(5)
    assert not last.heard("cancel")


async def test_D9_deleted_and_requeued_work_is_told(stage: Stage, gateway: Running, admin_kube: Kube) -> None:
    """`kubectl delete` and a new attempt both tell the holder to stop."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    for name in ("deleted", "requeued"):
        await stage.offered(name, "a")
        await peer.act(text, "accept", name=name, attempt=1)
    await eventually(lambda: gateway.gateway.holdings.get(stage.namespace, "requeued"))
    await admin_kube.delete(DELEGATIONS, stage.namespace, "deleted")
    assert (await peer.hears("cancel", name="deleted"))["reason"] == "Deleted"
    nobody = {"sessionId": None, "gateway": None, "acceptedTime": None}
    await stage.operate("requeued", phase="Queued", reason="Released", attempt=2, **nobody)
    frame = await peer.hears("cancel", name="requeued")
    assert (frame["attempt"], frame["phase"], frame["reason"]) == (1, "Queued", "Released")
    late = await peer.act(text, "complete", name="requeued", attempt=1, result={"text": "x"})
    assert late["code"] == "superseded"


async def test_D10_refused_replies_are_recorded(stage: Stage, gateway: Running, admin_kube: Kube) -> None:
    """An old attempt is refused, the state unchanged, and one Event says so however often it is tried."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.delegation("d", "a")
    await stage.dispatch("d", attempt=2)
    before = (await stage.work("d"))["metadata"]["resourceVersion"]
    for _ in range(3):
        assert (await peer.act(text, "heartbeat", name="d", attempt=1))["code"] == "superseded"
    assert (await stage.work("d"))["metadata"]["resourceVersion"] == before

    async def events() -> list[dict[str, Any]]:
        found = await admin_kube.list(EVENTS, stage.namespace)
        return [e for e in found["items"] if e["regarding"]["name"] == "d"]

    (event,) = await eventually(events)
    assert (event["reason"], "Heartbeat of attempt 1" in event["note"]) == ("Superseded", True)


async def test_D12_reply_without_accept(stage: Stage, gateway: Running) -> None:
    """From the offer, and after the offer was taken back for want of an answer."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("at-once", "a")
    await peer.hears("dispatch", name="at-once")
    await peer.act(text, "complete", name="at-once", attempt=1, result={"uri": "https://example.org/r"})
    assert (await stage.status("at-once"))["phase"] == "Completed"
    await stage.offered("late", "a")
    await peer.hears("dispatch", name="late")
    await stage.operate("late", phase="Queued", reason="NotAccepted")
    await peer.hears("revoked", name="late")
    assert (await peer.act(text, "accept", name="late", attempt=1))["code"] == "superseded"
    assert (await peer.act(text, "fail", name="late", attempt=1, message="no"))["type"] == "ack"
    assert (await stage.status("late"))["reason"] == "AgentFailed"
    await stage.offered("again", "a")
    await peer.hears("dispatch", name="again")
    await stage.operate("again", phase="Queued", reason="NotAccepted")
    await peer.hears("revoked", name="again")
    await stage.dispatch("again")
    await eventually(lambda: len(peer.heard("dispatch", name="again", attempt=1)) == 2)


async def test_I3_write_outlives_its_socket(stage: Stage, gateway: Running) -> None:
    """A result sent with the last breath of a socket is written."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    await peer.start(text, "complete", name="d", attempt=1, result={"text": "last words"})
    await peer.ws.close()
    status = await stage.becomes("d", lambda s: s["phase"] == "Completed")
    assert status["result"] == {"text": "last words"}


async def test_P5_write_does_not_outlive_its_token(stage: Stage, gateway: Running) -> None:
    """A write that waits while another socket takes the session over is not carried out."""
    token, agent = await _agent(stage)
    old, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("d", "a")
    await old.act(text, "accept", name="d", attempt=1)
    held = gateway.gateway.inbound._acting._locks.hold(((stage.namespace, "a"), "s1", "d"))
    async with held:
        await old.start(text, "complete", name="d", attempt=1, result={"text": "stale"})
        session = gateway.gateway.sockets.session((stage.namespace, "a"), "s1")  # type: ignore[arg-type]
        assert session
        await eventually(lambda: session.in_flight["d"])
        await _attach(gateway, token, agent, "s1")
        assert (await old.disconnected())["reason"] == "replaced"
    await gateway.gateway.tasks.finish(5)
    assert (await stage.status("d"))["phase"] == "InProgress"


async def test_actions_on_one_delegation_keep_their_order(stage: Stage, gateway: Running) -> None:
    """Sent without waiting: accept, progress and complete take effect as they were sent."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("d", "a")
    await peer.start(text, "accept", name="d", attempt=1, ref="1")
    await peer.start(text, "progress", name="d", attempt=1, ref="2", progress={"percent": 7})
    await peer.start(text, "complete", name="d", attempt=1, ref="3", result={"text": "x"})
    await peer.start(text, "goodbye", ref="4")
    await peer.disconnected()
    assert [m["ref"] for m in peer.heard("ack")] == ["1", "2", "3", "4"]
    status = await stage.status("d")
    assert (status["phase"], status["progress"]) == ("Completed", {"percent": 7})


async def test_C9_resume_answers_each_id_and_adopts_what_is_held(
    stage: Stage, gateway: Running, other_gateway: Running
) -> None:
    """Each id gets its verdict, held work moves to this gateway, what was ended and isn't in hand is proven, and what
    is held and isn't in hand is handed back."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    for name in ("kept", "ended", "dropped", "requeued", "forgotten"):
        await stage.offered(name, "a")
        await peer.act(text, "accept", name=name, attempt=1)
    await peer.ws.close()
    await stage.cancel("ended")
    await stage.cancel("dropped")
    await stage.operate("requeued", phase="Queued", attempt=2, sessionId=None, gateway=None)
    back, _ = await _attach(other_gateway, token, agent, "s1")
    held = [{"name": name, "attempt": 1} for name in ("kept", "ended", "requeued", "unheard-of")]
    answer = await back.act(text, "resume", held=held)
    verdicts = {entry["name"]: entry["verdict"] for entry in answer["held"]}
    assert verdicts == {"kept": "continue", "ended": "cancelled", "requeued": "superseded", "unheard-of": "unknown"}
    await stage.becomes("kept", lambda s: s["gateway"] == other_gateway.identity)
    await stage.becomes("dropped", lambda s: stage.condition(s, "CancelAcknowledged") == "True")
    assert stage.condition(await stage.status("ended"), "CancelAcknowledged") is None
    forgotten = await stage.becomes("forgotten", lambda s: s["reason"] == "AgentForgot")
    assert (forgotten["phase"], forgotten["message"]) == ("InProgress", "session s1 of agent a resumed without it")


async def test_nothing_new_for_a_session_that_does_not_answer(stage: Stage, gateway: Running) -> None:
    """Who hasn't acknowledged a cancel gets no offer; others do; with the acknowledgement the offer comes."""
    token, agent = await _agent(stage)
    wedged, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("old", "a")
    await wedged.act(text, "accept", name="old", attempt=1)
    fit, _ = await _attach(gateway, token, agent, "s2")
    await stage.cancel("old")
    await wedged.hears("cancel", name="old")
    await stage.becomes("old", lambda s: stage.condition(s, "CancelDelivered") == "True")
    await stage.offered("new", "a")
    await fit.hears("dispatch", name="new")
    assert not wedged.heard("dispatch", name="new")
    await wedged.act(text, "cancelled", name="old", attempt=1)
    await wedged.hears("dispatch", name="new")


async def test_too_large_and_foreign_actions_change_nothing(stage: Stage, gateway: Running) -> None:
    """A result over the bound, and an action on another agent's work."""
    token, agent = await _agent(stage)
    await stage.agent("b", "alice")
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("mine", "a")
    await stage.offered("theirs", "b")
    big = {"text": "\u00e9" * 33_000}
    assert (await peer.act(text, "complete", name="mine", attempt=1, result=big))["code"] == "too_large"
    assert (await peer.act(text, "accept", name="theirs", attempt=1))["code"] == "not_found"
    assert {(await stage.status(name))["phase"] for name in ("mine", "theirs")} == {"Dispatched"}


async def test_D8_data_reaches_the_resource_and_the_topic(stage: Stage, gateway: Running) -> None:
    """A structured result as the agent sent it; one that is too large is refused, and the work goes on."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    own = identifier(topic_id=f"{stage.namespace}/session/a/s1")
    assert (await peer.asks(own))["type"] == "confirm_subscription"
    await stage.offered("d", "a")
    big = {"text": "x", "data": {"rows": ["x" * 70_000]}}
    refused = await peer.act(text, "complete", name="d", attempt=1, result=big)
    assert (refused["code"], "uri" in refused["message"]) == ("too_large", True)
    result = {"text": "two rows", "data": {"rows": [{"id": 1}, {"id": 2.5}], "ok": True}}
    assert (await peer.act(text, "complete", name="d", attempt=1, result=result))["type"] == "ack"
    assert (await stage.status("d"))["result"] == result
    event = await peer.hears("event", of=own, name="d", phase="Completed")
    assert event["result"] == result


async def test_C3_topics_hear_changes_of_phase(stage: Stage, gateway: Running) -> None:
    """A listener of the topic, and one of the session's own topic; nobody else."""
    token, agent = await _agent(stage)
    who = f"--serviceaccount={stage.namespace}:reader"
    reader_token = await stage.person("reader")
    flags = (f"--namespace={stage.namespace}", "reads")
    await asyncio.to_thread(stage.plane.kubectl, "create", "rolebinding", *flags, "--clusterrole=view", who)
    listener = await gateway.dialer.dial(reader_token)
    topic = identifier(topic_id=f"{stage.namespace}/news")
    assert (await listener.asks(topic))["type"] == "confirm_subscription"
    own = identifier(topic_id=f"{stage.namespace}/session/a/s1")
    assert (await listener.asks(own))["reason"] == "forbidden"
    peer, text = await _attach(gateway, token, agent, "s1")
    assert (await peer.asks(topic))["reason"] == "forbidden"
    assert (await peer.asks(own))["type"] == "confirm_subscription"
    await stage.offered("d", "a", topic="news")
    await stage.offered("elsewhere", "a", topic="sports")
    await peer.act(text, "complete", name="d", attempt=1, result={"text": "x"})
    done = await listener.hears("event", of=topic, name="d", phase="Completed")
    assert (done["topic"], done["agent"], done["attempt"]) == ("news", {"name": "a"}, 1)
    await listener.hears("event", of=topic, name="d", phase="Dispatched")
    await peer.hears("event", of=own, name="d", phase="Completed")
    assert not listener.heard("event", name="elsewhere")
    await listener.send(command="message", identifier=topic, data=json.dumps({"action": "goodbye"}))
    assert (await listener.hears("error", of=topic))["code"] == "forbidden"
    await listener.ws.close()
    await peer.ws.close()
    await eventually(
        lambda: all(not watched.listeners for watched in gateway.gateway.topics.namespaces.running.values())
    )


async def test_agent_deleted_closes_its_sockets(stage: Stage, gateway: Running) -> None:
    """With a reason, and not to come back."""
    token, agent = await _agent(stage)
    peer, _ = await _attach(gateway, token, agent, "s1")
    await stage.admin.delete(AGENTS, stage.namespace, "a")
    frame = await peer.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("agent_deleted", False)
    await stage.row_is("a", "s1", "Disconnected", "Closed")


async def test_D2_writes_need_no_read_of_what_was_just_seen(stage: Stage, gateway: Running) -> None:
    """From offer to result: three writes, no read. A refusal, and a write that finds another state, rest on one."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    writes = gateway.gateway.attempts.writes
    counted = writes._kube = Counted(writes._kube)  # type: ignore[assignment]
    await stage.offered("d", "a")
    await peer.hears("dispatch", name="d")
    await peer.act(text, "accept", name="d", attempt=1)
    await peer.act(text, "heartbeat", name="d", attempt=1)
    await peer.act(text, "complete", name="d", attempt=1, result={"text": "x"})
    assert ((await stage.status("d"))["phase"], counted.reads) == ("Completed", 0)
    assert (await peer.act(text, "fail", name="d", attempt=1, message="no"))["code"] == "superseded"
    assert counted.reads == 1
    assert not gateway.gateway.hints._written


async def test_D3_hint_that_is_out_of_date_changes_nothing(stage: Stage, gateway: Running) -> None:
    """A write decided on what was seen before another wrote is refused by the API server, and decided again."""
    token, agent = await _agent(stage)
    peer, text = await _attach(gateway, token, agent, "s1")
    await stage.offered("d", "a")
    await peer.act(text, "accept", name="d", attempt=1)
    hint = gateway.gateway.hints.newest(Ref(stage.namespace, "d"))
    await stage.operate("d", phase="Queued", attempt=2, sessionId=None, gateway=None)
    gateway.gateway.hints.newest = lambda _: hint  # type: ignore[assignment,method-assign]
    answer = await peer.act(text, "complete", name="d", attempt=1, result={"text": "stale"})
    assert (answer["code"], (await stage.status("d"))["phase"]) == ("superseded", "Queued")
