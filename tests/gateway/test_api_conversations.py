"""Conversations with Model agents over HTTP: opened, written to, read and interrupted in the caller's name."""

from typing import Any, cast

import pytest

from accounts import username
from belay_kube.client import MESSAGES, SESSIONS, Json, Kube
from belay_kube.clock import SystemClock
from belay_kube.errors import Unreachable
from gateway.caller import DELEGATE, EVERYTHING, Caller, caller
from gateway.conversation import MODEL, Conversation, text
from gateway.slow import CreateFails
from gateway.stage import Running, Stage, running


@pytest.fixture
async def alice(stage: Stage, gateway: Running) -> Caller:
    """Somebody who may do everything here."""
    return await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE)


@pytest.fixture
async def talk(stage: Stage) -> Conversation:
    """A session of a Model agent."""
    await stage.agent("m", **MODEL)
    made = Conversation(stage)
    await made.open()
    return made


def opening(agent: str = "m", **metadata: Any) -> Json:
    """The body of an open."""
    return {"metadata": metadata, "spec": {"agentRef": {"name": agent}}}


async def test_L4_session_is_opened(stage: Stage, alice: Caller) -> None:
    """With a name that is made up, or the one that is given, and listed by its agent."""
    answer = await alice.post("sessions", opening(labels={"team": "x"}))
    assert answer.status == 201, answer
    made = await stage.admin.get(SESSIONS, stage.namespace, answer.body["metadata"]["name"])
    assert made["spec"] == {"agentRef": {"name": "m"}}
    assert (made["metadata"]["name"][:2], made["metadata"]["labels"]) == ("m-", {"team": "x"})
    assert (await alice.post("sessions", opening("n", name="mine"))).body["metadata"]["name"] == "mine"
    (await alice.post("sessions", opening(name="mine"))).refused(409, "already exists")
    (await alice.post("sessions", opening(name="x" * 64))).refused(422, "at most 63")
    (await alice.post("sessions", opening(namespace="elsewhere"))).refused(422, "metadata.namespace: is elsewhere")
    (await alice.post("sessions", {**opening(), "status": {"turns": 7}})).refused(422, "body.status")
    listed = (await alice.get("sessions", agent="n")).body["items"]
    assert [(item["kind"], item["metadata"]["name"]) for item in listed] == [("AgentSession", "mine")]
    assert len((await alice.get("sessions")).body["items"]) == 2


async def test_D5_key_opens_one_session(stage: Stage, gateway: Running, alice: Caller) -> None:
    """Twice is once; with another agent it is refused; another caller's key is another."""
    first = await alice.post("sessions", opening(), Idempotency_Key="k")
    again = await alice.post("sessions", opening(), Idempotency_Key="k")
    assert (first.status, again.status) == (201, 200)
    assert first.body["metadata"]["uid"] == again.body["metadata"]["uid"]
    problem = (await alice.post("sessions", opening("n"), Idempotency_Key="k")).refused(409, "another key")
    assert problem["type"] == "urn:belay:problem:idempotency_key_reused"
    (await alice.post("sessions", opening(name="x"), Idempotency_Key="k")).refused(422, "leave one of them out")
    bob = await caller(stage, gateway, "bob", *EVERYTHING, DELEGATE)
    assert (await bob.post("sessions", opening(), Idempotency_Key="k")).status == 201


async def test_L4_message_goes_into_the_mailbox_in_the_callers_name(
    stage: Stage, talk: Conversation, alice: Caller
) -> None:
    """As its user, whoever the gateway is; it goes with its session."""
    session = await talk.now()
    for bounce in (None, True):
        body = {"content": "What is new?", **({} if bounce is None else {"bounceBack": bounce})}
        sent = await alice.post("sessions/s1/messages", body)
        assert sent.status == 201, sent
        made = await talk.mail(sent.body["name"])
        assert sent.body == {"name": made["metadata"]["name"], "uid": made["metadata"]["uid"]}
        assert made["spec"] == {
            "sessionRef": {"name": "s1"},
            "type": "UserMessage",
            "source": {"kind": "User", "name": username(stage.namespace, "alice")},
            "content": "What is new?",
            "bounceBack": bool(bounce),
        }
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("AgentSession", session["metadata"]["uid"])


REFUSED: dict[str, tuple[Json, int, str]] = {
    "nothing": ({"content": ""}, 422, "body.content"),
    "no content": ({}, 422, "body.content"),
    "another sender": ({"content": "x", "source": {"name": "bob"}}, 422, "body.source"),
    "another type": ({"content": "x", "type": "ToolResponse"}, 422, "body.type"),
    "too long": ({"content": "x" * 65_537}, 422, "body.content"),
    "too long in bytes": ({"content": "é" * 40_000}, 422, "more than 64 KiB"),
    "too long for a frame": ({"content": "x" * 300_000}, 413, "at most"),
    "a NUL": ({"content": "a\0b"}, 422, "NUL"),
}


@pytest.mark.parametrize(("body", "status", "said"), REFUSED.values(), ids=REFUSED)
async def test_L4_message_that_is_refused(
    stage: Stage, talk: Conversation, alice: Caller, body: Json, status: int, said: str
) -> None:
    """With the field's name, or the words of the schema's rule; nothing is sent."""
    (await alice.post("sessions/s1/messages", body)).refused(status, said)
    assert (await stage.admin.list(MESSAGES, stage.namespace))["items"] == []


async def test_L1_session_that_is_not_there(alice: Caller) -> None:
    """404 for all that is asked of it."""
    for path in ("sessions/nope", "sessions/nope/turns"):
        (await alice.get(path)).refused(404, '"nope" not found')
    (await alice.post("sessions/nope/messages", {"content": "x"})).refused(404, '"nope" not found')
    (await alice.post("sessions/nope/interrupt")).refused(404, '"nope" not found')


async def test_D5_key_sends_one_message(stage: Stage, gateway: Running, talk: Conversation, alice: Caller) -> None:
    """While it waits, and when it was read, also before the session counts the turn; another content is refused, and
    another caller's key is another."""
    first = await alice.post("sessions/s1/messages", {"content": "x"}, Idempotency_Key="k")
    again = await alice.post("sessions/s1/messages", {"content": "x", "bounceBack": False}, Idempotency_Key="k")
    assert (first.status, again.status, again.body) == (201, 200, first.body)
    for other in ({"content": "y"}, {"content": "x", "bounceBack": True}):
        (await alice.post("sessions/s1/messages", other, Idempotency_Key="k")).refused(409, "another key")
    bob = await caller(stage, gateway, "bob", *EVERYTHING)
    assert (await bob.post("sessions/s1/messages", {"content": "y"}, Idempotency_Key="k")).status == 201
    await talk.read(1, first.body["name"])
    read = await alice.post("sessions/s1/messages", {"content": "x"}, Idempotency_Key="k")
    assert (read.status, read.body) == (200, {**first.body, "turn": 1})
    await talk.turn(2, text("more"))
    await talk.stands("Idle", turns=2)
    assert (await alice.post("sessions/s1/messages", {"content": "x"}, Idempotency_Key="k")).body["turn"] == 1
    assert len((await stage.admin.list(MESSAGES, stage.namespace))["items"]) == 1


@pytest.mark.parametrize("path", ["sessions", "sessions/s1/messages"])
async def test_D5_create_without_an_answer_can_be_repeated_with_its_key(
    stage: Stage, gateway_kube: Kube, talk: Conversation, path: str
) -> None:
    """503 says so; what was made all the same is found."""
    body: Json = {"content": "x"} if path.endswith("messages") else opening()
    collection = MESSAGES if path.endswith("messages") else SESSIONS
    kube = CreateFails(gateway_kube, collection, Unreachable("broken off", said="broken off"), after=True)
    async with running(cast(Kube, kube), SystemClock()) as gateway:
        alice = await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE)
        (await alice.post(path, body)).refused(503, "look before you repeat it")
        (await alice.post(path, body, Idempotency_Key="k")).refused(503, "the same idempotency key")
        kube.error = None
        assert (await alice.post(path, body, Idempotency_Key="k")).status == 200


async def test_L4_turns_are_read_in_order_a_page_at_a_time(talk: Conversation, alice: Caller) -> None:
    """By their number, not by their name; also one that the session doesn't count yet."""
    for sequence in range(1, 13):
        await talk.turn(sequence, text(f"said {sequence}"))
    await talk.stands("Idle", turns=11)
    first = (await alice.get("sessions/s1/turns", limit="10")).body
    assert [item["spec"]["sequence"] for item in first["items"]] == list(range(1, 11))
    rest = (await alice.get("sessions/s1/turns", limit="10", **{"continue": first["continue"]})).body
    assert [item["spec"]["assistant"][0]["text"] for item in rest["items"]] == ["said 11", "said 12"]
    assert (rest.keys(), {item["kind"] for item in rest["items"]}) == ({"items"}, {"SessionTurn"})
    exactly = (await alice.get("sessions/s1/turns", limit="11")).body
    assert (len(exactly["items"]), exactly.get("continue")) == (11, None)
    (await alice.get("sessions/s1/turns", **{"continue": "x"})).refused(400, "continue")
    (await alice.get("sessions/s1/turns", limit="21")).refused(422, "query.limit")
    (await alice.get("sessions/s1/turns", outcome="Bounced")).refused(422, "query.outcome")


async def test_L17_interrupt_is_another_value_each_time(talk: Conversation, alice: Caller) -> None:
    """What runs is cut short, once for each."""
    asked = []
    for _ in range(2):
        answer = await alice.post("sessions/s1/interrupt")
        assert answer.status == 200, answer
        asked.append(answer.body["spec"]["interruptRequest"])
    assert len(set(asked)) == 2
    assert (await talk.now())["spec"]["interruptRequest"] == asked[1]


async def test_D13_conversations_need_what_kubectl_needs(stage: Stage, gateway: Running, talk: Conversation) -> None:
    """Each verb alone; to open one also the verb `delegate` on its agent, as a conversation is work for it."""
    nobody = await caller(stage, gateway, "nobody")
    refused = {
        "sessions": "list on agentsessions",
        "sessions/s1": "get on agentsessions/s1",
        "sessions/s1/turns": "list on sessionturns",
    }
    for path, what in refused.items():
        (await nobody.get(path)).refused(403, f"lacks the verb {what}")
    (await nobody.post("sessions", opening())).refused(403, "lacks the verb create on agentsessions")
    (await nobody.post("sessions/s1/messages", {"content": "x"})).refused(403, "create on pendingmessages")
    (await nobody.post("sessions/s1/interrupt")).refused(403, "patch on agentsessions/s1")
    creator = await caller(stage, gateway, "creator", *EVERYTHING, {**DELEGATE, "resourceNames": ["n"]})
    (await creator.post("sessions", opening())).refused(403, "lacks the verb delegate on agents/m")
    assert (await creator.post("sessions", opening("n"))).status == 201
    assert len((await stage.admin.list(SESSIONS, stage.namespace))["items"]) == 2
