"""Delegation: one task handed to one agent."""

import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StringConstraints

from belay_api.agent import OnAgentLost
from belay_api.agentsubscription import AgentRef
from belay_api.conditions import Condition, conditions_field
from belay_api.resource import (
    ATOMIC_MAP,
    FREE_FIELDS,
    GIVEN_TIME,
    NO_CONTROLS,
    SET,
    Column,
    Kind,
    ObjectName,
    Part,
    Resource,
    Rule,
    SessionId,
    kept_once,
    never_removed,
    unchanged,
)
from belay_api.transitions import TERMINAL, Phase

MAX_TEXT_BYTES = 65536
"""Most UTF-8 bytes of a prompt or a result; beyond it a URI (DESIGN.md section 5)."""


class DesiredState(StrEnum):
    """What people want of a delegation; Cancelled is final."""

    RUNNING = "Running"
    CANCELLED = "Cancelled"


class Task(Part):
    """What is to be done."""

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_BYTES)] = Field(
        description="The task in words, at most 64 KiB of UTF-8; name a URI for more."
    )
    inputs: dict[str, Annotated[str, StringConstraints(max_length=4096)]] | None = Field(
        default=None, max_length=32, description="Named values that go with the prompt."
    )


class ParentRef(Part):
    """The delegation or session on whose behalf this one is made."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    kind: Literal["Delegation", "AgentSession"] = Field(default="Delegation", description="Kind of the parent.")
    name: ObjectName = Field(description="Name of the parent, in the same namespace.")


class Retry(Part):
    """When a failed attempt is tried again."""

    max_attempts: int = Field(default=1, ge=1, le=100, description="Most attempts, the first one included.")
    backoff_seconds: int = Field(default=10, ge=0, le=86400, description="Seconds before the second attempt; doubles.")
    on: list[Literal["AgentLost", "NoHeartbeat", "AgentFailed"]] | None = Field(
        default=None,
        max_length=3,
        description="Reasons that are retried; all when left out. AgentLost is so only where onAgentLost is Requeue. "
        "YAML takes a bare `on` for true: quote it.",
        json_schema_extra=SET,
    )


class DelegationSpec(Part):
    """What was asked; only desiredState, priority, retryAttempt and ttlSecondsAfterFinished may change."""

    agent_ref: AgentRef = Field(description="The agent that is to do it.")
    session_id: SessionId | None = Field(default=None, description="Only this session of the agent may take it.")
    topic: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=NO_CONTROLS)] | None = Field(
        default=None, description="Stream on which its events are told."
    )
    task: Task = Field(description="What is to be done.")
    requester: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=NO_CONTROLS)] | None = Field(
        default=None, description="Who asked; must be the caller, but for Belay's own processes."
    )
    parent_ref: ParentRef | None = Field(default=None, description="What this is a part of; its cancel cascades here.")
    priority: int = Field(default=0, ge=-1000, le=1000, description="Higher goes first in the agent's queue.")
    deadline: datetime | None = Field(
        default=None,
        description="When it must be done, over all attempts, e.g. 2026-01-02T03:04:05Z; at most 30 days away.",
        json_schema_extra=GIVEN_TIME,
    )
    deadline_seconds: int | None = Field(
        default=None, ge=1, le=2592000, description="Seconds from creation to the deadline."
    )
    stuck_threshold_seconds: int | None = Field(
        default=None, ge=1, le=2592000, description="Seconds without a heartbeat after which it is Stuck."
    )
    retry: Retry | None = Field(default=None, description="When a failed attempt is tried again.")
    retry_attempt: int | None = Field(
        default=None, ge=0, le=1000, description="Raised by a person to retry Stuck work; only grows."
    )
    retry_of: ObjectName | None = Field(default=None, description="The finished delegation this one repeats.")
    on_agent_lost: OnAgentLost | None = Field(
        default=None, description="What becomes of it when its session or agent is gone; the agent's when left out."
    )
    desired_state: DesiredState = Field(default=DesiredState.RUNNING, description="Cancelled asks for its end; final.")
    ttl_seconds_after_finished: int | None = Field(
        default=None, ge=0, le=31536000, description="Seconds it is kept once finished (86400)."
    )


class Progress(Part):
    """How far the agent says it is."""

    percent: int | None = Field(default=None, ge=0, le=100, description="Part done, in percent.")
    message: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="What the agent is at."
    )


def _without_nulls(value: Any) -> Any:
    """`value` without the fields of objects that are null: a merge patch takes a null for a removal, so they could not
    be stored, and a reply that is repeated must equal the first."""
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}


def _storable(data: dict[str, Any]) -> dict[str, Any]:
    """Data as the API server keeps it. Raises ValueError for a number that JSON has no word for (NaN, infinity)."""
    json.dumps(data, allow_nan=False)
    kept: dict[str, Any] = _without_nulls(data)
    return kept


class Result(Part):
    """What came of it: words, data, an address; text and data together at most 64 KiB (`inline_bytes`)."""

    text: Annotated[str, StringConstraints(max_length=MAX_TEXT_BYTES)] | None = Field(
        default=None, description="The result in words, at most 64 KiB of UTF-8."
    )
    data: Annotated[dict[str, JsonValue], Field(max_length=1024), AfterValidator(_storable)] | None = Field(
        default=None,
        description="The result for programs: any JSON object; with the text at most 64 KiB. Null fields are left out.",
        json_schema_extra=FREE_FIELDS,
    )
    uri: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        default=None, description="Where the result is, when it is larger."
    )

    def inline_bytes(self) -> int:
        """UTF-8 bytes of what is stored inline: the text, and the data as compact JSON (at most MAX_TEXT_BYTES)."""
        data = "" if self.data is None else json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        return len(((self.text or "") + data).encode(errors="surrogatepass"))


class DelegationStatus(Part):
    """How it goes; each arrow is written by one account (DESIGN.md section 3)."""

    observed_generation: int | None = Field(default=None, ge=0, description="Generation this status was made for.")
    phase: Phase | None = Field(default=None, description="Where it stands.")
    reason: Annotated[str, StringConstraints(max_length=64)] | None = Field(default=None, description="Why, in a word.")
    message: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="Why, in a sentence."
    )
    attempt: int | None = Field(default=None, ge=1, description="Number of this attempt; only grows, fences replies.")
    failures: int | None = Field(
        default=None, ge=0, description="Attempts that failed and were tried again; these count for retry.maxAttempts."
    )
    observed_retry_attempt: int | None = Field(
        default=None, ge=0, description="The spec.retryAttempt that was last acted on."
    )
    deadline: datetime | None = Field(default=None, description="The deadline in force.")
    queued_time: datetime | None = Field(default=None, description="Since when it waits.")
    queue_position: int | None = Field(default=None, ge=1, description="Place in the agent's queue, for the first 10.")
    session_id: SessionId | None = Field(default=None, description="Session that holds it.")
    gateway: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="Gateway process that has the holder's socket."
    )
    dispatched_time: datetime | None = Field(default=None, description="When this attempt was first offered.")
    accepted_time: datetime | None = Field(default=None, description="When its holder took it.")
    last_heartbeat_time: datetime | None = Field(default=None, description="Last beat of the holder that was written.")
    progress: Progress | None = Field(default=None, description="How far the holder says it is.")
    result: Result | None = Field(default=None, description="What came of it.")
    completion_time: datetime | None = Field(default=None, description="When it became terminal.")
    conditions: list[Condition] | None = conditions_field(
        "Finished, Complete, why it was retried, and the proof of a cancel."
    )


def _kept_once_terminal(field: str) -> Rule:
    message = f"status.{field} can't change once the delegation is Completed, Failed or Cancelled"
    return kept_once(TERMINAL, field, message)


class Delegation(Kind):
    """A Delegation is one task handed to one agent, with a deadline, a holder and an end that is always told."""

    RESOURCE: ClassVar[Resource] = Resource(
        kind="Delegation",
        plural="delegations",
        short="dlg",
        columns=(
            Column("Agent", ".spec.agentRef.name"),
            Column("Phase", ".status.phase"),
            Column("Reason", ".status.reason"),
            Column("Progress", ".status.progress.percent", "integer"),
            Column("Deadline", ".status.deadline"),
            Column("Session", ".status.sessionId", "string", 1),
            Column("Attempt", ".status.attempt", "integer", 1),
            Column("Beat", ".status.lastHeartbeatTime", "date", 1),
            Column("Doing", ".status.progress.message", "string", 1),
            Column("Message", ".status.message", "string", 1),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable=(
            ".spec.agentRef.name",
            ".spec.sessionId",
            ".spec.parentRef.name",
            ".status.phase",
            ".status.gateway",
            ".status.sessionId",
        ),
        rules=(
            *unchanged(
                "agentRef",
                "sessionId",
                "topic",
                "task",
                "requester",
                "parentRef",
                "deadline",
                "deadlineSeconds",
                "stuckThresholdSeconds",
                "retry",
                "retryOf",
                "onAgentLost",
            ),
            *(_kept_once_terminal(f) for f in ("phase", "reason", "message", "attempt", "result", "completionTime")),
            Rule(
                "!has(oldSelf.spec.desiredState) || oldSelf.spec.desiredState != 'Cancelled' || "
                "(has(self.spec.desiredState) && self.spec.desiredState == 'Cancelled')",
                "spec.desiredState: Cancelled is final; make a new delegation instead",
            ),
            Rule(
                "!has(oldSelf.spec.retryAttempt) || "
                "(has(self.spec.retryAttempt) && self.spec.retryAttempt >= oldSelf.spec.retryAttempt)",
                "spec.retryAttempt only grows",
            ),
            Rule(
                "!has(oldSelf.status) || !has(oldSelf.status.attempt) || "
                "(has(self.status) && has(self.status.attempt) && self.status.attempt >= oldSelf.status.attempt)",
                "status.attempt only grows: it fences replies of older attempts",
            ),
            never_removed("phase", "a delegation never starts anew"),
            Rule(
                "!(has(self.spec.deadline) && has(self.spec.deadlineSeconds))",
                "spec: give deadline or deadlineSeconds, not both",
            ),
            Rule(
                f"bytes(self.spec.task.prompt).size() <= {MAX_TEXT_BYTES}",
                "spec.task.prompt: more than 64 KiB of UTF-8; put it where the agent can read it and name the URI",
            ),
            Rule(
                r"!self.spec.task.prompt.contains('\u0000')",
                "spec.task.prompt: contains a NUL character, which agents can't be handed; take it out",
            ),
            Rule(
                "!has(self.status) || !has(self.status.result) || !has(self.status.result.text) || "
                f"bytes(self.status.result.text).size() <= {MAX_TEXT_BYTES}",
                "status.result.text: more than 64 KiB of UTF-8; reply with a uri instead",
            ),
            Rule(
                "!has(self.spec.parentRef) || self.spec.parentRef.kind != 'Delegation' || "
                "self.spec.parentRef.name != self.metadata.name",
                "spec.parentRef: a delegation can't be its own parent",
            ),
            Rule(
                "!has(self.spec.topic) || !self.spec.topic.startsWith('session/')",
                "spec.topic: names that begin with session/ belong to sessions",
            ),
        ),
    )

    spec: DelegationSpec = Field(description="What was asked.")
    status: DelegationStatus | None = Field(default=None, description="How it goes.")
