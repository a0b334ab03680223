"""What topics are told of delegations, over real sockets and a real API server; the test plays the operator."""

import asyncio
from typing import cast

import pytest

from accounts import grant
from belay_api.delegation import Result
from belay_api.frames import MAX_FRAME_BYTES, Identifier
from belay_api.messages import Event
from belay_api.meta import ANNOTATION_ASKED_BY, API_VERSION, GROUP
from belay_api.times import to_wire
from belay_gateway.backlog import Backlog, Shared
from belay_gateway.fanout import Fanout
from belay_gateway.topicevents import MAX_EVENT_BYTES, NamespaceTopics, event_of, event_text, stand_of
from belay_gateway.watching import IDLE_SECONDS
from belay_gateway.wire import text_of
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.clock import FakeClock, SystemClock
from gateway.peer import Peer, identifier
from gateway.slow import Lists
from gateway.stage import Running, Stage, running
from waiting import eventually

READS = [{"apiGroups": [GROUP], "resources": ["delegations"], "verbs": ["get"]}]


class Room:
    """An agent's session, its own topic beside it, and a listener of another topic."""

    def __init__(self, stage: Stage, gateway: Running) -> None:
        self.stage = stage
        self.gateway = gateway
        self.token = ""

    async def session(self, name: str, session: str, gateway: Running | None = None) -> tuple[Peer, str, str]:
        """An attached session that listens to its own topic: its peer, and the identifiers of both."""
        peer = await (gateway or self.gateway).dialer.dial(self.token)
        agent = f"{self.stage.namespace}/{name}"
        await peer.subscribe(agent, session)
        own = identifier(topic_id=f"{self.stage.namespace}/session/{name}/{session}")
        assert (await peer.asks(own))["type"] == "confirm_subscription"
        return peer, identifier(agent_id=agent, session_id=session), own

    async def listener(self, topic: str, gateway: Running | None = None) -> Peer:
        """One who may read delegations, at a topic."""
        peer = await (gateway or self.gateway).dialer.dial(self.token)
        assert (await peer.asks(identifier(topic_id=f"{self.stage.namespace}/{topic}")))["type"] == (
            "confirm_subscription"
        )
        return peer


@pytest.fixture
async def room(stage: Stage, gateway: Running) -> Room:
    """Two agents of one owner, who may also read delegations."""
    made = Room(stage, gateway)
    made.token = await stage.person("alice")
    for name in ("a", "b"):
        await stage.agent(name, "alice")
    await grant(stage.admin, stage.namespace, f"system:serviceaccount:{stage.namespace}:alice", "reads", READS)
    return made


async def test_D8_topic_hears_the_result(room: Room, stage: Stage, other_gateway: Running) -> None:
    """Message and result come with the end, not before, to listeners on every gateway; the agent's stream has none."""
    peer, agent, _ = await room.session("a", "s1")
    ears = [await room.listener("news"), await room.listener("news", other_gateway)]
    await stage.offered("d", "a", topic="news")
    await peer.act(agent, "accept", name="d", attempt=1)
    result = {"text": "forty-two", "data": {"n": 42}, "uri": "https://example.org/r"}
    await peer.act(agent, "complete", name="d", attempt=1, result=result)
    for ear in ears:
        done = await ear.hears("event", name="d", phase="Completed")
        assert (done["result"], done["reason"], done["attempt"]) == (result, "Completed", 1)
        begun = await ear.hears("event", name="d", phase="InProgress")
        assert not begun.keys() & {"result", "message"}
    assert not [f for f in peer.frames if f.get("identifier") == agent and (f.get("message") or {}).get("phase")]


async def test_D8_topic_hears_how_far_it_is(room: Room, stage: Stage) -> None:
    """Each report that is written, with the agent's words; the end has none of them any more."""
    peer, agent, _ = await room.session("a", "s1")
    ear = await room.listener("news")
    await stage.offered("d", "a", topic="news")
    said = {"percent": 40, "message": "reading the sources"}
    await peer.act(agent, "progress", name="d", attempt=1, progress=said)
    event = await ear.hears("event", name="d", percent=40)
    assert (event["phase"], event["progress"]) == ("InProgress", "reading the sources")
    await peer.act(agent, "complete", name="d", attempt=1, result={"text": "done"})
    assert "progress" not in await ear.hears("event", name="d", phase="Completed")


async def test_D8_topic_hears_why_it_failed(room: Room, stage: Stage) -> None:
    """Of a failure and of a cancel the sentence is told, and of a delegation that was deleted the reason."""
    peer, agent, _ = await room.session("a", "s1")
    ear = await room.listener("news")
    for name in ("failed", "cancelled", "deleted"):
        await stage.offered(name, "a", topic="news")
        await peer.act(agent, "accept", name=name, attempt=1)
        await ear.hears("event", name=name, phase="InProgress")
    await peer.act(agent, "fail", name="failed", attempt=1, message="no such file")
    await stage.cancel("cancelled")
    await stage.admin.delete(DELEGATIONS, stage.namespace, "deleted")
    assert (await ear.hears("event", name="failed", phase="Failed"))["message"] == "no such file"
    assert (await ear.hears("event", name="cancelled", phase="Cancelled"))["message"] == "cancelled by a test"
    assert (await ear.hears("event", name="deleted", phase="Cancelled"))["reason"] == "Deleted"


async def test_D8_session_that_asked_hears_the_end(room: Room, stage: Stage) -> None:
    """A delegation made by the action `delegate` is told on the own topic of the session that made it, on no other."""
    boss, asks, own = await room.session("a", "s1")
    sibling, _, _ = await room.session("a", "s2")
    worker, works, _ = await room.session("b", "w1")
    user = f"system:serviceaccount:{stage.namespace}:alice"
    rules = [
        {"apiGroups": [GROUP], "resources": ["delegations"], "verbs": ["create"]},
        {"apiGroups": [GROUP], "resources": ["agents"], "resourceNames": ["b"], "verbs": ["delegate"]},
    ]
    await grant(stage.admin, stage.namespace, user, "delegates", rules)
    made = await boss.act(asks, "delegate", agent="b", prompt="count", topic="sums")
    assert made["type"] == "ack", made
    await stage.dispatch(made["name"])
    await worker.hears("dispatch", name=made["name"])
    await worker.act(works, "complete", name=made["name"], attempt=1, result={"text": "3"})
    done = await boss.hears("event", of=own, name=made["name"], phase="Completed")
    assert (done["topic"], done["agent"], done["result"]) == ("session/a/s1", {"name": "b"}, {"text": "3"})
    assert not sibling.heard("event", name=made["name"])


async def test_D8_holder_of_the_parent_hears_of_its_children(room: Room, stage: Stage, gateway_kube: Kube) -> None:
    """On its own topic, while it holds the parent; not of other sessions' children, nor of a stranger's, who may name
    any parent but has nothing to say to its holder."""
    boss, asks, own = await room.session("a", "s1")
    other, other_asks, _ = await room.session("a", "s2")
    worker, works, _ = await room.session("b", "w1")
    for name, peer, text in (("mine", boss, asks), ("theirs", other, other_asks)):
        await stage.offered(name, "a")
        assert (await peer.act(text, "accept", name=name, attempt=1))["type"] == "ack"
    await boss.hears("event", of=own, name="mine", phase="InProgress")
    alice = f"system:serviceaccount:{stage.namespace}:alice"
    named = {"strangers": "mallory", "child": alice, "stranger": alice}
    for name, parent in (("anybodys", "mine"), ("strangers", "mine"), ("child", "mine"), ("stranger", "theirs")):
        requester = {"requester": named[name]} if name in named else {}
        spec = {"agentRef": {"name": "b"}, "task": {"prompt": "do it"}, "parentRef": {"name": parent}, **requester}
        body = {"apiVersion": API_VERSION, "kind": "Delegation", "metadata": {"name": name}, "spec": spec}
        await gateway_kube.create(DELEGATIONS, stage.namespace, body)
        await stage.dispatch(name)
        await worker.hears("dispatch", name=name)
        await worker.act(works, "complete", name=name, attempt=1, result={"text": name})
    assert (await boss.hears("event", of=own, name="child", phase="Completed"))["result"] == {"text": "child"}
    await other.hears("event", name="stranger", phase="Completed")
    assert {event["name"] for event in boss.heard("event")} == {"mine", "child"}
    assert not other.heard("event", name="child")


async def test_D8_result_that_escapes_to_more_than_a_frame(room: Room, stage: Stage, gateway_kube: Kube) -> None:
    """Sixty thousand control characters take six bytes each in JSON: the event says where to read them."""
    peer, agent, _ = await room.session("a", "s1")
    ear = await room.listener("news")
    await stage.offered("d", "a", topic="news")
    await peer.act(agent, "accept", name="d", attempt=1)
    # A socket couldn't even send it; HTTP can.
    result = {"text": "\x01" * 60_000, "uri": "https://example.org/r"}
    done = {"phase": "Completed", "reason": "Completed", "completionTime": to_wire(SystemClock().now())}
    await gateway_kube.patch_status(DELEGATIONS, await stage.work("d"), {**done, "result": result})
    event = await ear.hears("event", name="d", phase="Completed")
    assert event["result"] == {"uri": "https://example.org/r"}
    assert f"kubectl get delegation d -n {stage.namespace} -o yaml" in event["message"]


async def test_C3_reader_outlives_its_last_listener_for_a_while(stage: Stage, still_gateway: Running) -> None:
    """One reader for a namespace, whoever comes and goes; a minute after the last it ends, and starts anew."""
    room = Room(stage, still_gateway)
    room.token = await stage.person("alice")
    await grant(stage.admin, stage.namespace, f"system:serviceaccount:{stage.namespace}:alice", "reads", READS)
    topics = still_gateway.gateway.topics
    ears = [await room.listener("news"), await room.listener("sports")]
    (first,) = topics.namespaces.running.values()
    for ear in ears:
        await ear.ws.close()
    await eventually(lambda: first.listeners == 0)
    await still_gateway.clock.advance(IDLE_SECONDS - 1)  # type: ignore[attr-defined]
    again = await room.listener("news")
    await still_gateway.clock.advance(2)  # type: ignore[attr-defined]
    assert list(topics.namespaces.running.values()) == [first]
    await again.ws.close()
    await eventually(lambda: first.listeners == 0)
    await still_gateway.clock.advance(IDLE_SECONDS)  # type: ignore[attr-defined]
    await eventually(lambda: not topics.namespaces.running and first.task.done())
    await room.listener("news")
    assert list(topics.namespaces.running) == [stage.namespace]


async def test_C3_who_has_stopped_listening_hears_nothing_more(room: Room, stage: Stage, gateway: Running) -> None:
    """Not even what waited in a fan-out before that; and it may listen again."""
    ear, topic = await room.listener("news"), identifier(topic_id=f"{stage.namespace}/news")
    listeners = gateway.gateway.topics.namespaces.running[stage.namespace].sink.listeners
    (listener,) = listeners["news"]
    await ear.send(command="unsubscribe", identifier=topic)
    await eventually(lambda: not listeners)
    listener.say(Shared("event", '{"type": "event"}'))
    assert (await ear.asks(topic))["type"] == "confirm_subscription"
    assert not ear.heard("event")


async def test_C3_a_socket_that_ends_when_the_reader_has_synced_leaves_no_listener(
    stage: Stage, gateway_kube: Kube
) -> None:
    """Cancelled between the word that its namespace is read and the subscription."""
    kube, token = Lists(gateway_kube, DELEGATIONS), await stage.person("alice")
    await grant(stage.admin, stage.namespace, f"system:serviceaccount:{stage.namespace}:alice", "reads", READS)
    async with running(cast(Kube, kube), SystemClock()) as gateway:
        await gateway.dialer.dial(token)
        (connection,), topics = gateway.gateway.endpoint, gateway.gateway.topics
        kube.gate.clear()
        wanted = Identifier(channel="AgentChannel", topic_id=f"{stage.namespace}/news")
        subscribing = asyncio.create_task(topics.subscribe(connection, "x", wanted))
        await eventually(lambda: kube.waiting or subscribing.done())
        watched = topics.namespaces.running[stage.namespace]
        watched.reader.has_synced.set()
        subscribing.cancel()
        await asyncio.wait({subscribing})
        assert (subscribing.cancelled(), watched.listeners, watched.sink.listeners) == (True, 0, {})


# --- pure ----------------------------------------------------------------------------------------------------------


def _work(name: str, *, parent: str | None = None, asked_by: str | None = None, **status: object) -> Json:
    annotations = {ANNOTATION_ASKED_BY: asked_by} if asked_by else {}
    spec: Json = {"agentRef": {"name": "a"}, **({"parentRef": {"name": parent}} if parent else {})}
    metadata = {"name": name, "uid": f"uid-of-{name}", "annotations": annotations}
    return {"metadata": metadata, "spec": spec, "status": status}


def _topics() -> NamespaceTopics:
    return NamespaceTopics("ns", Fanout(Backlog(FakeClock(), 8)))


class Ear:
    """Remembers the events of one topic."""

    def __init__(self) -> None:
        self.user = "alice"
        self.heard: list[Event] = []

    def say(self, shared: Shared) -> None:
        """Remember."""
        self.heard.append(Event.model_validate_json(shared.text))


def test_C3_an_event_is_told_once_to_a_topic_that_it_concerns_twice() -> None:
    """The session that asked for it also holds its parent; a change that says nothing new is not told."""
    topics, ear = _topics(), Ear()
    topics.listeners["session/a/s1"] = {ear}
    topics.changed(_work("parent", phase="InProgress", sessionId="s1"))
    topics.changed(_work("child", parent="parent", asked_by="a/s1", phase="Queued"))
    assert not ear.heard  # what was there before is no news
    topics.synced()
    ended = _work("child", parent="parent", asked_by="a/s1", phase="Completed", result={"text": "x"})
    topics.changed(ended)
    topics.changed(ended)
    topics.changed(_work("orphan", parent="nobody", phase="Queued"))
    assert [(event.name, event.phase) for event in ear.heard] == [("child", "Completed")]
    topics.changed(_work("parent", phase="Queued"))
    topics.changed(_work("child2", parent="parent", phase="Queued"))
    assert len(ear.heard) == 1  # nobody holds the parent any more


def test_C3_progress_is_told_when_it_changes() -> None:
    """In percent or in words; a beat without either is no event."""
    topics, ear = _topics(), Ear()
    topics.listeners["session/a/s1"] = {ear}
    topics.synced()
    for progress in ({}, {"percent": 1}, {"percent": 1, "message": "x"}, {"percent": 1, "message": "x"}):
        for beat in ("1", "2"):
            topics.changed(_work("d", phase="InProgress", sessionId="s1", progress=progress, lastHeartbeatTime=beat))
    assert [(event.percent, event.progress) for event in ear.heard] == [(None, None), (1, None), (1, "x")]


def test_C3_what_has_ended_is_not_kept() -> None:
    """Told once, whatever changes of it later; its deletion says nothing, and another of its name is news again."""
    topics, ear = _topics(), Ear()
    topics.listeners["session/a/s1"] = {ear}
    topics.changed(_work("old", phase="Completed", sessionId="s1"))
    topics.synced()
    for message in ("", "acknowledged"):
        topics.changed(_work("old", phase="Completed", sessionId="s1", message=message))
        topics.changed(_work("d", phase="Cancelled", sessionId="s1", message=message))
    assert (topics._stands, sorted(topics._ended)) == ({}, ["d", "old"])
    for name in ("d", "old", "never seen"):
        topics.deleted(_work(name))
    assert not topics._ended
    topics.changed(_work("d", phase="InProgress", sessionId="s1"))
    another = _work("d", phase="Completed", sessionId="s1")
    another["metadata"]["uid"] = "another"
    topics.changed(another)
    assert [event.phase for event in ear.heard] == ["Cancelled", "InProgress", "Completed"]


@pytest.mark.parametrize("filler", ["x", "\x01", "\u00e9", "\U0001f600", "\ud800"], ids=ascii)
def test_D8_every_event_fits_in_a_frame(filler: str) -> None:
    """However its text is escaped, beside the longest identifier; and what fits is not cut."""
    status: Json = {"phase": "Completed", "message": filler * 4096, "result": {"text": filler * 65_536}}
    event = event_of("t" * 253, "d", stand_of(_work("d", **status)), status)
    assert isinstance(event.result, Result)
    text = event_text("ns", event)
    longest_identifier = 2048 * 12
    assert len(text.encode()) + longest_identifier < MAX_FRAME_BYTES
    escaped = len(text_of(event.wire()).encode())
    assert ("too large for a frame" in text) == (escaped > MAX_EVENT_BYTES)
