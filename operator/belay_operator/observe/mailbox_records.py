"""What is kept of sessions and their mail: small, and never what is said (DESIGN.md section 8)."""

from dataclasses import dataclass, replace
from datetime import datetime
from sys import intern
from typing import NamedTuple

from belay_api.agentsession import SessionPhase
from belay_api.names import Ref
from belay_api.pendingmessage import ACTIVE_TYPES, MessagePhase, MessageType
from belay_api.times import from_wire
from belay_api.usage import Usage
from belay_operator.observe.records import Json, parent_of, ref_of


class ClaimRecord(NamedTuple):
    """Who drains a mailbox now; its age counts from when whoever sees it saw token or renewTime move (L18)."""

    holder: str
    token: str
    renewed: str
    """renewTime as text: it is compared, never subtracted (DESIGN.md section 4)."""
    duration: int
    """Seconds."""

    @classmethod
    def read(cls, claim: Json) -> "ClaimRecord":
        """Read a claim. Raises KeyError when it isn't one."""
        return cls(intern(claim["holderIdentity"]), claim["token"], claim["renewTime"], claim["durationSeconds"])


class OpenCall(NamedTuple):
    """A tool call that the next round needs the response of."""

    id: str
    tool: str
    started: datetime
    timeout: int | None = None
    """Seconds; None: the tool ends itself."""
    delegation: str | None = None
    """The Delegation whose end is the response."""
    permission: str | None = None
    """The PermissionRequest that must be allowed first."""

    @classmethod
    def read(cls, call: Json) -> "OpenCall":
        """Read an entry of openToolCalls. Raises KeyError or ValueError when it isn't one."""
        return cls(
            id=call["id"],
            tool=intern(call["tool"]),
            started=_time(call["startedTime"]),
            timeout=call.get("timeoutSeconds"),
            delegation=call.get("delegation"),
            permission=call.get("permissionRequest"),
        )


class Spent(NamedTuple):
    """`Usage`, as small as it gets."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    @classmethod
    def read(cls, usage: Json) -> "Spent":
        """Read a usage; what it lacks is 0."""
        fields = ("calls", "inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens")
        return cls(*(usage.get(field, 0) for field in fields))

    @property
    def usage(self) -> Usage:
        """As the contract has it."""
        return Usage(**self._asdict())


class KeptCondition(NamedTuple):
    """What `set_condition` needs of a condition, and why it stands; who writes them puts whole ones in their place."""

    type: str
    status: str
    reason: str
    since: str

    @classmethod
    def read(cls, condition: Json) -> "KeptCondition":
        """Read a condition. Raises KeyError when it isn't one."""
        kind, status, reason = (intern(condition[field]) for field in ("type", "status", "reason"))
        return cls(kind, status, reason, since=condition["lastTransitionTime"])

    @property
    def wire(self) -> Json:
        """As `set_condition` takes it: without its message."""
        return {"type": self.type, "status": self.status, "reason": self.reason, "lastTransitionTime": self.since}


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """An AgentSession."""

    ref: Ref
    uid: str
    version: str
    generation: int
    agent: Ref
    parent: Ref | None
    """The delegation it was opened for."""
    phase: SessionPhase
    claim: ClaimRecord | None
    turns: int
    """Number of the last turn."""
    open_calls: tuple[OpenCall, ...]
    executor: str | None
    """The process that runs the open calls."""
    serving: tuple[str, ...]
    """Delegations, by name, whose prompt has entered the conversation and that wait for its end."""
    usage: Spent
    failed_message: str | None
    """Uid of the message whose rounds failed last."""
    failed_rounds: int
    interrupt: str | None
    """spec.interruptRequest."""
    interrupted: str | None
    """The one of these that was acted on."""
    created: datetime
    conditions_kept: tuple[KeptCondition, ...]
    last_error: str | None
    """Why the last round came to nothing, in a word."""
    has_status: bool = True
    leaving: bool = False
    """Whether it is being deleted."""

    @classmethod
    def read(cls, obj: Json) -> "SessionRecord":
        """Read an AgentSession. Raises ValueError or KeyError when it isn't one."""
        meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
        claim = status.get("claim")
        return cls(
            ref=ref_of(obj),
            uid=meta["uid"],
            version=meta["resourceVersion"],
            generation=meta.get("generation", 0),
            agent=Ref(intern(meta["namespace"]), intern(spec["agentRef"]["name"])),
            parent=parent_of(obj),
            phase=SessionPhase(status.get("phase") or SessionPhase.IDLE),
            claim=ClaimRecord.read(claim) if claim else None,
            turns=status.get("turns") or 0,
            open_calls=tuple(OpenCall.read(call) for call in status.get("openToolCalls") or ()),
            executor=status.get("executor"),
            serving=tuple(status.get("serving") or ()),
            usage=Spent.read(status.get("usage") or {}),
            failed_message=status.get("failedMessage"),
            failed_rounds=status.get("failedRounds") or 0,
            interrupt=spec.get("interruptRequest"),
            interrupted=status.get("observedInterruptRequest"),
            created=_time(meta["creationTimestamp"]),
            conditions_kept=tuple(KeptCondition.read(condition) for condition in status.get("conditions") or ()),
            last_error=(status.get("lastError") or {}).get("reason"),
            has_status="phase" in status,
            leaving="deletionTimestamp" in meta,
        )

    @property
    def conditions(self) -> list[Json]:
        """Its conditions, each as it is kept."""
        return [condition.wire for condition in self.conditions_kept]

    @property
    def resting(self) -> SessionPhase:
        """Where it stands when nobody drains it: where an Awaiting session was claimed from, and goes back to (L10)."""
        return SessionPhase.EXECUTING if self.open_calls else SessionPhase.IDLE


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A PendingMessage."""

    ref: Ref
    uid: str
    version: str
    order: int
    """Its resourceVersion at first sight: the order of creation (L8)."""
    session: Ref
    type: MessageType
    source_kind: str | None
    source_name: str | None
    tool_use_id: str | None
    bounce_back: bool
    phase: MessagePhase
    size: int
    """UTF-8 bytes of what is said."""
    created: datetime
    owned: bool
    """Whether it goes when its session is deleted."""
    completed: datetime | None = None
    """When it was Bounced or Parked."""
    leaving: bool = False
    """Whether it is being deleted: it was read, or nobody is to read it."""

    @classmethod
    def read(cls, obj: Json) -> "MessageRecord":
        """Read a PendingMessage, as it is seen for the first time. Raises ValueError or KeyError when it isn't one."""
        meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
        source = spec.get("source") or {}
        return cls(
            ref=ref_of(obj),
            uid=meta["uid"],
            version=meta["resourceVersion"],
            order=int(meta["resourceVersion"]),
            session=Ref(intern(meta["namespace"]), intern(spec["sessionRef"]["name"])),
            type=MessageType(spec.get("type") or MessageType.USER),
            source_kind=source.get("kind", "User") if source else None,
            source_name=source.get("name"),
            tool_use_id=spec.get("toolUseId"),
            bounce_back=bool(spec.get("bounceBack")),
            phase=MessagePhase(status.get("phase") or MessagePhase.PENDING),
            size=len(spec["content"].encode(errors="replace")),
            created=_time(meta["creationTimestamp"]),
            owned=bool(meta.get("ownerReferences")),
            completed=from_wire(status.get("completionTime")),
            leaving="deletionTimestamp" in meta,
        )

    def in_place_of(self, old: "MessageRecord") -> "MessageRecord":
        """The same message seen again: it keeps its place, whatever was written to it since."""
        return replace(self, order=old.order)

    @property
    def pending(self) -> bool:
        """Whether it waits to be read."""
        return self.phase is MessagePhase.PENDING and not self.leaving

    @property
    def active(self) -> bool:
        """Whether it starts a round (L8)."""
        return self.type in ACTIVE_TYPES

    @property
    def delegation(self) -> str | None:
        """The Delegation whose prompt it is, by name; its end is what a text answer completes."""
        is_prompt = self.type is MessageType.USER and self.source_kind == "Delegation"
        return self.source_name if is_prompt else None


@dataclass(frozen=True, slots=True)
class Mail:
    """A message with what it says: read for a round, and kept no longer."""

    record: MessageRecord
    content: str
    success: bool
    """Of a ToolResponse: whether the tool did its work."""

    @classmethod
    def read(cls, obj: Json, seen: MessageRecord | None = None) -> "Mail":
        """Read a PendingMessage, in the place that it has as `seen` before. Raises ValueError or KeyError."""
        record = MessageRecord.read(obj)
        same = seen is not None and seen.uid == record.uid
        return cls(
            record=record.in_place_of(seen) if seen and same else record,
            content=obj["spec"]["content"],
            success=obj["spec"].get("success") is not False,
        )


def _time(text: str) -> datetime:
    """A time that must be there. Raises ValueError."""
    at = from_wire(text)
    if at is None:
        raise ValueError("a time is missing where the API server always sets one")
    return at
