"""Fixtures of the tests of providers."""

from collections.abc import AsyncIterator

import pytest

from belay_kube.clock import FakeClock
from belay_operator.drain.llm.anthropic_provider import AnthropicProvider
from belay_operator.drain.llm.echo import EchoProvider
from llmserver import LlmServer, llm_server

KEY = "sk-ant-secret"


@pytest.fixture
def clock() -> FakeClock:
    """Time that the test moves."""
    return FakeClock()


@pytest.fixture
async def llm() -> AsyncIterator[LlmServer]:
    """A server that speaks the Messages API."""
    async with llm_server() as server:
        yield server


@pytest.fixture
async def provider(llm: LlmServer, clock: FakeClock) -> AsyncIterator[AnthropicProvider]:
    """The real SDK, against that server."""
    made = AnthropicProvider(KEY, llm.url, clock)
    yield made
    await made.close()


@pytest.fixture
def echo(clock: FakeClock) -> EchoProvider:
    """The model that needs nothing."""
    return EchoProvider(clock)
