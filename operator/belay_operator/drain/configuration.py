"""What a Model agent's calls are made with, read when it is used: the Agent, its key, its system prompt (L11).

The key is in nobody's memory but that of the provider's client; the operator may read a Secret only where whoever named
it granted that, by name (docs/model-agents.md).
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from belay_api.agent import Model
from belay_api.names import Ref
from belay_api.reasons import SessionReason
from belay_api.session_words import config_map_missing, key_missing, key_not_granted, provider_unknown
from belay_kube.client import Json
from belay_kube.errors import Forbidden
from belay_operator.decisions.window import DEFAULT_CONTEXT_TOKENS
from belay_operator.drain.llm.base import NotConfigured, Unauthenticated
from belay_operator.drain.llm.providers import ANTHROPIC, ECHO
from belay_operator.drain.store import Store

KNOWN = frozenset({ANTHROPIC, ECHO})
DEFAULT_MAX_TOKENS = 8192
DEFAULT_TIMEOUT_SECONDS = 600.0

Read = Callable[[Ref], Awaitable[Json | None]]
Signature = tuple[str, ...]
"""What a configuration rests on; another one may work where this one did not."""


@dataclass(frozen=True)
class Configuration:
    """Everything a call needs but the conversation."""

    provider: str
    model: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    system: str | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    context_tokens: int = DEFAULT_CONTEXT_TOKENS
    timeout: float = DEFAULT_TIMEOUT_SECONDS


class Configurations:
    """Reads them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, agent: Ref) -> Configuration:
        """What calls of `agent` are made with now. Raises NotConfigured, Unauthenticated, KubeError."""
        found = await self._store.agent(agent)
        model = _model(found)
        if found is None or model is None:
            raise NotConfigured(f"agent {agent} isn't there, or has no model", SessionReason.AGENT_MISSING)
        if model.provider not in KNOWN:
            raise NotConfigured(provider_unknown(model.provider, KNOWN), SessionReason.PROVIDER_UNKNOWN)
        return Configuration(
            provider=model.provider,
            model=model.name,
            base_url=model.base_url,
            api_key=await self._key(agent.namespace, model),
            system=await self._system(agent.namespace, model),
            max_tokens=model.max_tokens or DEFAULT_MAX_TOKENS,
            context_tokens=model.context_tokens or DEFAULT_CONTEXT_TOKENS,
            timeout=float(model.timeout_seconds or DEFAULT_TIMEOUT_SECONDS),
        )

    async def signature(self, agent: Ref) -> Signature:
        """What the configuration of `agent` rests on. Raises KubeError."""
        found = await self._store.agent(agent)
        model = _model(found)
        if found is None or model is None:
            return ("no agent",)
        secret = model.api_key_secret_ref
        parts = [f"{found['metadata']['uid']}/{found['metadata'].get('generation')}"]
        parts.append(await self._version(self._store.secret, agent.namespace, secret.name) if secret else "")
        system = model.system_from
        parts.append(await self._version(self._store.config_map, agent.namespace, system.name) if system else "")
        return tuple(parts)

    async def _version(self, read: Read, namespace: str, name: str) -> str:
        try:
            found = await read(Ref(namespace, name))
        except Forbidden:
            return "forbidden"
        return str(found["metadata"]["resourceVersion"]) if found else "missing"

    async def _key(self, namespace: str, model: Model) -> str | None:
        ref = model.api_key_secret_ref
        if ref is None:
            return None
        try:
            secret = await self._store.secret(Ref(namespace, ref.name))
        except Forbidden as error:
            raise Unauthenticated(key_not_granted(namespace, ref.name), SessionReason.KEY_MISSING) from error
        try:
            return base64.b64decode(((secret or {}).get("data") or {})[ref.key], validate=True).decode().strip()
        except (KeyError, binascii.Error, UnicodeDecodeError) as error:
            raise Unauthenticated(key_missing(namespace, ref.name, ref.key), SessionReason.KEY_MISSING) from error

    async def _system(self, namespace: str, model: Model) -> str | None:
        ref = model.system_from
        if ref is None:
            return model.system
        try:
            found = await self._store.config_map(Ref(namespace, ref.name))
        except Forbidden:
            found = None
        text = ((found or {}).get("data") or {}).get(ref.key)
        if not isinstance(text, str):
            raise NotConfigured(config_map_missing(namespace, ref.name, ref.key), SessionReason.SYSTEM_MISSING)
        return text


def _model(agent: Json | None) -> Model | None:
    given = ((agent or {}).get("spec") or {}).get("model")
    return Model.model_validate(given) if given else None
