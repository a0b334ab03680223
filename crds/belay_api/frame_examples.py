"""At least one example of each frame, for the AsyncAPI document: objects of the models, so none can be wrong."""

import json
from datetime import UTC, datetime
from typing import Final

from belay_api import actions, frames, messages
from belay_api.agentsubscription import AgentRef
from belay_api.delegation import Progress, Result
from belay_api.permissionrequest import Behavior

_SESSION: Final = json.dumps({"channel": frames.CHANNEL, "agent_id": "default/writer", "session_id": "laptop-1"})
_ACCEPT: Final = actions.Accept(name="d-1", attempt=1, ref=7)
_PERSON: Final = "alice@example.com"
_TOPIC: Final = "session/helper/s-1"

_CABLE: Final[tuple[frames.Frame, ...]] = (
    frames.Command(command="subscribe", identifier=_SESSION),
    frames.Command(command="message", identifier=_SESSION, data=json.dumps(_ACCEPT.wire())),
    frames.Command(command="unsubscribe", identifier=_SESSION),
    frames.Welcome(),
    frames.Ping(message=1767225600),
    frames.ConfirmSubscription(identifier=_SESSION),
    frames.RejectSubscription(identifier=_SESSION, reason="not_found", message="agent default/writer doesn't exist"),
    frames.Disconnect(reason=frames.DisconnectReason.SERVER_RESTART, reconnect=True),
    messages.Addressed(identifier=_SESSION, message=messages.Ack(ref=7)),
)

_ACTIONS: Final[tuple[frames.Frame, ...]] = (
    _ACCEPT,
    actions.Heartbeat(name="d-1", attempt=1),
    actions.ProgressMade(name="d-1", attempt=1, progress=Progress(percent=40, message="reading the sources")),
    actions.Complete(name="d-1", attempt=1, result=Result(text="The report is written.")),
    actions.Complete(name="d-1", attempt=1, result=Result(uri="https://example.com/report.pdf")),
    actions.Fail(name="d-1", attempt=1, message="the sources can't be reached"),
    actions.Release(name="d-1", attempt=1, message="this laptop is shut down"),
    actions.Cancelled(name="d-1", attempt=1),
    actions.RequestPermission(request_id="abcde", tool="Bash", input_preview="rm -rf build", delegation="d-1"),
    actions.ReplayPermissions(request_ids=["abcde"]),
    actions.Resolved(request_id="abcde"),
    actions.Delegate(agent="reviewer", prompt="Review the report.", parent="d-1", idempotency_key="d-1/review", ref=2),
    actions.Resume(held=[actions.HeldAttempt(name="d-1", attempt=1)], ref=1),
    actions.Goodbye(),
)

_MESSAGES: Final[tuple[frames.Frame, ...]] = (
    messages.Attached(
        agent="default/writer",
        session="laptop-1",
        token="9f8e7d",  # noqa: S106  (the epoch of a lease, no secret)
        heartbeat_seconds=15,
        stale_after_seconds=45,
        grace_seconds=30,
    ),
    messages.Dispatch(
        name="d-1",
        namespace="default",
        agent="writer",
        attempt=1,
        prompt="Write the report.",
        inputs={"month": "May"},
        deadline=datetime(2026, 1, 1, 6, tzinfo=UTC),
        stuck_threshold_seconds=600,
    ),
    messages.Cancel(
        name="d-1", attempt=1, phase="Failed", reason="DeadlineExceeded", message="its deadline has passed"
    ),
    messages.Revoked(name="d-1", attempt=1),
    messages.PermissionDecision(
        request_id="abcde", name="writer-4f2a91c0", behavior=Behavior.ALLOW, decided_by=_PERSON
    ),
    messages.Broadcast(id="b-1", sender=_PERSON, agent="default/writer", body={"text": "the office closes at six"}),
    messages.Broadcast(id="b-2", sender=_PERSON, topic="default/reports", body="the sources have moved"),
    messages.Ack(ref=7),
    messages.Ack(ref=1, held=[messages.Resumed(name="d-1", attempt=1, verdict=messages.ResumeVerdict.CONTINUE)]),
    messages.Error(ref=7, code=messages.ErrorCode.TAKEN, message="another session has it"),
    messages.Event(
        topic="reports",
        name="d-1",
        agent=AgentRef(name="writer"),
        phase="InProgress",
        attempt=1,
        percent=40,
        progress="reading the sources",
    ),
    messages.SessionChanged(
        topic=_TOPIC, name="s-1", agent=AgentRef(name="helper"), phase="Awaiting", turns=1, progress="Let me see"
    ),
    messages.SessionChanged(
        topic=_TOPIC,
        name="s-1",
        agent=AgentRef(name="helper"),
        phase="Idle",
        turns=1,
        reason="AuthenticationFailed",
        message="the provider refused the key (401)",
        authentication_required=messages.Why(reason="AuthenticationFailed", message="write another key to Secret llm"),
    ),
    messages.TurnTaken(
        topic=_TOPIC,
        name="s-1-1",
        sequence=1,
        outcome="Answered",
        text="Let me look.",
        tool_calls=[messages.ToolCalled(id="toolu_1", name="delegate")],
        stop_reason="tool_use",
        model="some-model-1",
    ),
)


def _by_model() -> dict[type[frames.Frame], list[frames.Frame]]:
    found: dict[type[frames.Frame], list[frames.Frame]] = {}
    for example in (*_CABLE, *_ACTIONS, *_MESSAGES):
        found.setdefault(type(example), []).append(example)
    return found


EXAMPLES: Final = _by_model()
"""The examples of each model of a frame."""
