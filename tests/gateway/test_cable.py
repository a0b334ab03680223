"""The wire: who may open a socket, and what becomes of frames that are wrong."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from belay_api.frames import MAX_FRAME_BYTES, SUBPROTOCOL
from belay_gateway.auth import BEARER_SUBPROTOCOL
from belay_kube.client import Kube
from belay_kube.clock import FakeClock, SystemClock
from gateway.peer import Peer, identifier
from gateway.stage import Running, Stage, fetch, running
from waiting import eventually


@pytest.mark.parametrize("token", [None, "", "nonsense", "a.b.c", "x" * 6000], ids=lambda t: repr(t)[:12])
async def test_C1_without_a_user_unauthorized(gateway: Running, token: str | None) -> None:
    """No token, or one the cluster doesn't know: told so in the cable's words, and not to come back."""
    peer = await gateway.dialer.dial(token)
    frame = await peer.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("unauthorized", False)


async def test_C1_foreign_audience_is_unauthorized(stage: Stage, gateway: Running) -> None:
    """A token made for somebody else is not accepted here."""
    peer = await gateway.dialer.dial(await stage.person("alice", audience="another-service"))
    assert (await peer.disconnected())["reason"] == "unauthorized"


async def test_C1_browser_token_in_the_subprotocol(stage: Stage, gateway: Running) -> None:
    """The Kubernetes bearer subprotocol works, beside the cable's own."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    peer = await gateway.dialer.dial(None, protocols=(SUBPROTOCOL, BEARER_SUBPROTOCOL + encoded))
    assert peer.ws.protocol == SUBPROTOCOL
    assert await peer.subscribe(agent, "s1")


async def test_C1_neither_agent_nor_topic_is_rejected(stage: Stage, gateway: Running) -> None:
    """An identifier must name something."""
    peer = await gateway.dialer.dial(await stage.person("alice"))
    answer = await peer.asks(identifier(session_id="s1"))
    assert (answer["type"], answer["reason"]) == ("reject_subscription", "invalid")


async def test_C1_with_both_the_agent_wins(stage: Stage, gateway: Running) -> None:
    """An identifier with agent and topic attaches as the agent."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    assert (await peer.subscribe(agent, "s1", topic_id=f"{stage.namespace}/t"))["session"] == "s1"


async def test_C2_only_owners_and_holders_of_attach(stage: Stage, gateway: Running) -> None:
    """An owner attaches, a holder of the verb attaches, another is refused, a missing agent is named."""
    agent = await stage.agent("a", "owner")
    tokens = {name: await stage.person(name) for name in ("owner", "granted", "stranger")}
    who = f"--serviceaccount={stage.namespace}:granted"
    flags = (f"--namespace={stage.namespace}", "attacher")
    rights = ("--verb=attach", "--resource=agents.belay.dev", "--resource-name=a")
    await asyncio.to_thread(stage.plane.kubectl, "create", "role", *flags, *rights)
    await asyncio.to_thread(stage.plane.kubectl, "create", "rolebinding", *flags, "--role=attacher", who)
    for name in ("owner", "granted"):
        assert await (await gateway.dialer.dial(tokens[name])).subscribe(agent, name)
    stranger = await gateway.dialer.dial(tokens["stranger"])
    assert (await stranger.asks(identifier(agent_id=agent)))["reason"] == "forbidden"
    missing = await stranger.asks(identifier(agent_id=f"{stage.namespace}/nobody"))
    assert (missing["reason"], "kubectl apply" in missing["message"]) == ("not_found", True)


async def test_C2_model_agents_are_not_attached_to(stage: Stage, gateway: Running) -> None:
    """Belay drives those itself."""
    model = {"provider": "anthropic", "name": "m"}
    token, agent = await stage.person("alice"), await stage.agent("a", "alice", runtime="Model", model=model)
    answer = await (await gateway.dialer.dial(token)).asks(identifier(agent_id=agent))
    assert (answer["reason"], "Model" in answer["message"]) == ("invalid", True)


@pytest.mark.parametrize("origin", ["null", "https://evil.example", "https://good.example.evil.example"])
async def test_C2_foreign_origins_are_refused(gateway_kube: Kube, origin: str) -> None:
    """A browser's origin must stand in the allow-list exactly, before anything else is looked at."""
    async with running(gateway_kube, SystemClock(), allowed_origins=["https://good.example"]) as gateway:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await gateway.dialer.dial(None, headers={"Origin": origin})
        assert refused.value.status == 403
        good = await gateway.dialer.dial(None, headers={"Origin": "https://good.example"})
        assert (await good.disconnected())["reason"] == "unauthorized"


async def test_C8_token_is_not_logged_with_unknown_subprotocols(
    gateway: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the cable's subprotocol the socket is refused, and what was offered appears nowhere."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await gateway.dialer.dial(None, protocols=(BEARER_SUBPROTOCOL + "c2VjcmV0",))
    assert refused.value.status == 400
    assert "c2VjcmV0" not in caplog.text


@pytest.fixture
async def attached(stage: Stage, gateway: Running) -> AsyncIterator[tuple[Peer, Peer, str]]:
    """A peer to break things with, one that must not notice, and the identifier both know."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    rude, other = await gateway.dialer.dial(token), await gateway.dialer.dial(token)
    await rude.subscribe(agent, "rude")
    await other.subscribe(agent, "other")
    yield rude, other, identifier(agent_id=agent, session_id="rude")
    other_text = identifier(agent_id=agent, session_id="other")
    answer = await other.act(other_text, "heartbeat", name="x", attempt=1)
    assert (answer["type"], answer["code"]) == ("error", "not_found")


CLOSING: dict[str, str | bytes] = {
    "not JSON": "hello",
    "empty": "",
    "a list": "[]",
    "a number": "1",
    "null": "null",
    "no command": "{}",
    "unknown command": json.dumps({"command": "fly", "identifier": 1}),
    "identifier too long": json.dumps({"command": "subscribe", "identifier": "x" * 5000}),
    "deep": "[" * 10_000 + "]" * 10_000,
    "deep objects": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "lone surrogate": '{"command":"subscribe","identifier":1,"x":"\\ud800"}',
    "binary": b"\x00\x01",
    "one byte too long": "x" * (MAX_FRAME_BYTES + 1),
}


@pytest.mark.parametrize("name", CLOSING)
async def test_C8_unreadable_frames_close_their_socket(attached: tuple[Peer, Peer, str], name: str) -> None:
    """A frame that can't be read closes the socket that sent it, with a reason."""
    rude, _, _ = attached
    frame = CLOSING[name]
    await (rude.ws.send_bytes(frame) if isinstance(frame, bytes) else rude.ws.send_str(frame))
    told = await rude.disconnected()
    assert (told["reason"], told["reconnect"], bool(told["message"])) == ("invalid_request", False, True)


async def test_C8_invalid_utf8_closes_its_socket(attached: tuple[Peer, Peer, str]) -> None:
    """Text that isn't UTF-8 is refused by the WebSocket itself, and still told in the cable's words."""
    rude, _, _ = attached
    await rude.ws._writer.send_frame(b"\xff\xfe", aiohttp.WSMsgType.TEXT)
    assert (await rude.disconnected())["reason"] == "invalid_request"


def _action(**fields: object) -> str:
    return json.dumps(fields)


ANSWERED: dict[str, tuple[str | None, str]] = {
    "data missing": (None, "invalid"),
    "data not JSON": ("hello", "invalid"),
    "data empty": ("", "invalid"),
    "data a list": ("[]", "invalid"),
    "no action": ("{}", "invalid"),
    "unknown action": (_action(action="fly"), "invalid"),
    "unknown field": (_action(action="accept", name="d", attempt=1, more=1), "invalid"),
    "no attempt": (_action(action="accept", name="d"), "invalid"),
    "attempt zero": (_action(action="accept", name="d", attempt=0), "invalid"),
    "attempt huge": (_action(action="accept", name="d", attempt=10**30), "not_found"),
    "attempt text": (_action(action="accept", name="d", attempt="one"), "invalid"),
    "bad name": (_action(action="accept", name="../../x", attempt=1), "invalid"),
    "percent 101": (_action(action="progress", name="d", attempt=1, progress={"percent": 101}), "invalid"),
    "empty sentence": (_action(action="fail", name="d", attempt=1, message=""), "invalid"),
    "NUL in it": (_action(action="fail", name="d", attempt=1, message="a\u0000b"), "not_found"),
    "emoji": (_action(action="fail", name="d", attempt=1, message="\U0001f9d7"), "not_found"),
    "lone surrogate": ('{"action":"fail","name":"d","attempt":1,"message":"\\ud800"}', "invalid"),
    "deep": ("[" * 10_000 + "]" * 10_000, "invalid"),
    "too much held": (_action(action="resume", held=[{"name": "d", "attempt": 1}] * 1001), "invalid"),
    "result too long": (_action(action="complete", name="d", attempt=1, result={"text": "x" * 65_537}), "too_large"),
}


@pytest.mark.parametrize("name", ANSWERED)
async def test_C8_malformed_actions_are_answered(attached: tuple[Peer, Peer, str], name: str) -> None:
    """An action that is wrong gets an error with a sentence; the socket goes on."""
    rude, _, text = attached
    data, code = ANSWERED[name]
    await rude.send(command="message", identifier=text, **({} if data is None else {"data": data}))
    error = await rude.hears("error", of=text)
    assert (error["code"], bool(error["message"])) == (code, True)
    assert (await rude.act(text, "heartbeat", name="x", attempt=1))["code"] == "not_found"


async def test_C8_error_repeats_the_ref(attached: tuple[Peer, Peer, str]) -> None:
    """Also of an action that could not be understood."""
    rude, _, text = attached
    assert (await rude.act(text, "fly"))["code"] == "invalid"


async def test_C8_commands_that_find_nothing_are_answered(attached: tuple[Peer, Peer, str]) -> None:
    """A message or an unsubscribe without a subscription, and data that isn't text, get an error."""
    rude, _, text = attached
    for command in ("message", "unsubscribe"):
        await rude.send(command=command, identifier=f"nothing {command}", data="{}")
        assert (await rude.hears("error", of=f"nothing {command}"))["code"] == "not_found"
    await rude.send(command="message", identifier=text, data={"action": "accept"})
    assert (await rude.hears("error", of=text))["code"] == "invalid"


REJECTED = {
    "not JSON": "hello",
    "deep": "[" * 2000,
    "another channel": json.dumps({"channel": "ChatChannel", "agent_id": "a/b"}),
    "no slash": json.dumps({"channel": "AgentChannel", "agent_id": "ab"}),
    "no name": json.dumps({"channel": "AgentChannel", "agent_id": "ab/"}),
    "upper case": json.dumps({"channel": "AgentChannel", "agent_id": "Ab/Cd"}),
    "dots and slashes": json.dumps({"channel": "AgentChannel", "agent_id": "default/../../../x"}),
    "query": json.dumps({"channel": "AgentChannel", "agent_id": "default/x?watch=1"}),
    "session with a slash": json.dumps({"channel": "AgentChannel", "agent_id": "a/b", "session_id": "x/y"}),
    "session too long": json.dumps({"channel": "AgentChannel", "agent_id": "a/b", "session_id": "x" * 129}),
    "name too long": json.dumps({"channel": "AgentChannel", "agent_id": "a/" + "b" * 300}),
}


@pytest.mark.parametrize("name", REJECTED)
async def test_C8_bad_identifiers_are_rejected(attached: tuple[Peer, Peer, str], name: str) -> None:
    """An identifier that names nothing usable is rejected with its exact text and a reason."""
    rude, _, _ = attached
    answer = await rude.asks(REJECTED[name])
    assert answer["type"] == "reject_subscription"
    assert answer["reason"] == "invalid"


async def test_C8_too_many_subscriptions(stage: Stage, gateway_kube: Kube) -> None:
    """The bound for one socket is named; those there are go on."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    async with running(gateway_kube, SystemClock(), max_subscriptions_per_socket=2) as gateway:
        peer = await gateway.dialer.dial(token)
        for session in ("s1", "s2"):
            await peer.subscribe(agent, session)
        answer = await peer.asks(identifier(agent_id=agent, session_id="s3"))
        assert (answer["type"], answer["reason"]) == ("reject_subscription", "too_large")


async def test_C8_too_many_sockets_of_one_user(stage: Stage, gateway_kube: Kube) -> None:
    """One user's sockets are bounded; another user's are not touched by that, and a closed one makes room."""
    alice, bob = await stage.person("alice"), await stage.person("bob")
    async with running(gateway_kube, SystemClock(), max_sockets_per_user=1) as gateway:
        first = await gateway.dialer.dial(alice)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await gateway.dialer.dial(alice)
        assert refused.value.status == 429
        await gateway.dialer.dial(bob)
        await first.ws.close()
        await eventually(lambda: len(list(gateway.gateway.endpoint)) == 1)
        assert await gateway.dialer.dial(alice)


async def test_C8_one_session_twice_on_one_socket(stage: Stage, gateway: Running) -> None:
    """The same identifier again is confirmed again; the same session under another identifier is refused."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    assert (await peer.asks(identifier(agent_id=agent, session_id="s1")))["type"] == "confirm_subscription"
    answer = await peer.asks(identifier(agent_id=agent, session_id="s1", topic_id="x/y"))
    assert (answer["type"], answer["reason"]) == ("reject_subscription", "invalid")


async def test_C8_flood_closes_only_the_flooder(stage: Stage, gateway_kube: Kube) -> None:
    """More frames than anyone needs: closed, and told to come back."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    async with running(gateway_kube, FakeClock(), max_frames_per_second=10) as gateway:
        flooder, other = await gateway.dialer.dial(token), await gateway.dialer.dial(token)
        await other.subscribe(agent, "other")
        for _ in range(60):
            await flooder.send(command="message", identifier="x", data="{}")
        frame = await flooder.disconnected()
        assert (frame["reason"], frame["reconnect"]) == ("rate_limited", True)
        text = identifier(agent_id=agent, session_id="other")
        assert (await other.act(text, "heartbeat", name="x", attempt=1))["code"] == "not_found"


async def test_C8_peer_that_never_reads_is_closed(stage: Stage, gateway_kube: Kube) -> None:
    """A full queue closes the slow peer; another one is served meanwhile."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    async with running(gateway_kube, SystemClock(), max_queue_per_socket=8, max_frames_per_second=100_000) as gateway:
        deaf = await gateway.dialer.dial(token, deaf=True)
        other = await gateway.dialer.dial(token)
        await other.subscribe(agent, "other")
        slow = gateway.gateway.metrics.disconnects.labels("slow_consumer")

        async def flood() -> bool:
            if not deaf.ws.closed and not slow._value.get():
                with_echo = json.dumps({"command": "message", "identifier": "x" * 2000, "data": "{}"})
                await asyncio.gather(*(deaf.ws.send_str(with_echo) for _ in range(200)), return_exceptions=True)
            return bool(slow._value.get())

        await eventually(flood)
        text = identifier(agent_id=agent, session_id="other")
        assert (await other.act(text, "heartbeat", name="x", attempt=1))["code"] == "not_found"


async def test_C8_pings_keep_the_rhythm(stage: Stage, still_gateway: Running) -> None:
    """The cable's JSON ping comes every three seconds and carries whole seconds."""
    peer = await still_gateway.dialer.dial(await stage.person("alice"))
    await eventually(lambda: peer.frames)
    assert peer.frames[0] == {"type": "welcome"}
    await still_gateway.pass_time(10)
    pings = await eventually(lambda: [f["message"] for f in peer.frames if f.get("type") == "ping"][2:3])
    assert isinstance(pings[0], int)
    assert len([f for f in peer.frames if f.get("type") == "ping"]) == 3


async def test_C8_probes_and_metrics(gateway: Running) -> None:
    """Probes answer, and the counters are there to be read."""
    assert (await fetch(f"{gateway.url}/healthz"))[0] == 200
    assert await fetch(f"{gateway.url}/readyz") == (200, "ok\n")
    status, text = await fetch(f"{gateway.url}/metrics")
    assert (status, "belay_gateway_sockets 0.0" in text, "belay_gateway_reader_age_seconds" in text) == (
        200,
        True,
        True,
    )
    assert (await fetch(f"{gateway.url}/cable"))[0] == 400
