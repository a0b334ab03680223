"""At least one example of each frame, for the AsyncAPI document: objects of the models, so none can be wrong."""

import json
from datetime import UTC, datetime
from typing import Final

from belay_api import frames as f
from belay_api.agentsubscription import AgentRef
from belay_api.delegation import Progress, Result

_SESSION: Final = json.dumps({"channel": f.CHANNEL, "agent_id": "default/writer", "session_id": "laptop-1"})
_ACCEPT: Final = f.Accept(name="d-1", attempt=1, ref=7)
_PERSON: Final = "alice@example.com"
_TOPIC: Final = "session/helper/s-1"

_CABLE: Final[tuple[f.Frame, ...]] = (
    f.Command(command="subscribe", identifier=_SESSION),
    f.Command(command="message", identifier=_SESSION, data=json.dumps(_ACCEPT.wire())),
    f.Command(command="unsubscribe", identifier=_SESSION),
    f.Welcome(),
    f.Ping(message=1767225600),
    f.ConfirmSubscription(identifier=_SESSION),
    f.RejectSubscription(identifier=_SESSION, reason="not_found", message="agent default/writer doesn't exist"),
    f.Disconnect(reason=f.DisconnectReason.SERVER_RESTART, reconnect=True),
    f.Addressed(identifier=_SESSION, message=f.Ack(ref=7)),
)

_ACTIONS: Final[tuple[f.Frame, ...]] = (
    _ACCEPT,
    f.Heartbeat(name="d-1", attempt=1),
    f.ProgressMade(name="d-1", attempt=1, progress=Progress(percent=40, message="reading the sources")),
    f.Complete(name="d-1", attempt=1, result=Result(text="The report is written.")),
    f.Complete(name="d-1", attempt=1, result=Result(uri="https://example.com/report.pdf")),
    f.Fail(name="d-1", attempt=1, message="the sources can't be reached"),
    f.Release(name="d-1", attempt=1, message="this laptop is shut down"),
    f.Cancelled(name="d-1", attempt=1),
    f.RequestPermission(request_id="abcde", tool="Bash", input_preview="rm -rf build", delegation="d-1"),
    f.ReplayPermissions(request_ids=["abcde"]),
    f.Resolved(request_id="abcde"),
    f.Delegate(agent="reviewer", prompt="Review the report.", parent="d-1", idempotency_key="d-1/review", ref=2),
    f.Resume(held=[f.HeldAttempt(name="d-1", attempt=1)], ref=1),
    f.Goodbye(),
)

_MESSAGES: Final[tuple[f.Frame, ...]] = (
    f.Attached(
        agent="default/writer",
        session="laptop-1",
        token="9f8e7d",  # noqa: S106  (the epoch of a lease, no secret)
        heartbeat_seconds=15,
        stale_after_seconds=45,
        grace_seconds=30,
    ),
    f.Dispatch(
        name="d-1",
        namespace="default",
        agent="writer",
        attempt=1,
        prompt="Write the report.",
        inputs={"month": "May"},
        deadline=datetime(2026, 1, 1, 6, tzinfo=UTC),
        stuck_threshold_seconds=600,
    ),
    f.Cancel(name="d-1", attempt=1, phase="Failed", reason="DeadlineExceeded", message="its deadline has passed"),
    f.Revoked(name="d-1", attempt=1),
    f.PermissionDecision(request_id="abcde", name="writer-4f2a91c0", behavior=f.Behavior.ALLOW, decided_by=_PERSON),
    f.Broadcast(id="b-1", sender=_PERSON, agent="default/writer", body={"text": "the office closes at six"}),
    f.Broadcast(id="b-2", sender=_PERSON, topic="default/reports", body="the sources have moved"),
    f.Ack(ref=7),
    f.Ack(ref=1, held=[f.Resumed(name="d-1", attempt=1, verdict=f.ResumeVerdict.CONTINUE)]),
    f.Error(ref=7, code=f.ErrorCode.TAKEN, message="another session has it"),
    f.Event(
        topic="reports",
        name="d-1",
        agent=AgentRef(name="writer"),
        phase="InProgress",
        attempt=1,
        percent=40,
        progress="reading the sources",
    ),
    f.SessionChanged(
        topic=_TOPIC, name="s-1", agent=AgentRef(name="helper"), phase="Awaiting", turns=1, progress="Let me see"
    ),
    f.SessionChanged(
        topic=_TOPIC,
        name="s-1",
        agent=AgentRef(name="helper"),
        phase="Idle",
        turns=1,
        reason="AuthenticationFailed",
        message="the provider refused the key (401)",
        authentication_required=f.Why(reason="AuthenticationFailed", message="write another key to Secret llm"),
    ),
    f.TurnTaken(
        topic=_TOPIC,
        name="s-1-1",
        sequence=1,
        outcome="Answered",
        text="Let me look.",
        tool_calls=[f.ToolCalled(id="toolu_1", name="delegate")],
        stop_reason="tool_use",
        model="some-model-1",
    ),
)


def _by_model() -> dict[type[f.Frame], list[f.Frame]]:
    found: dict[type[f.Frame], list[f.Frame]] = {}
    for example in (*_CABLE, *_ACTIONS, *_MESSAGES):
        found.setdefault(type(example), []).append(example)
    return found


EXAMPLES: Final = _by_model()
"""The examples of each model of a frame."""
