"""Which providers there are, how long each is kept, and what they need."""

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from belay_api.reasons import SessionReason
from belay_kube.clock import FakeClock
from belay_operator.drain.llm.base import Passing, Provider, Rejected, Unauthenticated
from belay_operator.drain.llm.providers import ANTHROPIC, ECHO, Providers
from llmserver import LlmServer

from .conftest import KEY
from .prompts import answered, failure, words


@pytest.fixture
async def providers(clock: FakeClock) -> AsyncIterator[Providers]:
    """Two are kept."""
    made = Providers(clock, kept=2)
    yield made
    await made.close()


async def found(providers: Providers, url: str, key: str) -> Provider:
    """That provider, used and given back."""
    async with providers.use(ANTHROPIC, url, key) as provider:
        return provider


async def is_closed(provider: Provider) -> bool:
    """Whether it has let its connections go."""
    error = await failure(provider)
    assert isinstance(error, Passing)
    return "closed" in error.message


async def test_echo_needs_nothing(providers: Providers) -> None:
    """It's the default that works without a key."""
    async with providers.use(ECHO, None, None) as provider:
        assert words(await answered(provider, "hello")) == "hello"


async def test_anthropic_with_a_key(providers: Providers, llm: LlmServer) -> None:
    """At the address given; what stands around a key in a Secret is no part of it."""
    async with providers.use(ANTHROPIC, llm.url, f" {KEY}\n") as provider:
        assert words(await answered(provider)) == "ok"
    assert llm.requests[0].key == KEY


@pytest.mark.parametrize("key", [None, "", " \n"])
async def test_L11_a_key_that_is_missing(providers: Providers, key: str | None) -> None:
    """It says where to name it."""
    with pytest.raises(Unauthenticated, match="apiKeySecretRef") as caught:
        async with providers.use(ANTHROPIC, None, key):
            pass
    assert caught.value.reason == SessionReason.KEY_MISSING


@pytest.mark.parametrize("name", ["openai", "", "Anthropic"])
async def test_L10_a_provider_that_there_is_not(providers: Providers, name: str) -> None:
    """It names those there are."""
    with pytest.raises(Rejected, match="anthropic, echo") as caught:
        async with providers.use(name, None, KEY):
            pass
    assert caught.value.reason == SessionReason.PROVIDER_UNKNOWN


async def test_L10_an_address_that_is_none(providers: Providers) -> None:
    """Nothing is kept of it."""
    for _ in range(2):
        with pytest.raises(Rejected, match="baseURL"):
            async with providers.use(ANTHROPIC, "nowhere", KEY):
                pass


async def test_one_for_each_key_and_address(providers: Providers, llm: LlmServer) -> None:
    """The same again, as long as it's kept."""
    first = await found(providers, llm.url, "one")
    assert await found(providers, llm.url, "one") is first
    assert await found(providers, llm.url, "two") is not first
    assert await found(providers, "http://127.0.0.1:1", "one") is not first


async def test_what_was_used_last_is_kept(providers: Providers, llm: LlmServer) -> None:
    """The one used longest ago is closed."""
    first, second = await found(providers, llm.url, "one"), await found(providers, llm.url, "two")
    await found(providers, llm.url, "one")
    await found(providers, llm.url, "three")
    assert await found(providers, llm.url, "one") is first
    assert await is_closed(second)
    assert words(await answered(first)) == "ok"


async def test_what_is_evicted_is_closed_once_its_last_user_is_done(providers: Providers, llm: LlmServer) -> None:
    """Nobody's call is cut short by another's."""
    async with providers.use(ANTHROPIC, llm.url, "one") as first:
        await found(providers, llm.url, "two")
        await found(providers, llm.url, "three")
        assert words(await answered(first)) == "ok"
    assert await is_closed(first)


async def test_closing_lets_all_go(clock: FakeClock, llm: LlmServer) -> None:
    """Those in use once they are done."""
    providers = Providers(clock)
    idle = await found(providers, llm.url, "one")
    async with providers.use(ANTHROPIC, llm.url, "two") as used:
        await providers.close()
        assert words(await answered(used)) == "ok"
    assert await is_closed(idle)
    assert await is_closed(used)


def test_the_sdk_is_imported_at_its_first_use_alone() -> None:
    """It takes seconds and memory that those who use echo don't pay."""
    code = "import sys; import belay_operator.drain.llm.providers; print('anthropic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
