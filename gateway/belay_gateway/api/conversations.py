"""Conversations with Model agents: sessions opened, read, written to and interrupted (DESIGN.md sections 5 and 6)."""

import uuid
from http import HTTPStatus

from belay_api.agent import Agent
from belay_api.agentsession import AgentSession
from belay_api.meta import VERB_DELEGATE
from belay_api.names import turn_name
from belay_api.pendingmessage import PendingMessage
from belay_api.sessionturn import SessionTurn
from belay_gateway.api import models, operation, resources
from belay_gateway.api.objects import Listing, check_namespace, got, listed, patched, selected, shown
from belay_gateway.api.operation import Answer, Call, Parts
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
    check_namespace(meta, namespace)
    agent = call.body.spec.agent_ref.name
    await parts.access.check(call.user, "create", _RESOURCE.plural, namespace)
    await parts.access.check(call.user, VERB_DELEGATE, Agent.RESOURCE.plural, namespace, agent)
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
    return await got(parts, call, _RESOURCE)


async def listing(parts: Parts, call: Call[models.InNamespace, models.SessionsQuery, None]) -> Answer:
    """As `kubectl get` with a selector."""
    return await listed(parts, call, Listing(_RESOURCE, selected(call.query.agent)))


async def turns(parts: Parts, call: Call[models.Named, models.TurnsQuery, None]) -> Answer:
    """In the order of the conversation, which no list of the API server has: each is read by its number."""
    namespace, name = call.where.namespace, call.where.name
    await parts.access.check(call.user, "list", SessionTurn.RESOURCE.plural, namespace)
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
    await parts.access.check(call.user, "create", PendingMessage.RESOURCE.plural, namespace)
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
    return await patched(parts, call, _RESOURCE, {"interruptRequest": uuid.uuid4().hex})


OPERATIONS = (
    operation.creating(
        "openSession",
        _COLLECTION,
        "Begin a conversation with a Model agent.",
        create,
        body=models.NewSession,
        answer=resources.AgentSession,
    ),
    operation.listing(
        "listSessions",
        _COLLECTION,
        "List conversations with Model agents, a page at a time.",
        listing,
        query=models.SessionsQuery,
        answer=resources.AgentSessions,
    ),
    operation.reading(
        "getSession", _ONE, "Read how a conversation with a Model agent goes.", read, answer=resources.AgentSession
    ),
    operation.reading(
        "listSessionTurns",
        f"{_ONE}/turns",
        "Read what was said, turn by turn, a page at a time.",
        turns,
        query=models.TurnsQuery,
        answer=resources.SessionTurns,
    ),
    operation.creating(
        "sendMessage",
        f"{_ONE}/messages",
        "Say something to a Model agent, in the caller's name.",
        send,
        where=models.Named,
        body=models.NewMessage,
        answer=models.MessageSent,
    ),
    operation.changing(
        "interruptSession",
        f"{_ONE}/interrupt",
        "Cut short what a Model agent is at.",
        interrupt,
        answer=resources.AgentSession,
    ),
)
