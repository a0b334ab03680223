"""Broadcasts and permission requests over HTTP: what people say, in their own name."""

import pytest

from accounts import username
from belay_kube.client import PERMISSION_REQUESTS, Kube
from gateway.caller import DELEGATE, EVERYTHING, Caller, caller, permission_request
from gateway.peer import identifier
from gateway.stage import Running, Stage


@pytest.fixture
async def alice(stage: Stage, gateway: Running) -> Caller:
    """The owner of agent `a`, who may delegate and decide."""
    await stage.agent("a", "alice")
    return await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE)


async def test_C3_broadcast_to_an_agent(stage: Stage, gateway: Running, alice: Caller) -> None:
    """Each session hears it, with the sender's name and the id that was answered; others may not send."""
    peer = await gateway.dialer.dial(alice.token)
    await peer.subscribe(f"{stage.namespace}/a", "s1")
    answer = await alice.post("agents/a/broadcast", {"body": {"say": "hello"}})
    assert answer.status == 200, answer
    heard = await peer.hears("broadcast", id=answer.body["id"])
    assert (heard["body"], heard["sender"]) == ({"say": "hello"}, username(stage.namespace, "alice"))
    nobody = await caller(stage, gateway, "nobody")
    (await nobody.post("agents/a/broadcast", {"body": 1})).refused(403, "lacks the verb")
    (await alice.post("agents/nope/broadcast", {"body": 1})).refused(404, "doesn't exist")
    (await alice.post("agents/a/broadcast", {})).refused(422, "body.body")


async def test_C3_broadcast_to_a_topic(stage: Stage, gateway: Running, alice: Caller) -> None:
    """A slash in a topic's name is written %2F."""
    peer = await gateway.dialer.dial(alice.token)
    text = identifier(topic_id=f"{stage.namespace}/news/today")
    assert (await peer.asks(text))["type"] == "confirm_subscription"
    answer = await alice.post("topics/news%2Ftoday/broadcast", {"body": "hello"})
    assert answer.status == 200, answer
    assert (await peer.hears("broadcast", id=answer.body["id"]))["body"] == "hello"


async def test_C3_broadcasts_are_limited(alice: Caller) -> None:
    """Who sends too many is told when to come back."""
    many = alice.gateway.gateway.settings.max_broadcasts_per_second * 5 + 1
    answers = [await alice.post("topics/t/broadcast", {"body": 1}) for _ in range(2 * many)]
    refused = next(answer for answer in answers if answer.status != 200)
    refused.refused(429, "too often")
    assert int(refused.headers["Retry-After"]) > 0


async def test_decided_in_the_callers_name(stage: Stage, gateway: Running, gateway_kube: Kube, alice: Caller) -> None:
    """The decision carries who took it; it is final; whoever may not patch may not decide."""
    await gateway_kube.create(PERMISSION_REQUESTS, stage.namespace, permission_request("q"))
    nobody = await caller(stage, gateway, "nobody")
    (await nobody.post("permissionrequests/q/decide", {"behavior": "Allow"})).refused(403, "permissionrequests/q")
    (await alice.post("permissionrequests/q/decide", {"behavior": "Maybe"})).refused(422, "body.behavior")
    signed = {"behavior": "Allow", "decidedBy": "bob"}
    (await alice.post("permissionrequests/q/decide", signed)).refused(422, "body.decidedBy")
    listed = (await alice.get("permissionrequests", phase="Pending", agent="a")).body["items"]
    assert [item["metadata"]["name"] for item in listed] == ["q"]
    allowed = {"behavior": "Allow", "reason": "fine"}
    for _ in range(2):
        answer = await alice.post("permissionrequests/q/decide", allowed)
        assert answer.status == 200, answer
    decision = (await stage.admin.get(PERMISSION_REQUESTS, stage.namespace, "q"))["spec"]["decision"]
    assert decision == {**allowed, "decidedBy": username(stage.namespace, "alice")}
    (await alice.post("permissionrequests/q/decide", {"behavior": "Deny"})).refused(422, "final")
