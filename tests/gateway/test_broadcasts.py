"""Broadcasts over real sockets on two gateways, a real API server and a real nats-server."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from nats.aio.client import Client
from pydantic import ValidationError

from accounts import grant
from belay_api.messages import Broadcast, ErrorCode
from belay_api.meta import GROUP
from belay_api.names import Ref
from belay_gateway.auth import User
from belay_gateway.backlog import MAX_BACKLOG_BYTES
from belay_gateway.carried import MAX_CARRIED_BYTES, Carried, pack, subject_of
from belay_gateway.refused import Refused
from belay_gateway.settings import Settings
from belay_gateway.siblings import LOOK_SECONDS
from belay_kube.client import Kube
from belay_kube.clock import FakeClock, SystemClock
from gateway.peer import Peer, identifier
from gateway.stage import Running, Stage, fetch, running
from natsserver import NatsServer, nats_server
from waiting import eventually

SENDER = User("sender")
ANY: dict[str, Any] = {"note": "stop at the next safe point", "n": 1}
DELEGATES = [
    {"apiGroups": [GROUP], "resources": ["delegations"], "verbs": ["create", "get"]},
    {"apiGroups": [GROUP], "resources": ["agents"], "resourceNames": ["a"], "verbs": ["delegate"]},
]


@pytest.fixture
async def pair(gateway_kube: Kube, nats: NatsServer) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways on one bus."""
    async with AsyncExitStack() as held:
        first, second = [
            await held.enter_async_context(running(gateway_kube, SystemClock(), bus_url=nats.url)) for _ in range(2)
        ]
        for each in (first, second):
            await eventually(lambda: each.gateway.bus.state() is None)  # noqa: B023
        yield first, second


class Crowd:
    """Sessions of one agent and listeners of one topic, on every gateway."""

    def __init__(self, stage: Stage) -> None:
        self.agent = Ref(stage.namespace, "a")
        self.topic = Ref(stage.namespace, "news/of the.day *>")
        self.stage = stage
        self.sessions: list[Peer] = []
        self.listeners: list[Peer] = []

    async def gather(self, *gateways: Running) -> None:
        """Two sessions and two listeners at each gateway; the sessions of the first listen as well."""
        token = await self.stage.person("alice")
        await self.stage.agent("a", "alice")
        await grant(self.stage.admin, self.stage.namespace, SENDER.name, "sends", DELEGATES)
        name = f"system:serviceaccount:{self.stage.namespace}:alice"
        await grant(self.stage.admin, self.stage.namespace, name, "listens", DELEGATES[:1])
        for place, gateway in enumerate(gateways):
            for n in range(2):
                peer = await gateway.dialer.dial(token)
                await peer.subscribe(str(self.agent), f"s{place}{n}")
                self.sessions.append(peer)
                listener = await gateway.dialer.dial(token)
                assert (await listener.asks(self.ear))["type"] == "confirm_subscription"
                self.listeners.append(listener)
        assert (await self.sessions[0].asks(self.ear))["type"] == "confirm_subscription"

    @property
    def ear(self) -> str:
        """The identifier of a listener."""
        return identifier(topic_id=str(self.topic))

    async def hear(self, peers: list[Peer], sent: Broadcast) -> None:
        """Wait until all these have heard it."""
        for peer in peers:
            assert await peer.hears("broadcast", id=sent.id) == sent.wire()


async def refusal(sending: Any) -> Refused:
    """The refusal that this ends with."""
    with pytest.raises(Refused) as caught:
        await sending
    return caught.value


async def test_C3_to_an_agent_reaches_each_of_its_sockets_once(stage: Stage, pair: tuple[Running, Running]) -> None:
    """Whichever gateway they are on, and whichever was asked; listeners of topics hear nothing of it."""
    crowd = Crowd(stage)
    await crowd.gather(*pair)
    for gateway in pair:
        sent = await gateway.gateway.broadcasts.to_agent(crowd.agent, SENDER, ANY)
        assert (sent.agent, sent.topic, sent.sender, sent.body) == (str(crowd.agent), None, "sender", ANY)
        await crowd.hear(crowd.sessions, sent)
    assert [len(peer.heard("broadcast")) for peer in crowd.sessions] == [2, 2, 2, 2]
    assert [peer.heard("broadcast") for peer in crowd.listeners] == [[], [], [], []]


async def test_C3_to_a_topic_reaches_each_listener_once_and_no_agent(
    stage: Stage, pair: tuple[Running, Running]
) -> None:
    """A topic of any characters; a socket that is both hears it as listener only; other topics hear nothing."""
    crowd = Crowd(stage)
    await crowd.gather(*pair)
    elsewhere = identifier(topic_id=f"{stage.namespace}/news")
    await crowd.listeners[0].asks(elsewhere)
    for gateway in pair:
        sent = await gateway.gateway.broadcasts.to_topic(crowd.topic, SENDER, ANY)
        await crowd.hear([*crowd.listeners, crowd.sessions[0]], sent)
    both = [f["identifier"] for f in crowd.sessions[0].frames if (f.get("message") or {}) and "body" in str(f)]
    assert both == [crowd.ear, crowd.ear]
    assert [len(peer.heard("broadcast")) for peer in crowd.listeners] == [2, 2, 2, 2]
    assert [peer.heard("broadcast") for peer in crowd.sessions[1:]] == [[], [], []]
    assert not [f for f in crowd.listeners[0].frames if f.get("identifier") == elsewhere and "message" in f]


async def test_C3_topic_that_is_named_like_an_agent(stage: Stage, gateway: Running) -> None:
    """The two have nothing to do with each other."""
    crowd = Crowd(stage)
    crowd.topic = crowd.agent
    await crowd.gather(gateway)
    send = gateway.gateway.broadcasts
    to_topic, to_agent = await send.to_topic(crowd.topic, SENDER, 1), await send.to_agent(crowd.agent, SENDER, 2)
    await crowd.hear(crowd.listeners, to_topic)
    await crowd.hear(crowd.sessions, to_agent)
    assert [len(peer.heard("broadcast")) for peer in (*crowd.listeners, crowd.sessions[1])] == [1, 1, 1]


async def test_C3_without_the_bus_broadcasts_fail_and_all_else_goes_on(
    stage: Stage, pair: tuple[Running, Running], nats: NatsServer
) -> None:
    """NATS down: a clear error, nobody is told; health says so, work goes on; NATS back: it heals by itself."""
    crowd = Crowd(stage)
    await crowd.gather(*pair)
    first = pair[0]
    await nats.stop()
    await eventually(first.gateway.bus.state)
    refused = await refusal(first.gateway.broadcasts.to_agent(crowd.agent, SENDER, ANY))
    assert refused.code == ErrorCode.UNAVAILABLE
    assert f"NATS at {nats.url.removeprefix('nats://')}, can't be reached" in refused.message
    status, text = await fetch(f"{first.url}/readyz")
    assert (status, "the bus, NATS at" in text) == (200, True)
    assert "belay_gateway_bus_connected 0.0" in (await fetch(f"{first.url}/metrics"))[1]
    await stage.offered("d", "a")
    for peer in crowd.sessions:
        await peer.hears("dispatch", name="d")
    await nats.start()
    for each in pair:
        await eventually(lambda: each.gateway.bus.state() is None)  # noqa: B023
    await crowd.hear(crowd.sessions, await first.gateway.broadcasts.to_agent(crowd.agent, SENDER, "again"))
    assert [len(peer.heard("broadcast")) for peer in crowd.sessions] == [1, 1, 1, 1]
    assert "belay_gateway_bus_connected 1.0" in (await fetch(f"{first.url}/metrics"))[1]


async def test_C3_gateway_starts_before_its_bus(stage: Stage, gateway_kube: Kube, nats: NatsServer) -> None:
    """With NATS down at its start it serves, and finds the bus when that comes."""
    await nats.stop()
    async with running(gateway_kube, SystemClock(), bus_url=nats.url) as gateway:
        crowd = Crowd(stage)
        await crowd.gather(gateway)
        assert (await refusal(gateway.gateway.broadcasts.to_agent(crowd.agent, SENDER, 1))).code == "unavailable"
        await nats.start()
        await eventually(lambda: gateway.gateway.bus.state() is None)
        await crowd.hear(crowd.sessions, await gateway.gateway.broadcasts.to_agent(crowd.agent, SENDER, 2))


def _carried(agent: Ref, **fields: Any) -> Carried:
    broadcast = Broadcast(id=fields.pop("id", "x1"), sender="s", agent=str(agent), body=1)
    return Carried(gateway="elsewhere", broadcast=broadcast.model_copy(update=fields))


async def test_C8_what_is_malformed_on_the_bus_is_dropped_and_counted(
    stage: Stage, pair: tuple[Running, Running], nats: NatsServer
) -> None:
    """Neither size nor shape nor address is trusted; a message told twice is told once; the good one gets through."""
    crowd = Crowd(stage)
    await crowd.gather(*pair)
    good = _carried(crowd.agent)
    subject = f"belay.broadcast.{subject_of(good.broadcast)}"
    data = pack(good.gateway, good.broadcast)
    wrong = {
        "no JSON": (subject, b"\xff\x00"),
        "no broadcast": (subject, b'{"gateway": "x"}'),
        "a field too many": (subject, data.replace(b'"id"', b'"more": 1, "id"')),
        "no address": (subject, data.replace(b"agent", b"topic").replace(b"/a", b"")),
        "both": (subject, data.replace(b'"id"', b'"topic": "x/y", "id"')),
        "deep": (subject, data.replace(b'"body": 1', b'"body": ' + b"[" * 5000 + b"]" * 5000)),
        "too large": (subject, data.replace(b'"body": 1', b'"body": "' + b"x" * MAX_CARRIED_BYTES + b'"')),
        "another's subject": (f"belay.broadcast.{stage.namespace}.agent.other", data),
    }
    client = Client()
    await client.connect(nats.url)
    for at, bytes_ in [*wrong.values(), (subject, data), (subject, data)]:
        await client.publish(at, bytes_)
    await client.flush()
    await client.close()
    await crowd.hear(crowd.sessions, good.broadcast)
    for each in pair:
        counted = each.gateway.metrics.bus_messages

        def count(result: str) -> float:
            return float(counted.labels(result)._value.get())  # noqa: B023

        await eventually(lambda: count("repeated") == 1)
        assert (count("malformed"), count("told")) == (len(wrong), 1)
    assert [len(peer.heard("broadcast")) for peer in crowd.sessions] == [1, 1, 1, 1]


async def test_C3_who_may_broadcast(stage: Stage, gateway: Running) -> None:
    """To an agent who may delegate to it, to a topic who may create delegations there, to a session who may listen."""
    crowd = Crowd(stage)
    await crowd.gather(gateway)
    send = gateway.gateway.broadcasts
    maker, attacher = User("maker"), User("attacher")
    attach = [{"apiGroups": [GROUP], "resources": ["agents"], "resourceNames": ["a"], "verbs": ["attach"]}]
    await grant(stage.admin, stage.namespace, maker.name, "makes", DELEGATES[:1])
    await grant(stage.admin, stage.namespace, attacher.name, "attaches", attach)
    own = Ref(stage.namespace, "session/a/s00")
    for sending, lacking in {
        send.to_agent(crowd.agent, maker, 1): "maker lacks the verb delegate on agents/a",
        send.to_agent(crowd.agent, attacher, 1): "attacher lacks the verb create on delegations",
        send.to_topic(crowd.topic, attacher, 1): "attacher lacks the verb create on delegations",
        send.to_topic(own, maker, 1): "maker may not broadcast to topic",
        send.to_topic(own, SENDER, 1): "sender may not broadcast to topic",
    }.items():
        refused = await refusal(sending)
        assert (refused.code, lacking in refused.message) == ("forbidden", True), refused.message
    await crowd.sessions[0].asks(identifier(topic_id=str(own)))
    await crowd.hear(crowd.listeners, await send.to_topic(crowd.topic, maker, 1))
    await crowd.hear(crowd.sessions[:1], await send.to_topic(own, attacher, 1))
    await grant(stage.admin, stage.namespace, SENDER.name, "more", [{**DELEGATES[1], "resourceNames": ["ghost"]}])
    refused = await refusal(send.to_agent(Ref(stage.namespace, "ghost"), SENDER, 1))
    assert (refused.code, "doesn't exist" in refused.message) == ("not_found", True)


UNFIT_BODIES = {
    "none": None,
    "too large": "\u00e9" * 32_768,
    "not a number": float("nan"),
    "a lone surrogate": "\ud800",
    "no JSON": {1, 2},
}


@pytest.mark.parametrize("body", UNFIT_BODIES.values(), ids=UNFIT_BODIES)
async def test_C8_unfit_bodies_are_refused(body: Any, stage: Stage, gateway: Running) -> None:
    """With a sentence, and nobody is told; the largest that fits goes, and nulls inside go too."""
    crowd = Crowd(stage)
    await crowd.gather(gateway)
    refused = await refusal(gateway.gateway.broadcasts.to_agent(crowd.agent, SENDER, body))
    expected = "too_large" if isinstance(body, str) and len(body) > 1 else "invalid"
    assert (refused.code, refused.message[:5]) == (expected, "body:")
    await crowd.hear(crowd.sessions[:1], await gateway.gateway.broadcasts.to_agent(crowd.agent, SENDER, {"a": None}))
    assert len(crowd.sessions[0].heard("broadcast")) == 1


async def test_C3_fault_17_nobody_is_told_when_too_much_waits(stage: Stage, pair: tuple[Running, Running]) -> None:
    """The gateway that has no room refuses, and drops what comes over the bus; with room again all goes on."""
    crowd = Crowd(stage)
    await crowd.gather(*pair)
    full, other = (each.gateway for each in pair)
    full.broadcasts._backlog.add(MAX_BACKLOG_BYTES)
    refused = await refusal(full.broadcasts.to_agent(crowd.agent, SENDER, ANY))
    assert (refused.code, "nobody was told" in refused.message) == ("unavailable", True)
    sent = await other.broadcasts.to_agent(crowd.agent, SENDER, ANY)
    await crowd.hear(crowd.sessions[2:], sent)
    await eventually(lambda: full.metrics.bus_messages.labels("no_room")._value.get() == 1)
    full.broadcasts._backlog.add(-MAX_BACKLOG_BYTES)
    await crowd.hear(crowd.sessions, await other.broadcasts.to_agent(crowd.agent, SENDER, ANY))
    assert [len(peer.heard("broadcast")) for peer in crowd.sessions] == [1, 1, 2, 2]
    await eventually(lambda: full.broadcasts._backlog.bytes == 0)


async def test_C3_bus_that_stops_answering_leaves_it_in_doubt(
    stage: Stage, pair: tuple[Running, Running], nats: NatsServer
) -> None:
    """NATS may have it when its confirmation doesn't come: the refusal says that others may have been told."""
    crowd = Crowd(stage)
    await crowd.gather(*pair)
    nats.signal(signal.SIGSTOP)
    try:
        refused = await refusal(pair[0].gateway.broadcasts.to_agent(crowd.agent, SENDER, ANY))
    finally:
        nats.signal(signal.SIGCONT)
    assert (refused.code, "may have been told" in refused.message) == ("unavailable", True), refused.message
    for peer in crowd.sessions[2:]:
        await peer.hears("broadcast", body=ANY)


async def test_C3_bus_that_talks_nonsense_ends_nothing(stage: Stage, gateway_kube: Kube) -> None:
    """What listens at the address isn't NATS: it is tried again and again, and everything else goes on."""
    greeted: list[object] = []

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.append(writer)
        writer.write(b"INFO []\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, running(gateway_kube, SystemClock(), bus_url=f"nats://127.0.0.1:{port}") as gateway:
        await eventually(lambda: len(greeted) > 1)
        assert "is not connected" in str(gateway.gateway.bus.state())
        assert not gateway.gateway.health.broken.is_set()


async def test_C3_bodies_arrive_as_they_were_sent(stage: Stage, pair: tuple[Running, Running]) -> None:
    """Nulls, unicode, numbers and the largest text, on the other gateway too; one nested too deep is refused."""
    crowd = Crowd(stage)
    await crowd.gather(*pair)
    send = pair[0].gateway.broadcasts
    bodies: list[Any] = [{"a": None, "b": [None, {"c": None}]}, "\u00e9\U0001f600\n", 2**70, [], "x" * (64 * 1024 - 2)]
    for body in bodies:
        await crowd.hear(crowd.sessions, await send.to_agent(crowd.agent, SENDER, body))
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    assert (await refusal(send.to_agent(crowd.agent, SENDER, deep))).code == "invalid"


@pytest.mark.parametrize("address", ["Team/a", "../a", "ns/", "ns/" + "x" * 254], ids=str)
async def test_C8_addresses_that_are_none_are_refused(address: str, stage: Stage, gateway: Running) -> None:
    """Nothing but the name of a namespace gets into a path of the API server."""
    namespace, _, name = address.partition("/")
    assert (await refusal(gateway.gateway.broadcasts.to_topic(Ref(namespace, name), SENDER, 1))).code == "invalid"
    assert (await refusal(gateway.gateway.broadcasts.to_agent(Ref(namespace, name), SENDER, 1))).code == "invalid"


async def test_C3_senders_are_limited_each_for_itself(stage: Stage, gateway_kube: Kube) -> None:
    """Five seconds' worth at once, then refused until time passes; another sender isn't held back."""
    async with running(gateway_kube, FakeClock(), max_broadcasts_per_second=1) as gateway:
        crowd = Crowd(stage)
        await crowd.gather(gateway)
        send = gateway.gateway.broadcasts
        for n in range(5):
            await send.to_topic(crowd.topic, SENDER, n)
        refused = await refusal(send.to_topic(crowd.topic, SENDER, 6))
        assert (refused.code, "too often" in refused.message) == ("rate_limited", True)
        assert (await refusal(send.to_topic(crowd.topic, User("other"), 1))).code == "forbidden"
        await gateway.pass_time(1)
        await send.to_topic(crowd.topic, SENDER, 7)


async def test_C3_two_gateways_without_a_bus_say_what_is_missing(stage: Stage, gateway_kube: Kube) -> None:
    """One gateway says nothing. A second one is seen by its Lease, told plainly once, and forgotten when it ends."""
    clock = FakeClock()

    async def sees(gateway: Running, other: str) -> bool:
        await clock.advance(LOOK_SECONDS)
        return other in gateway.gateway.bus._siblings._others  # type: ignore[attr-defined]

    with structlog.testing.capture_logs() as logged:
        async with running(gateway_kube, clock) as one:
            for _ in range(3):
                await clock.advance(LOOK_SECONDS)
            assert one.gateway.bus.state() is None
            async with running(gateway_kube, clock) as two:
                await eventually(lambda: sees(one, two.identity))
                for _ in range(3):
                    # Renewed between two looks: else it would be taken for gone, and told anew.
                    before = clock.monotonic()
                    await clock.advance(LOOK_SECONDS / 2)
                    await eventually(lambda: two.gateway.leasing._renewed_at > before)  # noqa: B023
                    await clock.advance(LOOK_SECONDS / 2)
                said = "two gateways run and bus.url is not set: broadcasts reach only sockets of the gateway they are"
                assert said in str(one.gateway.bus.state())
                assert said in (await fetch(f"{one.url}/readyz"))[1]
                metrics = (await fetch(f"{one.url}/metrics"))[1]
                assert "belay_gateway_unreached_gateways 1.0" in metrics
                assert "belay_gateway_bus_connected" not in metrics
                mine = [line for line in logged if two.identity in line.get("others", ())]
                assert [said in line["event"] for line in mine] == [True]

            async def forgotten() -> bool:
                await clock.advance(LOOK_SECONDS)
                return one.gateway.bus.state() is None

            await eventually(forgotten)


async def test_C3_token_of_the_bus(stage: Stage, gateway_kube: Kube, tmp_path: Path) -> None:
    """NATS asks for a token: the file has it, a wrong one is said without it, and a new one needs no restart."""
    file = tmp_path / "token"
    file.write_text("wrong-s3cret\n")
    async with (
        nats_server(tmp_path, "--auth", "right-s3cret") as nats,
        running(gateway_kube, SystemClock(), bus_url=nats.url, bus_token_file=file) as gateway,
    ):
        bus = gateway.gateway.bus
        await eventually(lambda: "uthorization" in str(bus.state()))
        assert "s3cret" not in str(bus.state())
        file.write_text("right-s3cret\n")
        await eventually(lambda: bus.state() is None)


def test_password_of_the_bus_is_not_repeated() -> None:
    """Neither where settings are shown nor where they are refused."""
    assert "hunter2" not in repr(Settings(bus_url="nats://me:hunter2@host:4222"))
    with pytest.raises(ValidationError) as caught:
        Settings(bus_url="http://me:hunter2@host:4222")
    assert "BELAY_BUS_URL is not of the form nats://" in str(caught.value.errors()[0]["msg"])
    assert [e["loc"] for e in caught.value.errors()] == [()]
    assert Settings(bus_url="").bus_url is None


def test_missing_extra_is_told() -> None:
    """A bus is configured and nats-py isn't installed: one line that says what to install."""
    code = (
        "import sys; sys.modules['nats'] = None\n"
        "from belay_gateway.bus import bus_for\n"
        "from belay_gateway.settings import Settings\n"
        "from belay_kube.process import StartupError\n"
        "try: bus_for(Settings(bus_url='nats://host'), None, None, None)\n"
        "except StartupError as error: print(error)\n"
        "else: raise SystemExit('not refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "BELAY_BUS_URL is set but nats-py isn't installed: in Belay's checkout, pip install '.[bus]'" in done.stdout
