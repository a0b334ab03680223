"""Fixtures of the client's tests."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from belay_client import AgentChannel, Backoff
from client.cable_server import CableServer, cable_server

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
