"""The graceful end, in this process and as a process of its own."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from belay_dev.controlplane import ControlPlane
from belay_gateway.auth import Bearer, User
from belay_gateway.main import longest_end
from belay_gateway.settings import Settings
from belay_kube.client import LEASES, Kube
from belay_kube.clock import FakeClock, SystemClock
from gateway.peer import dialer, identifier
from gateway.stage import Running, Stage, fetch, running
from installation import NAMESPACE
from waiting import eventually

Start = Callable[..., Coroutine[Any, Any, Process]]


async def test_P7_graceful_end_marks_rows_and_releases_the_lease(stage: Stage, gateway_kube: Kube) -> None:
    """Peers are told to come back, a write under way is finished, rows say GatewayShutdown, the Lease is free."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    async with running(gateway_kube, SystemClock()) as gateway:
        peers = [await gateway.dialer.dial(token) for _ in range(20)]
        for n, peer in enumerate(peers):
            await peer.subscribe(agent, f"s{n}")
        await stage.offered("d", "a")
        text = identifier(agent_id=agent, session_id="s0")
        await peers[0].hears("dispatch", name="d")
        await peers[0].start(text, "complete", name="d", attempt=1, result={"text": "x"})
        await peers[0].act(text, "heartbeat", name="x", attempt=1)
        lease = await stage.admin.get(LEASES, NAMESPACE, gateway.identity)
        assert lease["spec"]["holderIdentity"] == gateway.identity
        await gateway.stop()
        for n, peer in enumerate(peers):
            frame = await peer.disconnected()
            assert (frame["reason"], frame["reconnect"]) == ("server_restart", True)
            row = await stage.row("a", f"s{n}")
            assert row
            assert (row["status"]["phase"], row["status"]["reason"]) == ("Disconnected", "GatewayShutdown")
        assert not (await stage.admin.get(LEASES, NAMESPACE, gateway.identity))["spec"].get("holderIdentity")
        assert (await stage.status("d"))["phase"] == "Completed"


async def test_P7_no_new_socket_while_it_ends(stage: Stage, gateway: Running) -> None:
    """From the first moment of the end on, it is not ready and opens no socket."""
    await gateway.gateway.endpoint.drain(1)
    assert (await fetch(f"{gateway.url}/cable"))[0] == 503
    status, text = await fetch(f"{gateway.url}/readyz")
    assert (status, text) == (503, "shutting down\n")


async def test_P7_peers_are_sent_away_one_after_another(stage: Stage, gateway_kube: Kube) -> None:
    """Over the seconds that are set: told all at once they would all come back at once."""
    token, clock = await stage.person("alice"), FakeClock()
    async with running(gateway_kube, clock, drain_seconds=4) as gateway:
        peers = [await gateway.dialer.dial(token) for _ in range(4)]
        draining = asyncio.ensure_future(gateway.gateway.endpoint.drain(1, 4))
        for told in (1, 2, 3, 4):
            await eventually(lambda told=told: sum(peer.ws.closed for peer in peers) == told)  # type: ignore[misc]
            assert await fetch(f"{gateway.url}/readyz") == (503, "shutting down\n")
            await clock.advance(1)
        await draining


async def test_P7_nobody_is_waited_for_who_left_by_himself(stage: Stage, gateway_kube: Kube) -> None:
    """The end is spread over seconds only as long as there is somebody to tell."""
    token = await stage.person("alice")
    async with running(gateway_kube, FakeClock()) as gateway:
        peers = [await gateway.dialer.dial(token) for _ in range(4)]
        draining = asyncio.ensure_future(gateway.gateway.endpoint.drain(1, 300))
        await asyncio.gather(*(peer.ws.close() for peer in peers))
        await asyncio.wait_for(draining, 20)


async def test_P7_socket_that_comes_in_during_the_end_is_told(stage: Stage, gateway: Running) -> None:
    """Its token was still being reviewed when the end began: it is told at once, and attaches to nothing."""
    token = await stage.person("alice")
    authenticator = gateway.gateway.endpoint._authenticator
    real, asked, gate = authenticator.user, asyncio.Event(), asyncio.Event()

    async def slowly(bearer: Bearer) -> User | None:
        asked.set()
        await gate.wait()
        return await real(bearer)

    authenticator.user = slowly  # type: ignore[method-assign]
    dialing = asyncio.ensure_future(gateway.dialer.dial(token))
    await asked.wait()
    await gateway.gateway.endpoint.drain(1)
    gate.set()
    frame = await (await dialing).disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("server_restart", True)


async def test_P7_peers_are_sent_away_once(stage: Stage, gateway_kube: Kube) -> None:
    """The program sends them away while it still listens, its end does it again: that waits for the same."""
    with structlog.testing.capture_logs() as logged:
        async with running(gateway_kube, SystemClock(), shutdown_seconds=1) as gateway:
            gateway.gateway.endpoint._empty.clear()  # as with a socket that never closes
            await gateway.gateway.send_away()
            await gateway.gateway.send_away()
            await gateway.stop()
    assert [line["event"] for line in logged].count("sockets still open at the end") == 1


async def test_P7_the_end_has_one_deadline(stage: Stage, gateway_kube: Kube) -> None:
    """Writes get what the sockets left of it, not the whole time once more."""
    clock = FakeClock()
    with structlog.testing.capture_logs() as logged:
        async with running(gateway_kube, clock, shutdown_seconds=300) as gateway:
            gateway.gateway.tasks.spawn(asyncio.Event().wait(), "a write that never ends")
            await gateway.gateway.send_away()
            await clock.advance(300)
            await asyncio.wait_for(gateway.stop(), 60)
    assert [line["count"] for line in logged if line["event"] == "writes still under way at the end"] == [1]


def test_P7_the_whole_end_is_shorter_than_kubernetes_waits() -> None:
    """With the settings' defaults: after 30 seconds it would be killed, and its Lease not released."""
    assert longest_end(Settings()) - Settings().drain_seconds <= 20
    assert longest_end(Settings()) < 30


async def test_P7_background_work_that_ends_fails_the_probe(stage: Stage, gateway: Running) -> None:
    """A reader whose sink raises is gone for ever: the process says so, and is started anew."""

    def broken(_: object) -> None:
        raise RuntimeError("out of a test")

    gateway.gateway.offers.changed = broken  # type: ignore[assignment,method-assign]
    await stage.agent("a")
    await stage.offered("d", "a")
    await asyncio.wait_for(gateway.gateway.health.broken.wait(), 20)
    status, text = await fetch(f"{gateway.url}/healthz")
    assert (status, "reader of offers ended" in text, "out of a test" in text) == (503, True, True)


async def test_P7_topic_reader_that_ends_fails_the_probe(stage: Stage, gateway: Running) -> None:
    """A namespace's listeners would hear nothing any more."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    own = identifier(topic_id=f"{stage.namespace}/session/a/s1")
    assert (await peer.asks(own))["type"] == "confirm_subscription"

    def broken(_: object) -> None:
        raise RuntimeError("out of a test")

    gateway.gateway.topics.namespaces.running[stage.namespace].sink.changed = broken  # type: ignore[assignment,method-assign]
    await stage.delegation("d", "a")
    await asyncio.wait_for(gateway.gateway.health.broken.wait(), 20)
    assert "reader of topics" in (await fetch(f"{gateway.url}/healthz"))[1]


@pytest.fixture
async def start(installed: ControlPlane, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the gateway's program with its own account; ends what still runs."""
    account = await asyncio.to_thread(
        installed.service_account_kubeconfig, NAMESPACE, "belay-gateway", tmp_path / "kubeconfig"
    )
    started: list[Process] = []

    async def run(*flags: str, **environment: str) -> Process:
        given = {"KUBECONFIG": str(account), "PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "belay_gateway.main", *flags, env=given | environment, stdout=PIPE, stderr=PIPE
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_P7_process_ends_gracefully_at_sigterm(stage: Stage, start: Start) -> None:
    """Announced in one line of JSON; at SIGTERM peers are told and it exits with 0."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    process = await start("--port", "0", "--announce", "--log-format", "json")
    assert process.stdout
    announced = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    assert announced["ready"] is True
    async with dialer(announced["url"]) as dialing:
        peer = await dialing.dial(token)
        await peer.subscribe(agent, "s1")
        process.send_signal(signal.SIGTERM)
        assert (await peer.disconnected())["reason"] == "server_restart"
        _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, said.decode()
    await stage.row_is("a", "s1", "Disconnected", "GatewayShutdown")
    assert b"Traceback" not in said
    assert token.encode() not in said


async def _fails(process: Process, code: int) -> str:
    """The one line that it ends with; before it, it says its settings at most."""
    out, said = await asyncio.wait_for(process.communicate(), 60)
    *before, line = said.decode().strip().splitlines()
    assert (process.returncode, out) == (code, b""), said.decode()
    assert len(before) <= 1, said.decode()
    assert all(" settings " in each for each in before), said.decode()
    return line


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("BELAY_PORT", "abc", "must be a whole number from 0 to 65535"),
        ("BELAY_PORT", "65536", "must be a whole number from 0 to 65535"),
        ("BELAY_HEARTBEAT_SECONDS", "0", "must be a whole number from 1 to 3600"),
        ("BELAY_HEARTBEAT_SECONDS", "1_0", "must be a whole number from 1 to 3600"),
        ("BELAY_LOG_FORMAT", "xml", "console"),
        ("BELAY_STALE_AFTER_SECONDS", "20", "at least 2 x BELAY_HEARTBEAT_SECONDS"),
    ],
)
async def test_wrong_settings_are_refused_in_one_line(start: Start, name: str, value: str, allowed: str) -> None:
    """Named, with what is allowed."""
    line = await _fails(await start(**{name: value}), 2)
    assert name in line
    assert allowed in line


async def test_taken_port_is_named_in_one_line(start: Start, gateway: Running) -> None:
    """And nothing is announced."""
    port = gateway.url.rsplit(":", 1)[1]
    process = await start("--port", port, "--announce", "--log-format", "json")
    out, said = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (1, b"")
    assert f"can't listen on 127.0.0.1:{port}: address already in use" in said.decode().lower()
    assert b"Traceback" not in said


async def test_unreachable_api_server_is_named_in_one_line(start: Start, tmp_path: Path, gateway: Running) -> None:
    """As it is when the address is wrong or the cluster is down."""
    config = tmp_path / "nowhere"
    config.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    assert "can't be reached" in await _fails(await start("--kubeconfig", str(config)), 1)
    assert "KUBECONFIG" in await _fails(await start("--kubeconfig", str(tmp_path / "missing")), 1)


async def test_missing_permission_is_named_in_one_line(
    stage: Stage, start: Start, installed: ControlPlane, tmp_path: Path
) -> None:
    """An account that may only read is told what it lacks."""
    who = f"--serviceaccount={stage.namespace}:weak"
    await stage.person("weak")
    await asyncio.to_thread(
        installed.kubectl, "create", "clusterrolebinding", f"weak-{stage.namespace}", "--clusterrole=view", who
    )
    weak = await asyncio.to_thread(installed.service_account_kubeconfig, stage.namespace, "weak", tmp_path / "weak")
    line = await _fails(await start("--kubeconfig", str(weak)), 1)
    assert "missing permission: " in line
    assert "patch delegations/status (belay.dev)" in line
