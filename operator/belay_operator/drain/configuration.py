"""What a Model agent's calls are made with: its key and its system prompt are read when they are used (L11), the Agent
when another generation of it was seen, as all that is decided of it rests on what was seen.

The key is in nobody's memory but that of the provider's client; the operator may read a Secret only where whoever named
it granted that, by name (docs/model-agents.md).
"""

import base64
import binascii
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from belay_api.agent import Model
from belay_api.names import Ref
from belay_api.reasons import SessionReason
from belay_api.session_words import config_map_missing, key_missing, key_not_granted, provider_unknown
from belay_kube.client import Json
from belay_kube.errors import Forbidden
from belay_operator.decisions.view import PROVIDERS
from belay_operator.decisions.window import DEFAULT_CONTEXT_TOKENS
from belay_operator.drain.llm.base import NotConfigured, Unauthenticated
from belay_operator.drain.store import Store
from belay_operator.observe.records import AgentRecord

DEFAULT_MAX_TOKENS = 8192
DEFAULT_TIMEOUT_SECONDS = 600.0
_KEPT_AGENTS = 100

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


@dataclass(frozen=True)
class Named:
    """An object that an Agent names: as it was read, or None when it isn't there, or nobody granted its reading."""

    obj: Json | None = field(default=None, repr=False)
    forbidden: bool = False

    @property
    def version(self) -> str:
        """What of it may become another."""
        if self.forbidden:
            return "forbidden"
        return str(self.obj["metadata"]["resourceVersion"]) if self.obj else "missing"


@dataclass(frozen=True)
class Found:
    """All that the configuration of an agent rests on, as it was read; `secret`, `system`: None where none is named."""

    agent: Ref
    obj: Json | None
    model: Model | None
    secret: Named | None = None
    system: Named | None = None

    @property
    def signature(self) -> Signature:
        """Another one for each other configuration."""
        meta = self.obj["metadata"] if self.obj else {}
        named = (part.version if part else "" for part in (self.secret, self.system))
        return (f"{meta.get('uid')}/{meta.get('generation')}", *named)

    def configuration(self) -> Configuration:
        """What calls are made with. Raises NotConfigured, Unauthenticated."""
        model = self.model
        if model is None:
            raise NotConfigured(f"agent {self.agent} isn't there, or has no model", SessionReason.AGENT_MISSING)
        if model.provider not in PROVIDERS:
            raise NotConfigured(provider_unknown(model.provider, PROVIDERS), SessionReason.PROVIDER_UNKNOWN)
        return Configuration(
            provider=model.provider,
            model=model.name,
            base_url=model.base_url,
            api_key=self._key(model),
            system=self._system(model),
            max_tokens=model.max_tokens or DEFAULT_MAX_TOKENS,
            context_tokens=model.context_tokens or DEFAULT_CONTEXT_TOKENS,
            timeout=float(model.timeout_seconds or DEFAULT_TIMEOUT_SECONDS),
        )

    def _key(self, model: Model) -> str | None:
        ref, namespace = model.api_key_secret_ref, self.agent.namespace
        if ref is None or self.secret is None:
            return None
        if self.secret.forbidden:
            raise Unauthenticated(key_not_granted(namespace, ref.name), SessionReason.KEY_MISSING)
        try:
            data = (self.secret.obj or {}).get("data") or {}
            return base64.b64decode(data[ref.key], validate=True).decode().strip()
        except (KeyError, binascii.Error, UnicodeDecodeError) as error:
            raise Unauthenticated(key_missing(namespace, ref.name, ref.key), SessionReason.KEY_MISSING) from error

    def _system(self, model: Model) -> str | None:
        ref = model.system_from
        if ref is None or self.system is None:
            return model.system
        text = ((self.system.obj or {}).get("data") or {}).get(ref.key)
        if not isinstance(text, str):
            missing = config_map_missing(self.agent.namespace, ref.name, ref.key)
            raise NotConfigured(missing, SessionReason.SYSTEM_MISSING)
        return text


class Configurations:
    """Reads them."""

    def __init__(self, store: Store, seen: Callable[[Ref], AgentRecord | None]) -> None:
        self._store = store
        self._seen = seen
        self._held: OrderedDict[Ref, tuple[Json, Model]] = OrderedDict()
        """Agents that were read last, and their models."""

    async def find(self, agent: Ref) -> Found:
        """What calls of `agent` are made with now. Raises KubeError."""
        obj, model = self._kept(agent) or await self._read(agent)
        if model is None:
            return Found(agent, obj, None)
        key, prompt = model.api_key_secret_ref, model.system_from
        secret = await _named(self._store.secret, agent.namespace, key.name) if key else None
        system = await _named(self._store.config_map, agent.namespace, prompt.name) if prompt else None
        return Found(agent, obj, model, secret, system)

    def _kept(self, agent: Ref) -> tuple[Json, Model] | None:
        """An Agent that was read, while nothing newer was seen."""
        held, seen = self._held.get(agent), self._seen(agent)
        if held is None or seen is None:
            return None
        meta = held[0]["metadata"]
        return held if (meta["uid"], meta["generation"]) == (seen.uid, seen.generation) else None

    async def _read(self, agent: Ref) -> tuple[Json | None, Model | None]:
        obj = await self._store.agent(agent)
        model = _model(obj)
        self._held.pop(agent, None)
        if obj and model:
            self._held[agent] = obj, model
            if len(self._held) > _KEPT_AGENTS:
                self._held.popitem(last=False)
        return obj, model


async def _named(read: Read, namespace: str, name: str) -> Named:
    try:
        return Named(await read(Ref(namespace, name)))
    except Forbidden:
        return Named(forbidden=True)


def _model(agent: Json | None) -> Model | None:
    given = ((agent or {}).get("spec") or {}).get("model")
    return Model.model_validate(given) if given else None
