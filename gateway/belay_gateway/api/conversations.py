"""Conversations with Model agents: sessions opened, read, written to and interrupted (DESIGN.md sections 5 and 6)."""

import uuid
from http import HTTPStatus

from belay_api.agent import Agent
from belay_api.agentsession import AgentSession
from belay_api.meta import VERB_DELEGATE
from belay_api.names import turn_name
from belay_api.pendingmessage import PendingMessage
from belay_api.sessionturn import SessionTurn
from belay_gateway.api import models
from belay_gateway.api.operation import Answer, Call, Listing, Operation, Parts, listed, shown
from belay_gateway.api.problems import BadRequest
from belay_gateway.conversing import Letter, Opening
from belay_gateway.sessionevents import turns_of
from belay_kube.client import SESSIONS, TURNS, Json
from belay_kube.errors import NotFound

_RESOURCE = AgentSession.RESOURCE
_COLLECTION = "/namespaces/{namespace}/sessions"
_ONE = _COLLECTION + "/{name}"


async def create(parts: Parts, call: Call[models.InNamespace, None, models.NewSession]) -> Answer:
    """201 when it was opened, 200 when the idempotency key had opened it before. The admission policy leaves it to the
    gateway to see that the caller may delegate to the agent."""
    meta, namespace = call.body.metadata, call.where.namespace
    if meta.namespace not in (None, namespace):
        detail = f"metadata.namespace: is {meta.namespace} but the path's is {namespace}; leave it out"
        raise BadRequest(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    agent = call.body.spec.agent_ref.name
    await parts.check(call.user, "create", _RESOURCE.plural, namespace)
    await parts.check(call.user, VERB_DELEGATE, Agent.RESOURCE.plural, namespace, agent)
    opening = Opening(
        namespace=namespace,
        agent=agent,
        name=meta.name,
        key=call.headers.idempotency_key,
        labels=meta.labels,
    )
    made, is_new = await parts.conversing.open(call.user, opening)
    return Answer(shown(made), HTTPStatus.CREATED if is_new else HTTPStatus.OK)


async def read(parts: Parts, call: Call[models.Named, None, None]) -> Answer:
    """As `kubectl get`."""
    namespace, name = call.where.namespace, call.where.name
    await parts.check(call.user, "get", _RESOURCE.plural, namespace, name)
    return Answer(shown(await parts.kube.get(SESSIONS, namespace, name)))


async def listing(parts: Parts, call: Call[models.InNamespace, models.SessionsQuery, None]) -> Answer:
    """As `kubectl get` with a selector."""
    await parts.check(call.user, "list", _RESOURCE.plural, call.where.namespace)
    selected = {"fieldSelector": f"spec.agentRef.name={call.query.agent}"} if call.query.agent else {}
    return await listed(parts, Listing(_RESOURCE, call.where.namespace, selected), call.query)


async def turns(parts: Parts, call: Call[models.Named, models.TurnsQuery, None]) -> Answer:
    """In the order of the conversation, which no list of the API server has: each is read by its number."""
    namespace, name = call.where.namespace, call.where.name
    await parts.check(call.user, "list", SessionTurn.RESOURCE.plural, namespace)
    begin = _number(call.query.next)
    counted = turns_of(await parts.kube.get(SESSIONS, namespace, name))
    numbers = range(begin, counted + 2)  # the operator counts a turn some moments after it was made
    items: list[Json] = []
    async with parts.lists:
        for number in numbers[: call.query.limit]:
            try:
                items.append(shown(await parts.kube.get(TURNS, namespace, turn_name(name, number))))
            except NotFound:
                continue
    after = begin + call.query.limit
    return Answer({"items": items, **({"continue": str(after)} if after <= counted else {})})


def _number(token: str | None) -> int:
    if token is None:
        return 1
    if not (token.isascii() and token.isdigit() and len(token) < 10):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "continue: not one of this list: give what the page before had")
    return max(1, int(token))


async def send(parts: Parts, call: Call[models.Named, None, models.NewMessage]) -> Answer:
    """201 when it was put into the mailbox, 200 when the idempotency key had done so before."""
    namespace, name = call.where.namespace, call.where.name
    await parts.check(call.user, "create", PendingMessage.RESOURCE.plural, namespace)
    letter = Letter(
        namespace=namespace,
        session=name,
        content=call.body.content,
        bounce_back=call.body.bounce_back,
        key=call.headers.idempotency_key,
    )
    sent = await parts.conversing.send(call.user, letter)
    read_in = {} if sent.turn is None else {"turn": sent.turn}
    return Answer({"name": sent.name, "uid": sent.uid, **read_in}, HTTPStatus.CREATED if sent.is_new else HTTPStatus.OK)


async def interrupt(parts: Parts, call: Call[models.Named, None, None]) -> Answer:
    """A new value each time: what runs now is cut short, once (L17)."""
    namespace, name = call.where.namespace, call.where.name
    await parts.check(call.user, "patch", _RESOURCE.plural, namespace, name)
    wanted: Json = {"spec": {"interruptRequest": uuid.uuid4().hex}}
    return Answer(shown(await parts.kube.patch(SESSIONS, namespace, name, wanted)))


OPERATIONS = (
    Operation(
        name="openSession",
        method="POST",
        path=_COLLECTION,
        summary="Begin a conversation with a Model agent.",
        carry=create,
        where=models.InNamespace,
        headers=models.CreateHeaders,
        body=models.NewSession,
        answers={HTTPStatus.CREATED: models.AgentSession, HTTPStatus.OK: models.AgentSession},
        refusals=frozenset({HTTPStatus.CONFLICT}),
    ),
    Operation(
        name="listSessions",
        method="GET",
        path=_COLLECTION,
        summary="List conversations with Model agents, a page at a time.",
        carry=listing,
        where=models.InNamespace,
        query=models.SessionsQuery,
        answers={HTTPStatus.OK: models.AgentSessions},
        refusals=frozenset({HTTPStatus.GONE}),
    ),
    Operation(
        name="getSession",
        method="GET",
        path=_ONE,
        summary="Read how a conversation with a Model agent goes.",
        carry=read,
        where=models.Named,
        answers={HTTPStatus.OK: models.AgentSession},
    ),
    Operation(
        name="listSessionTurns",
        method="GET",
        path=f"{_ONE}/turns",
        summary="Read what was said, turn by turn, a page at a time.",
        carry=turns,
        where=models.Named,
        query=models.TurnsQuery,
        answers={HTTPStatus.OK: models.SessionTurns},
    ),
    Operation(
        name="sendMessage",
        method="POST",
        path=f"{_ONE}/messages",
        summary="Say something to a Model agent, in the caller's name.",
        carry=send,
        where=models.Named,
        headers=models.CreateHeaders,
        body=models.NewMessage,
        answers={HTTPStatus.CREATED: models.MessageSent, HTTPStatus.OK: models.MessageSent},
        refusals=frozenset({HTTPStatus.CONFLICT}),
    ),
    Operation(
        name="interruptSession",
        method="POST",
        path=f"{_ONE}/interrupt",
        summary="Cut short what a Model agent is at.",
        carry=interrupt,
        where=models.Named,
        answers={HTTPStatus.OK: models.AgentSession},
        refusals=frozenset({HTTPStatus.CONFLICT}),
    ),
)
