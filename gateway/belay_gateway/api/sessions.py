"""What a session that has a socket may do by HTTP instead, and its goodbye (DESIGN.md section 6; D10, C7)."""

from http import HTTPStatus

from belay_api.actions import Complete, Fail, Heartbeat, OnAttempt, ProgressMade
from belay_api.delegation import Delegation
from belay_api.names import Ref
from belay_gateway.api import models, operation, resources
from belay_gateway.api.objects import named
from belay_gateway.api.operation import Answer, Call, Operation, Parts

_ONE = "/namespaces/{namespace}/delegations/{name}"


async def heartbeat(parts: Parts, call: Call[models.Named, None, models.Beat]) -> Answer:
    """As the action `heartbeat`."""
    return await _act(parts, call, Heartbeat(name=call.where.name, attempt=call.body.attempt))


async def progress(parts: Parts, call: Call[models.Named, None, models.ProgressReport]) -> Answer:
    """As the action `progress`."""
    action = ProgressMade(name=call.where.name, attempt=call.body.attempt, progress=call.body.progress)
    return await _act(parts, call, action)


async def reply(parts: Parts, call: Call[models.Named, None, models.Reply]) -> Answer:
    """As the action `complete` or `fail`."""
    return await _act(parts, call, _end(call.where.name, call.body))


def _end(name: str, said: models.Reply) -> Complete | Fail:
    if said.result is not None:
        return Complete(name=name, attempt=said.attempt, result=said.result)
    return Fail(name=name, attempt=said.attempt, message=said.failure or "")


async def _act(parts: Parts, call: Call[models.Named, None, models.OnAttempt], action: OnAttempt) -> Answer:
    agent = Ref(call.where.namespace, call.body.agent)
    made = await parts.replies.act(call.user, agent, call.body.session_id, action)
    return Answer(named(made, Delegation.RESOURCE.kind))


async def goodbye(parts: Parts, call: Call[models.NamedSession, None, None]) -> Answer:
    """As the action `goodbye`: what the session holds is dealt with at once (C7)."""
    agent = Ref(call.where.namespace, call.where.name)
    await parts.replies.goodbye(call.user, agent, call.where.session)
    return Answer(None, HTTPStatus.NO_CONTENT)


OPERATIONS = (
    operation.changing(
        "heartbeatDelegation",
        f"{_ONE}/heartbeat",
        "Say that the holder is still at it.",
        heartbeat,
        body=models.Beat,
        answer=resources.Delegation,
    ),
    operation.changing(
        "progressDelegation",
        f"{_ONE}/progress",
        "Say how far it is.",
        progress,
        body=models.ProgressReport,
        answer=resources.Delegation,
    ),
    operation.changing(
        "replyDelegation",
        f"{_ONE}/reply",
        "End the work, with its result or by giving it up.",
        reply,
        body=models.Reply,
        answer=resources.Delegation,
    ),
    Operation(
        name="endSession",
        method="DELETE",
        path="/namespaces/{namespace}/agents/{name}/sessions/{session}",
        summary="Say goodbye for a session: it will not come back.",
        carry=goodbye,
        where=models.NamedSession,
        answers={HTTPStatus.NO_CONTENT: None},
    ),
)
