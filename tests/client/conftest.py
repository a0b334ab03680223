"""Fixtures of the client's tests."""

from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from belay_client import AgentChannel, Backoff
from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, Kube
from client.belay_command import Said, belay, start_on
from client.cable_server import CableServer, cable_server
from client.chat_process import Run, Talk, Talking
from client.played_drain import MODEL, PlayedDrain
from crds_cases import agent

Open = Callable[..., AgentChannel]


@pytest.fixture
async def server() -> AsyncIterator[CableServer]:
    """A gateway's cable end that accepts everything."""
    async with cable_server() as running:
        yield running


@pytest.fixture
def channel(server: CableServer) -> Open:
    """Makes channels to the server that reconnect at once."""

    def make(**changes: Any) -> AgentChannel:
        known: dict[str, Any] = {
            "agent": "default/a",
            "token": "secret",
            "session_id": "s1",
            "backoff": Backoff(base=0.0),
        }
        return AgentChannel(server.url, **(known | changes))

    return make


# --- `belay chat` ---


@pytest.fixture
def environment(installed: ControlPlane) -> dict[str, Any]:
    """The administrator's."""
    return {"KUBECONFIG": str(installed.kubeconfig)}


@pytest.fixture
def run(environment: dict[str, Any], namespace: str) -> Run:
    """Runs `belay chat` of the administrator in the test's namespace."""

    async def run_belay(*arguments: str, stdin: bytes = b"", **more: Any) -> Said:
        return await belay("chat", *arguments, "-n", namespace, stdin=stdin, **{**environment, **more})

    return run_belay


@pytest.fixture
async def drain(admin_kube: Kube, operator_kube: Kube, namespace: str) -> PlayedDrain:
    """Plays the operator for agent `m`, of runtime Model."""
    await admin_kube.create(AGENTS, namespace, agent("m", **MODEL))
    return PlayedDrain(operator_kube, namespace)


@pytest.fixture
def talk(environment: dict[str, Any], namespace: str) -> Talk:
    """Starts `belay chat m` with more arguments; one that a failing test leaves behind is killed."""

    @asynccontextmanager
    async def talking(*arguments: str, stdin: int = PIPE) -> AsyncIterator[Talking]:
        process = await start_on(stdin, PIPE, "chat", "m", *arguments, "-n", namespace, **environment)
        try:
            yield Talking(process)
        finally:
            if process.returncode is None:
                process.kill()

    return talking
