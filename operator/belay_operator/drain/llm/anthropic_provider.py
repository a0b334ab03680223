"""Models behind the Messages API, by the anthropic SDK; its own retries are off, since ours are the drain's (L12).

Answers are streamed. What is silent for too long, what isn't over within the prompt's timeout, and what says too much
(`bounded`), is given up.
Importing this takes seconds and 80 MB, which only those who use it should pay: `Providers` does it at the first use.
"""

import asyncio
from urllib.parse import urlsplit

import anthropic
import httpx2

from belay_api.reasons import SessionReason
from belay_kube.clock import Clock
from belay_operator.drain.llm import anthropic_errors as errors
from belay_operator.drain.llm.anthropic_events import Reading
from belay_operator.drain.llm.anthropic_request import to_request
from belay_operator.drain.llm.base import Answer, Hear, Prompt, Rejected, Unauthenticated
from belay_operator.drain.llm.bounded import NO_COMPRESSION, bound

BASE_URL = "https://api.anthropic.com"

_CONNECT_SECONDS = 10.0
_SILENT_SECONDS = 120.0
"""A stream that goes on says something, a ping at least, far more often."""
_STREAM = "text/event-stream"
_SENSELESS = (AttributeError, TypeError, ValueError, RuntimeError)
"""What the SDK, and the reading of its events, raise for what isn't the Messages API."""


class AnthropicProvider:
    """One key at one address. Raises Rejected for an address that is none, Unauthenticated for a key that is none."""

    def __init__(self, api_key: str, base_url: str | None, clock: Clock) -> None:
        if not (api_key.isascii() and api_key.isprintable()):
            raise Unauthenticated(
                "the API key holds characters that no key has: check the Secret", SessionReason.AUTHENTICATION_FAILED
            )
        address = base_url or BASE_URL
        self._host = host_of(address)
        self._key = api_key
        self._clock = clock
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=address,
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(
                follow_redirects=False,  # the key is for this host alone
                headers=NO_COMPRESSION,
                event_hooks={"response": [bound]},
            ),
        )

    async def answer(self, prompt: Prompt, hear: Hear) -> Answer:
        """The model's answer; `hear` is told each piece of text as it comes. Raises LlmError."""
        asked = errors.Asked(prompt.model, self._host, self._key)
        try:
            async with asyncio.timeout(prompt.timeout):
                return await self._stream(prompt, hear, asked)
        except TimeoutError:
            raise errors.too_slow(prompt.timeout, asked) from None
        except anthropic.APIStatusError as error:
            raise errors.of_status(error, asked, self._clock.now()) from None
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            raise errors.unreachable(error, asked) from None
        except _SENSELESS as error:
            raise errors.senseless(type(error).__name__, asked) from error

    async def close(self) -> None:
        """Let connections go."""
        await self._client.close()

    async def _stream(self, prompt: Prompt, hear: Hear, asked: errors.Asked) -> Answer:
        reading = Reading(prompt, hear)
        asking = self._client.messages.create(**to_request(prompt), stream=True, timeout=_timeouts(prompt.timeout))
        async with await asking as stream:
            kind = stream.response.headers.get("content-type", "nothing")
            if not kind.startswith(_STREAM):
                raise errors.senseless(f"{kind} instead of {_STREAM}", asked)
            async for event in stream:
                reading.take(event)
                if reading.whole or reading.full:
                    return reading.answer()
        raise errors.broken_off(asked)


def host_of(address: str) -> str:
    """Host and port of an address, without what else it may hold. Raises Rejected when it isn't one of a server."""
    try:
        parts = urlsplit(str(httpx2.URL(address)))
        host, port = parts.hostname, parts.port
    except (ValueError, httpx2.InvalidURL):
        host = None
    if host and parts.scheme in ("http", "https"):
        return f"{host}:{port}" if port else host
    raise Rejected("spec.model.baseURL isn't the http(s) address of a server: correct it", SessionReason.REJECTED)


def _timeouts(whole: float) -> anthropic.Timeout:
    connect = min(_CONNECT_SECONDS, whole)
    return anthropic.Timeout(connect=connect, read=min(_SILENT_SECONDS, whole), write=connect, pool=connect)
