"""Real Action Cable clients at the other end: @rails/actioncable and @anycable/core, run by node (issue 4, part 2)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from accounts import grant, username
from belay_api.meta import DEFAULT_AUDIENCE, SESSION_TOPIC_PREFIX
from belay_api.names import subscription_name
from belay_kube.client import PERMISSION_REQUESTS, SUBSCRIPTIONS, Json, Kube
from belay_kube.clock import SystemClock
from gateway.caller import DELEGATE, EVERYTHING
from gateway.node import NodeClient, node_client
from gateway.peer import identifier
from gateway.stage import Running, Stage, running
from waiting import eventually

LIBRARIES = ("rails", "anycable")
HASTE = {"staleSeconds": 4, "reconnectMilliseconds": 100}
"""Each library's own option for how soon it tries again; Rails' must stay above the 3 s between two pings."""
RETURN_SECONDS = 60.0
ADMIN = "belay-admin"


@pytest.fixture(params=LIBRARIES)
async def client(request: pytest.FixtureRequest, stage: Stage, gateway: Running) -> AsyncIterator[NodeClient]:
    """One client of each library, connected as alice, who owns what she attaches as."""
    async with node_client(request.param, gateway.url, await stage.person("alice")) as started:
        yield started


@pytest.mark.parametrize("browser", [False, True], ids=["header", "subprotocol"])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_C1_token_by_header_or_subprotocol(stage: Stage, gateway: Running, library: str, browser: bool) -> None:
    """Attaches with the token where node sends it, and where a browser must."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    async with node_client(library, gateway.url, token, browser=browser) as client:
        attached = await client.attach("s1", identifier(agent_id=agent, session_id="s1"))
        assert (attached["agent"], attached["session"]) == (agent, "s1")
        assert await client.fact("connected", key="s1", reconnected=False)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_C1_unauthorized_client_does_not_come_back(gateway: Running, library: str) -> None:
    """A `disconnect` that says not to reconnect stops each library's monitor."""
    async with node_client(library, gateway.url, "nonsense", **HASTE) as client:
        await client.tell(do="connect")
        await _gives_up(client)
        assert all(fact["reason"] == "unauthorized" for fact in client.all("closed"))


async def test_C2_rejected_client_stays_connected(stage: Stage, client: NodeClient) -> None:
    """A subscription that isn't allowed is rejected; the next one on the same socket is confirmed."""
    theirs, mine = await stage.agent("theirs", "bob"), await stage.agent("mine", "alice")
    await client.subscribe("theirs", identifier(agent_id=theirs, session_id="s1"))
    assert await client.fact("rejected", key="theirs")
    assert await client.attach("mine", identifier(agent_id=mine, session_id="s1"))


async def test_C9_every_action_of_a_real_client(stage: Stage, client: NodeClient) -> None:
    """Offers reach it, each action is carried out and answered by its `ref`, and a goodbye ends the connection."""
    agent = await stage.agent("a", "alice")
    await client.attach("s1", identifier(agent_id=agent, session_id="s1"))

    await stage.offered("done", "a")
    assert (await client.hears("s1", "dispatch", name="done"))["prompt"] == "do it"
    done = {"name": "done", "attempt": 1}
    steps: dict[str, dict[str, Any]] = {
        "accept": {},
        "heartbeat": {},
        "progress": {"progress": {"percent": 50, "message": "half"}},
        "complete": {"result": {"text": "done it"}},
    }
    for action, data in steps.items():
        assert (await client.act("s1", action, **done, **data))["type"] == "ack", action
    assert (await stage.status("done"))["phase"] == "Completed"
    assert (await client.act("s1", "heartbeat", **done))["code"] == "superseded"

    await stage.offered("failed", "a")
    assert (await client.act("s1", "fail", name="failed", attempt=1, message="can't"))["type"] == "ack"
    assert (await stage.status("failed"))["reason"] == "AgentFailed"

    await stage.offered("stopped", "a")
    stopped = {"name": "stopped", "attempt": 1}
    assert (await client.act("s1", "accept", **stopped))["type"] == "ack"
    held = await client.act("s1", "resume", held=[stopped, {"name": "none", "attempt": 1}])
    assert [entry["verdict"] for entry in held["held"]] == ["continue", "unknown"]
    await stage.cancel("stopped")
    assert (await client.hears("s1", "cancel", name="stopped"))["phase"] == "Cancelled"
    assert (await client.act("s1", "cancelled", **stopped))["type"] == "ack"
    assert stage.condition(await stage.status("stopped"), "CancelAcknowledged") == "True"

    assert (await client.act("s1", "goodbye"))["type"] == "ack"
    await stage.row_is("a", "s1", "Disconnected", "Goodbye")
    await _gives_up(client)


async def test_C5_permissions_of_a_real_client(stage: Stage, client: NodeClient) -> None:
    """It asks, hears the decision once, has it sent again by a replay, and takes a question back."""
    agent = await stage.agent("a", "alice")
    await client.attach("s1", identifier(agent_id=agent, session_id="s1"))
    name = (await client.act("s1", "request_permission", request_id="q1", tool="Bash", input_preview="ls"))["name"]
    decision = {"behavior": "Allow", "decidedBy": ADMIN}
    await stage.admin.patch(PERMISSION_REQUESTS, stage.namespace, name, {"spec": {"decision": decision}})
    told = await client.hears("s1", "permission_decision", request_id="q1")
    assert (told["behavior"], told["decided_by"]) == ("Allow", ADMIN)
    assert (await client.act("s1", "replay_permissions", request_ids=["q1"]))["type"] == "ack"
    assert client.messages("s1", "permission_decision") == [told, told]

    other = (await client.act("s1", "request_permission", request_id="q2", tool="Bash", input_preview="rm"))["name"]
    assert (await client.act("s1", "resolved", request_id="q2"))["type"] == "ack"
    resolved = await stage.admin.get(PERMISSION_REQUESTS, stage.namespace, other)
    assert resolved["status"]["phase"] == "Expired"


async def test_D8_work_is_handed_on_and_back_by_a_real_client(
    stage: Stage, gateway: Running, client: NodeClient
) -> None:
    """It delegates a part of what it holds and hears of its end on its own topic, and releases what it can't finish."""
    agent = await stage.agent("a", "alice")
    await grant(stage.admin, stage.namespace, username(stage.namespace, "alice"), "delegating", [*EVERYTHING, DELEGATE])
    await client.attach("s1", identifier(agent_id=agent, session_id="s1"))
    await client.subscribe("own", identifier(topic_id=f"{stage.namespace}/{SESSION_TOPIC_PREFIX}a/s1"))
    await client.fact("connected", key="own")
    await stage.offered("whole", "a")
    await client.hears("s1", "dispatch", name="whole")
    assert (await client.act("s1", "accept", name="whole", attempt=1))["type"] == "ack"

    made = await client.act("s1", "delegate", agent="b", prompt="a part of it", parent="whole")
    assert made["type"] == "ack", made
    assert (await stage.work(made["name"]))["spec"]["parentRef"]["name"] == "whole"
    await stage.cancel(made["name"])
    assert await client.hears("own", "event", name=made["name"], phase="Cancelled")

    assert (await client.act("s1", "release", name="whole", attempt=1, message="going home"))["type"] == "ack"
    assert (await stage.status("whole"))["reason"] == "Released"


async def test_C6_subscriptions_of_one_socket_are_apart(stage: Stage, client: NodeClient) -> None:
    """Two agents and a topic on one socket: each hears its own, and an unsubscribe ends one of them."""
    a, b = await stage.agent("a", "alice"), await stage.agent("b", "alice")
    await client.attach("a", identifier(agent_id=a, session_id="s1"))
    await client.attach("b", identifier(agent_id=b, session_id="s1"))
    topic = f"{SESSION_TOPIC_PREFIX}a/s1"
    await client.subscribe("topic", identifier(topic_id=f"{stage.namespace}/{topic}"))
    await client.fact("connected", key="topic")

    for agent in ("a", "b"):
        await stage.offered(f"for-{agent}", agent)
        await client.hears(agent, "dispatch", name=f"for-{agent}")
        assert (await client.act(agent, "accept", name=f"for-{agent}", attempt=1))["type"] == "ack"
    event = await client.hears("topic", "event", name="for-a", phase="InProgress")
    assert (event["topic"], event["agent"]) == (topic, {"name": "a"})

    assert (await client.act("topic", "accept", name="for-a", attempt=1))["code"] == "forbidden"

    await client.tell(do="unsubscribe", key="a")
    await stage.row_is("a", "s1", "Disconnected", "Unsubscribed")
    assert (await client.act("b", "complete", name="for-b", attempt=1, result={"text": "x"}))["type"] == "ack"
    heard = {key: {m["name"] for m in client.messages(key, "dispatch", "event")} for key in ("a", "b", "topic")}
    assert heard == {"a": {"for-a"}, "b": {"for-b"}, "topic": {"for-a"}}


@pytest.mark.parametrize(
    "text",
    [
        '{"session_id":"s1","agent_id":"%s","channel":"AgentChannel"}',
        '{ "channel" : "AgentChannel",\n  "agent_id": "%s", "session_id":"s1" }',
        '{"channel":"AgentChannel","agent_id":"%s","session_id":"s1","of":{"the":"client \\u00e9 é"}}',
    ],
    ids=["order", "spaces", "more"],
)
async def test_identifiers_are_the_clients_own_text(stage: Stage, gateway: Running, text: str) -> None:
    """Rails' client finds its subscription by the exact text it sent, whatever its order, spaces and escapes."""
    identifier = text % await stage.agent("a", "alice")
    async with node_client("rails", gateway.url, await stage.person("alice")) as client:
        await client.attach("s1", identifier)
        await stage.offered("d", "a")
        await client.hears("s1", "dispatch", name="d")
        assert (await client.act("s1", "accept", name="d", attempt=1))["type"] == "ack"


@pytest.mark.parametrize("graceful", [True, False], ids=["told", "killed"])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_P7_clients_come_back_by_themselves(
    stage: Stage, gateway_kube: Kube, library: str, graceful: bool
) -> None:
    """The gateway is started again at its address: each library reconnects, is the same session, and goes on."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    async with running(gateway_kube, SystemClock()) as first:
        port = urlsplit(first.url).port or 0
        async with node_client(library, first.url, token, **HASTE) as client:
            await client.attach("s1", identifier(agent_id=agent, session_id="s1"))
            await stage.offered("d", "a")
            assert (await client.act("s1", "accept", name="d", attempt=1))["type"] == "ack"
            await (first.stop() if graceful else _crash(first))
            assert (await client.fact("disconnected", key="s1"))["returning"]
            await stage.row_is("a", "s1", "Disconnected", "GatewayShutdown" if graceful else "ConnectionLost")
            async with running(gateway_kube, SystemClock(), listen=port):
                await client.fact("connected", key="s1", reconnected=True, timeout=RETURN_SECONDS)
                held = await client.act("s1", "resume", held=[{"name": "d", "attempt": 1}])
                assert held["held"][0]["verdict"] == "continue"
                result = {"text": "after all"}
                assert (await client.act("s1", "complete", name="d", attempt=1, result=result))["type"] == "ack"
    assert (await stage.status("d"))["phase"] == "Completed"


@pytest.mark.parametrize("library", LIBRARIES)
async def test_P4_lost_row_comes_back_on_a_shared_socket(stage: Stage, gateway: Running, library: str) -> None:
    """A row that is gone makes the library reconnect and subscribe to all it had, so no subscription is without one."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    async with node_client(library, gateway.url, token, **HASTE) as client:
        for session in ("s1", "s2"):
            await client.attach(session, identifier(agent_id=agent, session_id=session))
        attached = len(client.facts)
        await stage.admin.delete(SUBSCRIPTIONS, stage.namespace, subscription_name("a", "s1"))
        for session in ("s1", "s2"):
            await client.fact("connected", attached, RETURN_SECONDS, key=session)
            await stage.row_is("a", session, "Live")


async def test_P5_replaced_session_leaves_the_others_of_its_socket(
    stage: Stage, gateway: Running, client: NodeClient
) -> None:
    """The session that another socket took is not had back, whether or not the library notices; the other goes on."""
    agent = await stage.agent("a", "alice")
    for session in ("s1", "s2"):
        await client.attach(session, identifier(agent_id=agent, session_id=session))
    again = await asyncio.to_thread(stage.plane.service_account_token, stage.namespace, "alice", [DEFAULT_AUDIENCE])
    new = await gateway.dialer.dial(again)
    await new.subscribe(agent, "s1")
    await stage.offered("d", "a", sessionId="s2")
    await client.hears("s2", "dispatch", name="d")
    assert (await client.act("s2", "accept", name="d", attempt=1))["type"] == "ack"
    if not client.all("rejected", key="s1"):
        assert (await client.act("s1", "heartbeat", name="d", attempt=1))["code"] == "not_found"
    assert not new.ws.closed


async def _crash(gateway: Running) -> None:
    """Nothing listens any more, and every connection breaks off without a word."""
    for site in tuple(gateway.runner.sites):
        await site.stop()
    for connection in gateway.gateway.endpoint:
        connection._outbox.abort()
    await eventually(lambda: not list(gateway.gateway.endpoint))


async def _gives_up(client: NodeClient) -> None:
    async def has_given_up() -> bool:
        await client.tell(do="state")
        return bool(client.all("state", open=False, monitoring=False))

    assert await eventually(has_given_up)


class Gated:
    """Stands in for a `Kube`; creating an object waits until the gate is open."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.gate = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def create(self, *args: Any) -> Json:
        """Create once the gate is open."""
        await self.gate.wait()
        return await self._kube.create(*args)


async def test_C8_subscribe_asked_again_meanwhile_is_confirmed_once(stage: Stage, gateway: Running) -> None:
    """Rails' client asks again every 500 ms until it is confirmed; @anycable/core takes a second answer for a stray
    and unsubscribes."""
    text = identifier(agent_id=await stage.agent("a", "alice"), session_id="s1")
    gateway.gateway.presence._kube = slow = Gated(gateway.gateway.presence._kube)  # type: ignore[assignment]
    async with node_client("rails", gateway.url, await stage.person("alice")) as client:
        await client.subscribe("s1", text)
        heard = gateway.gateway.metrics.frames_in.labels("subscribe")
        await eventually(lambda: heard._value.get() >= 3)
        slow.gate.set()
        await client.hears("s1", "attached")
        assert (await client.act("s1", "heartbeat", name="x", attempt=1))["code"] == "not_found"
        assert len(client.all("connected", key="s1")) == 1
