"""The providers there are, by name; each (provider, address, key) is made once and kept while it's used."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from belay_api.reasons import SessionReason
from belay_kube.clock import Clock
from belay_operator.drain.llm.base import Provider, Rejected, Unauthenticated
from belay_operator.drain.llm.echo import EchoProvider

ANTHROPIC = "anthropic"
ECHO = "echo"

_KEPT = 32
_Key = tuple[str, str | None, str | None]
_Make = Callable[[str | None, str | None, Clock], Awaitable[Provider]]


@dataclass
class _Kept:
    provider: Provider
    users: int = 0
    retired: bool = False


class Providers:
    """The `kept` providers used last; what is evicted is closed once its last user is done."""

    def __init__(self, clock: Clock, kept: int = _KEPT) -> None:
        self._clock = clock
        self._most = kept
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._making = asyncio.Lock()

    @asynccontextmanager
    async def use(self, name: str, base_url: str | None, api_key: str | None) -> AsyncIterator[Provider]:
        """The provider of that name, with this key at this address. Raises Rejected for a name that there isn't or an
        address that is none, Unauthenticated for a key that is missing or is none."""
        kept = await self._take(name, base_url or None, (api_key or "").strip() or None)
        try:
            yield kept.provider
        finally:
            kept.users -= 1
            await self._close_if_done(kept)

    async def close(self) -> None:
        """Let all go; those in use once they are done."""
        async with self._making:
            while self._kept:
                await self._evict_oldest()

    async def _take(self, name: str, base_url: str | None, api_key: str | None) -> _Kept:
        """One more user; nobody waits for the making of another provider but who needs a new one as well."""
        key = (name, base_url, api_key and hashlib.sha256(api_key.encode("utf-8", "replace")).hexdigest())
        if key in self._kept:
            return self._taken(key)
        async with self._making:
            if key not in self._kept:
                self._kept[key] = _Kept(await _maker(name)(api_key, base_url, self._clock))
            while len(self._kept) > self._most:
                await self._evict_oldest()
            return self._taken(key)

    def _taken(self, key: _Key) -> _Kept:
        kept = self._kept[key]
        kept.users += 1
        self._kept.move_to_end(key)
        return kept

    async def _evict_oldest(self) -> None:
        _, kept = self._kept.popitem(last=False)
        kept.retired = True
        await self._close_if_done(kept)

    async def _close_if_done(self, kept: _Kept) -> None:
        if kept.retired and not kept.users:
            await kept.provider.close()


def _maker(name: str) -> _Make:
    if name not in _MAKERS:
        known = ", ".join(sorted(_MAKERS))
        raise Rejected(
            f"spec.model.provider {name!r} isn't one of those there are: {known}", SessionReason.PROVIDER_UNKNOWN
        )
    return _MAKERS[name]


async def _anthropic(api_key: str | None, base_url: str | None, clock: Clock) -> Provider:
    """In a thread: the first import takes seconds, and each client reads the certificates of the machine."""
    if not api_key:
        raise Unauthenticated(
            "provider anthropic needs an API key: name its Secret in spec.model.apiKeySecretRef",
            SessionReason.KEY_MISSING,
        )
    return await asyncio.to_thread(_make_anthropic, api_key, base_url, clock)


def _make_anthropic(api_key: str, base_url: str | None, clock: Clock) -> Provider:
    from belay_operator.drain.llm.anthropic_provider import AnthropicProvider

    return AnthropicProvider(api_key, base_url, clock)


async def _echo(_api_key: str | None, _base_url: str | None, clock: Clock) -> Provider:
    return EchoProvider(clock)


_MAKERS: dict[str, _Make] = {ANTHROPIC: _anthropic, ECHO: _echo}
