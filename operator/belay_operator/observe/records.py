"""What is kept of each object: at most 1 KiB, never a prompt or a result (DESIGN.md section 8)."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from sys import intern
from typing import Any, TypeVar

from belay_api.agent import OnAgentLost, Runtime, ToolPermission
from belay_api.meta import ANNOTATION_CANCEL_CASCADE
from belay_api.names import Ref
from belay_api.queueing import DEFAULT_BACKOFF_SECONDS
from belay_api.retrying import Tries, is_handed_back
from belay_api.times import from_wire
from belay_api.timing import Times
from belay_api.transitions import Phase, phase_of

Json = dict[str, Any]
_KEPT_CHARS = 256
"""Most that is kept of a message."""
_KEPT_OF_CONDITION = ("type", "status", "lastTransitionTime")
S = TypeVar("S", bound=Hashable)


@lru_cache(maxsize=20_000)
def _shared(value: S) -> S:
    """The one of all that are equal: what thousands of delegations have in common is kept once."""
    return value


def _interned(text: str | None) -> str | None:
    return None if text is None else intern(text)


def _kept(conditions: list[Json]) -> str | None:
    """Conditions as they are kept. Raises KeyError or TypeError when they make no sense."""
    if not conditions:
        return None
    return "\n".join("\t".join(condition[field] for field in _KEPT_OF_CONDITION) for condition in conditions)


def ref_of(obj: Mapping[str, Any]) -> Ref:
    """Namespace and name of an object."""
    meta = obj["metadata"]
    return Ref(meta.get("namespace", ""), meta["name"])


def parent_of(obj: Mapping[str, Any]) -> Ref | None:
    """The delegation that a delegation is a part of. Raises KeyError or TypeError when its parentRef makes no sense."""
    parent = obj["spec"].get("parentRef") or {}
    is_delegation = parent.get("kind", "Delegation") == "Delegation"
    return Ref(obj["metadata"]["namespace"], parent["name"]) if parent and is_delegation else None


def version_of(obj: Mapping[str, Any]) -> str | None:
    """The resourceVersion of an object, or of the event that says it is gone."""
    version: str | None = obj["metadata"].get("resourceVersion")
    return version


@dataclass(slots=True)
class Work:
    """A delegation that isn't terminal."""

    ref: Ref
    uid: str
    version: str
    generation: int
    agent: Ref
    addressed: str | None
    """The session it is addressed to, if any."""
    phase: Phase
    has_status: bool
    reason: str | None
    attempt: int
    """0 until it was first queued or dispatched."""
    priority: int
    created: datetime
    due: datetime | None
    """The deadline in its status, or in its specification; None when the agent's time decides."""
    deadline_seconds: int | None
    stuck_threshold: int | None
    tries: Tries
    backoff: int
    """Seconds before it is offered again after an attempt that came to nothing."""
    on_agent_lost: OnAgentLost | None
    cancel_wanted: bool
    queued: datetime | None
    dispatched: datetime | None
    beat: datetime | None
    holder: str | None
    conditions_kept: str | None
    """What `set_condition` needs of its conditions, a line each; who writes them puts the whole ones in their place."""
    position: int | None
    """Its place in the queue, as its status says."""
    handed_back: str | None
    """Why its holder gave this attempt up, in a sentence; None unless it waits for the operator because of that."""
    retry_asked: int
    """spec.retryAttempt."""
    retry_done: int
    """The one of these that was acted on."""
    parent: Ref | None
    """The delegation it is a part of."""
    parent_session: str | None
    """The AgentSession it is a part of, by name."""
    cascades: bool
    """Whether its cancel or failure ends its children."""
    ttl: int | None
    """Seconds it is kept once finished; None where the installation's time decides."""
    pending_message: str | None
    """What it was told it waits for, before it was taken up."""

    @classmethod
    def read(cls, obj: Json) -> "Work":
        """Read a Delegation. Raises ValueError or KeyError when it isn't one."""
        meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
        lost, parent = spec.get("onAgentLost"), spec.get("parentRef") or {}
        is_delegation = parent.get("kind", "Delegation") == "Delegation"
        created = from_wire(meta["creationTimestamp"])
        if created is None:
            raise ValueError(f"delegation {ref_of(obj)} has no creationTimestamp")
        namespace = intern(meta["namespace"])
        return cls(
            ref=Ref(namespace, meta["name"]),
            uid=meta["uid"],
            version=meta["resourceVersion"],
            generation=meta.get("generation", 0),
            agent=_shared(Ref(namespace, spec["agentRef"]["name"])),
            addressed=_interned(spec.get("sessionId")),
            phase=phase_of(status.get("phase")),
            has_status="phase" in status,
            reason=_interned(status.get("reason")),
            attempt=status.get("attempt", 0),
            priority=spec.get("priority", 0),
            created=created,
            due=from_wire(status.get("deadline") or spec.get("deadline")),
            deadline_seconds=spec.get("deadlineSeconds"),
            stuck_threshold=spec.get("stuckThresholdSeconds"),
            tries=_shared(Tries.read(spec, status)),
            backoff=(spec.get("retry") or {}).get("backoffSeconds", DEFAULT_BACKOFF_SECONDS),
            on_agent_lost=OnAgentLost(lost) if lost else None,
            cancel_wanted=spec.get("desiredState") == "Cancelled",
            queued=from_wire(status.get("queuedTime")),
            dispatched=from_wire(status.get("dispatchedTime")),
            beat=from_wire(status.get("lastHeartbeatTime")),
            holder=_interned(status.get("sessionId")),
            conditions_kept=_kept(status.get("conditions") or []),
            position=status.get("queuePosition"),
            handed_back=(status.get("message") or "")[:_KEPT_CHARS] if is_handed_back(status) else None,
            retry_asked=spec.get("retryAttempt") or 0,
            retry_done=status.get("observedRetryAttempt") or 0,
            parent=Ref(namespace, intern(parent["name"])) if parent and is_delegation else None,
            parent_session=None if is_delegation else _interned(parent["name"]),
            cascades=(meta.get("annotations") or {}).get(ANNOTATION_CANCEL_CASCADE) != "false",
            ttl=spec.get("ttlSecondsAfterFinished"),
            pending_message=None if status.get("attempt") else status.get("message"),
        )

    @property
    def conditions(self) -> list[Json]:
        """Its conditions, each as it is kept: without its message, for one."""
        lines = self.conditions_kept.split("\n") if self.conditions_kept else []
        return [dict(zip(_KEPT_OF_CONDITION, line.split("\t"), strict=True)) for line in lines]

    @property
    def session(self) -> str | None:
        """The session whose loss orphans it: the one it is addressed to, else its holder (DESIGN.md section 5)."""
        return self.addressed or self.holder

    def deadline(self, times: Times) -> datetime:
        """When it must be done, all attempts together."""
        return self.due or self.created + timedelta(seconds=self.deadline_seconds or times.deadline)

    def threshold(self, times: Times) -> int:
        """Seconds without a beat after which it is Stuck."""
        return self.stuck_threshold or times.stuck_threshold


@dataclass(slots=True)
class AgentRecord:
    """An Agent."""

    ref: Ref
    uid: str
    version: str
    generation: int
    runtime: Runtime
    max_active: int
    suspended: bool
    allow_reentry: bool
    on_agent_lost: OnAgentLost
    timing: Json
    status: Json
    provider: str | None = None
    """The provider of its model; None for one that isn't of runtime Model."""
    max_calls: int | None = None
    """Most answers in one of its sessions; None: no limit."""
    tools: tuple["ToolTerms", ...] = ()
    description: str | None = None
    """What it is good for: models that may delegate to it are told."""

    @classmethod
    def read(cls, obj: Json) -> "AgentRecord":
        """Read an Agent. Raises ValueError or KeyError when it isn't one."""
        meta, spec = obj["metadata"], obj["spec"]
        model = spec.get("model") or {}
        return cls(
            ref=ref_of(obj),
            uid=meta["uid"],
            version=meta["resourceVersion"],
            generation=meta.get("generation", 0),
            runtime=Runtime(spec.get("runtime", Runtime.CHANNEL)),
            max_active=spec.get("maxActiveDelegations", 1),
            suspended=spec.get("suspend", False),
            allow_reentry=spec.get("allowReentry", False),
            on_agent_lost=OnAgentLost(spec.get("onAgentLost", OnAgentLost.CANCEL)),
            timing=dict(spec.get("timing") or {}),
            status=dict(obj.get("status") or {}),
            provider=model.get("provider"),
            max_calls=model.get("maxCallsPerSession"),
            tools=tuple(ToolTerms.read(tool) for tool in spec.get("tools") or ()),
            description=spec.get("description"),
        )

    def terms(self, tool: str) -> "ToolTerms | None":
        """On what terms its model is given a tool; None: the Agent says nothing of it."""
        return next((terms for terms in self.tools if terms.name == tool), None)


@dataclass(frozen=True, slots=True)
class ToolTerms:
    """On what terms a Model agent is given a tool."""

    name: str
    permission: ToolPermission
    timeout: int | None
    """Seconds."""
    agents: tuple[str, ...]
    """Whom `delegate` may be called for."""

    @classmethod
    def read(cls, tool: Json) -> "ToolTerms":
        """Read an entry of Agent.spec.tools. Raises ValueError or KeyError when it isn't one."""
        permission = ToolPermission(tool.get("permission", ToolPermission.ALLOW))
        return cls(tool["name"], permission, tool.get("timeoutSeconds"), tuple(tool.get("agents") or ()))
