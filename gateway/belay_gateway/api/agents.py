"""Agents, as the API server has them."""

from http import HTTPStatus

from belay_api.agent import Agent
from belay_gateway.api import models
from belay_gateway.api.operation import Answer, Call, Listing, Operation, Parts, listed, shown
from belay_kube.client import AGENTS

_RESOURCE = Agent.RESOURCE
_COLLECTION = "/namespaces/{namespace}/agents"


async def read(parts: Parts, call: Call[models.NamedAgent, None, None]) -> Answer:
    """As `kubectl get`."""
    namespace, name = call.where.namespace, call.where.name
    await parts.check(call.user, "get", _RESOURCE.plural, namespace, name)
    return Answer(shown(await parts.kube.get(AGENTS, namespace, name)))


async def listing(parts: Parts, call: Call[models.InNamespace, models.Paging, None]) -> Answer:
    """As `kubectl get`."""
    await parts.check(call.user, "list", _RESOURCE.plural, call.where.namespace)
    return await listed(parts, Listing(_RESOURCE, call.where.namespace), call.query)


OPERATIONS = (
    Operation(
        name="listAgents",
        method="GET",
        path=_COLLECTION,
        summary="List agents, a page at a time.",
        carry=listing,
        where=models.InNamespace,
        query=models.Paging,
        answers={HTTPStatus.OK: models.Agents},
        refusals=frozenset({HTTPStatus.GONE}),
    ),
    Operation(
        name="getAgent",
        method="GET",
        path=f"{_COLLECTION}/{{name}}",
        summary="Read an agent.",
        carry=read,
        where=models.NamedAgent,
        answers={HTTPStatus.OK: models.Agent},
    ),
)
