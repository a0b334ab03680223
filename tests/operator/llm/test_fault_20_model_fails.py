"""Fault 20 at the provider: whatever goes wrong, the drain is told what to do about it, and why (L10, L11, L12)."""

import asyncio
import tracemalloc
from datetime import timedelta
from email.utils import format_datetime

import pytest

from belay_api.reasons import SessionReason
from belay_kube.clock import FakeClock
from belay_operator.drain.llm.anthropic_errors import MOST_RETRY_AFTER
from belay_operator.drain.llm.anthropic_provider import AnthropicProvider
from belay_operator.drain.llm.base import LlmError, Passing, Rejected, Unauthenticated
from llmanswers import (
    Behaviour,
    Slowly,
    cuts,
    ends_early,
    errs,
    fails,
    falls_silent,
    hangs,
    pings_for_ever,
    responds,
    says,
    says_for_ever,
    streams,
)
from llmserver import LlmServer

from .conftest import KEY
from .prompts import answered, failure, prompt, unheard, words

SHORT = 0.3
"""Seconds that a test waits for what never comes."""


async def failed(provider: AnthropicProvider, llm: LlmServer, behaviour: Behaviour, timeout: float = 30) -> LlmError:
    """What becomes of a call that is treated so; after it, the next is answered as if nothing had been."""
    llm.will(behaviour, says("next"))
    error = await failure(provider, timeout=timeout)
    assert words(await answered(provider)) == "next"
    assert len(llm.requests) == 2, "providers never retry"
    return error


@pytest.mark.parametrize(
    ("behaviour", "family", "reason"),
    [
        pytest.param(fails(400), Rejected, SessionReason.REJECTED, id="400"),
        pytest.param(fails(402), Rejected, SessionReason.REJECTED, id="402"),
        pytest.param(fails(404), Rejected, SessionReason.REJECTED, id="404"),
        pytest.param(fails(413), Rejected, SessionReason.REJECTED, id="413"),
        pytest.param(fails(422), Rejected, SessionReason.REJECTED, id="422"),
        pytest.param(fails(408), Passing, SessionReason.UNREACHABLE, id="408"),
        pytest.param(fails(409), Passing, SessionReason.UNREACHABLE, id="409"),
        pytest.param(fails(429), Passing, SessionReason.OVERLOADED, id="429"),
        pytest.param(fails(500), Passing, SessionReason.UNREACHABLE, id="500"),
        pytest.param(fails(502), Passing, SessionReason.UNREACHABLE, id="502"),
        pytest.param(fails(503), Passing, SessionReason.OVERLOADED, id="503"),
        pytest.param(fails(529), Passing, SessionReason.OVERLOADED, id="529"),
        pytest.param(errs("overloaded_error"), Passing, SessionReason.OVERLOADED, id="overloaded within the stream"),
        pytest.param(errs("rate_limit_error"), Passing, SessionReason.OVERLOADED, id="limited within the stream"),
        pytest.param(errs("api_error"), Passing, SessionReason.UNREACHABLE, id="broken within the stream"),
        pytest.param(errs("of_tomorrow"), Passing, SessionReason.UNREACHABLE, id="unknown within the stream"),
        pytest.param(errs("invalid_request_error"), Rejected, SessionReason.REJECTED, id="refused within the stream"),
        pytest.param(cuts(), Passing, SessionReason.UNREACHABLE, id="connection breaks"),
        pytest.param(ends_early(), Passing, SessionReason.UNREACHABLE, id="stream ends before the answer"),
        pytest.param(
            responds(200, "<html>", {"content-type": "text/html"}), Rejected, SessionReason.REJECTED, id="a web page"
        ),
        pytest.param(
            responds(307, "", {"location": "http://127.0.0.1:1/"}), Rejected, SessionReason.REJECTED, id="elsewhere"
        ),
        pytest.param(
            streams("event: content_block_delta\ndata: {not JSON\n\n"), Rejected, SessionReason.REJECTED, id="no JSON"
        ),
        pytest.param(
            streams('event: message_start\ndata: {"type": "message_start"}\n\n'),
            Rejected,
            SessionReason.REJECTED,
            id="no message",
        ),
        pytest.param(streams("event: ping2\ndata: 5\n\n"), Rejected, SessionReason.REJECTED, id="a number"),
    ],
)
async def test_fault_20_L12_each_failure_is_of_its_family(
    provider: AnthropicProvider, llm: LlmServer, behaviour: Behaviour, family: type[LlmError], reason: SessionReason
) -> None:
    """Passing is tried again, Rejected isn't; the message names the model and who answered."""
    error = await failed(provider, llm, behaviour)
    assert (type(error), error.reason) == (family, reason)
    assert error.message.startswith("m at 127.0.0.1:")


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(fails(401), id="401"),
        pytest.param(fails(403), id="403"),
        pytest.param(errs("authentication_error"), id="within the stream"),
        pytest.param(errs("permission_error"), id="not permitted within the stream"),
    ],
)
async def test_fault_20_L11_a_key_that_is_not_accepted(
    provider: AnthropicProvider, llm: LlmServer, behaviour: Behaviour
) -> None:
    """401 and 403 are not passing."""
    error = await failed(provider, llm, behaviour)
    assert (type(error), error.reason) == (Unauthenticated, SessionReason.AUTHENTICATION_FAILED)


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(hangs(), id="hangs"),
        pytest.param(falls_silent(), id="falls silent"),
        pytest.param(pings_for_ever(), id="pings for ever"),
        pytest.param(Slowly("never released"), id="never goes on"),
    ],
)
async def test_fault_20_L12_what_never_ends_is_given_up(
    provider: AnthropicProvider, llm: LlmServer, behaviour: Behaviour
) -> None:
    """By the prompt's timeout at the latest, and the connection is let go."""
    error = await failed(provider, llm, behaviour, timeout=SHORT)
    assert (type(error), error.reason) == (Passing, SessionReason.UNREACHABLE)
    await llm.requests[0].over.wait()
    assert llm.requests[0].abandoned


EVENTS = {"content-type": "text/event-stream"}
PAGE = {"content-type": "text/html"}
FLOODS = {
    "an error": (says_for_ever(404, "no such page " * 5000, PAGE), Rejected),
    "a passing error": (says_for_ever(502, "no such page " * 5000, PAGE), Passing),
    "an error, compressed": (says_for_ever(404, "no such page " * 5000, {"content-encoding": "gzip"}), Rejected),
    "elsewhere": (says_for_ever(307, "see " * 16384, {"location": "http://127.0.0.1:1/"}), Rejected),
    "an event": (says_for_ever(200, "x" * 65536, EVENTS), Passing),
    "an event of many lines": (says_for_ever(200, "data: x\n" * 100, EVENTS), Passing),
    "an answer, compressed": (says_for_ever(200, "x" * 65536, EVENTS | {"content-encoding": "gzip"}), Passing),
}


@pytest.mark.parametrize(("behaviour", "family"), FLOODS.values(), ids=FLOODS)
async def test_fault_20_L12_what_is_said_without_end_is_not_kept(
    provider: AnthropicProvider, llm: LlmServer, behaviour: Behaviour, family: type[LlmError]
) -> None:
    """Long before the prompt's timeout, which nothing here waits for; little memory is taken, the connection is let
    go, and a status still says what to do."""
    tracemalloc.start()
    try:
        error = await failed(provider, llm, behaviour, timeout=3600)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert type(error) is family
    assert most < 16 * 1024 * 1024
    await llm.requests[0].over.wait()
    assert llm.requests[0].abandoned


async def test_fault_20_L12_nobody_listens(clock: FakeClock) -> None:
    """A refused connection is passing."""
    provider = AnthropicProvider(KEY, "http://127.0.0.1:1", clock)
    error = await failure(provider)
    assert (type(error), error.reason) == (Passing, SessionReason.UNREACHABLE)
    await provider.close()


async def test_fault_20_L17_a_call_that_is_cancelled_lets_the_connection_go(
    provider: AnthropicProvider, llm: LlmServer
) -> None:
    """Cancelling the task is how the drain cuts a call short."""
    slowly = Slowly("one", "two")
    llm.will(slowly)
    call = asyncio.create_task(provider.answer(prompt(), unheard))
    await slowly.begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await llm.requests[0].over.wait()
    assert llm.requests[0].abandoned


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        pytest.param("7", 7, id="seconds"),
        pytest.param("0.5", 0.5, id="a part of a second"),
        pytest.param("86400", MOST_RETRY_AFTER, id="a day"),
        pytest.param("-3", 0, id="less than nothing"),
        pytest.param("nan", None, id="no number"),
        pytest.param("soon", None, id="a word"),
        pytest.param("", None, id="nothing"),
        pytest.param(None, None, id="no header"),
    ],
)
@pytest.mark.parametrize("status", [429, 529, 500])
async def test_fault_20_L12_retry_after(
    provider: AnthropicProvider, llm: LlmServer, status: int, given: str | None, seconds: float | None
) -> None:
    """Told to the drain in seconds, within bounds."""
    llm.will(fails(status, retry_after=given))
    error = await failure(provider)
    assert isinstance(error, Passing)
    assert error.retry_after == seconds


async def test_fault_20_L12_retry_after_as_a_date(
    provider: AnthropicProvider, llm: LlmServer, clock: FakeClock
) -> None:
    """By our clock."""
    llm.will(fails(429, retry_after=format_datetime(clock.now() + timedelta(seconds=42), usegmt=True)))
    error = await failure(provider)
    assert isinstance(error, Passing)
    assert error.retry_after == 42


async def test_fault_20_what_the_provider_said_is_shown_and_the_key_never(
    provider: AnthropicProvider, llm: LlmServer
) -> None:
    """In one line of bounded length, also when the provider repeats the key."""
    llm.will(fails(400, message=f"your key {KEY}\nis\x00 not " + "good " * 1000))
    message = (await failure(provider)).message
    assert "answered 400: your key *** is not good" in message
    assert KEY not in message
    assert len(message) <= 512
    assert message.isprintable()


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(fails(400, message="x" * 10_000), id="a message"),
        pytest.param(errs("api_error", "x" * 10_000), id="a message within the stream"),
        pytest.param(responds(400, "x" * 10_000, {}), id="a body that is not of the API"),
    ],
)
async def test_fault_20_little_is_repeated_of_what_the_provider_said(
    provider: AnthropicProvider, llm: LlmServer, behaviour: Behaviour
) -> None:
    """Whoever answers at an address writes so much into status and Events."""
    llm.will(behaviour)
    message = (await failure(provider)).message
    assert message.endswith("x" * 255 + "…")
    assert message.count("x") == 255


async def test_fault_20_a_key_is_blotted_out_before_anything_is_cut(
    provider: AnthropicProvider, llm: LlmServer
) -> None:
    """So that no half of it is left."""
    llm.will(fails(400, message="x" * 250 + KEY))
    assert (await failure(provider)).message.endswith("x" * 250 + "***")


async def test_fault_20_a_body_that_is_not_of_the_api_is_shown(provider: AnthropicProvider, llm: LlmServer) -> None:
    """So that a wrong address shows."""
    llm.will(responds(404, "no such page", {}))
    assert (await failure(provider)).message.endswith("answered 404: no such page")


async def test_fault_20_words_heard_before_a_failure_were_heard(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Progress shows them; the answer is not there."""
    heard: list[str] = []
    llm.will(cuts(after="half an answer"))
    with pytest.raises(Passing):
        await provider.answer(prompt(), heard.append)
    assert "".join(heard) == "half an answer"


@pytest.mark.parametrize("key", ["line\nbreak", "schlüssel"])
async def test_L11_a_key_that_can_be_none(key: str, clock: FakeClock) -> None:
    """It's said before anything is sent."""
    with pytest.raises(Unauthenticated) as caught:
        AnthropicProvider(key, None, clock)
    assert key not in caught.value.message


@pytest.mark.parametrize(
    "address", ["nowhere", "ftp://host", "http://", "http://[::1", "http://host:99999", "file:///x"]
)
async def test_L10_an_address_that_is_none(address: str, clock: FakeClock) -> None:
    """It's rejected when the provider is made."""
    with pytest.raises(Rejected, match=r"spec\.model\.baseURL"):
        AnthropicProvider(KEY, address, clock)
