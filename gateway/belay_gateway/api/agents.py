"""Agents, as the API server has them."""

from belay_api.agent import Agent
from belay_gateway.api import models, operation, resources
from belay_gateway.api.objects import Listing, got, listed
from belay_gateway.api.operation import Answer, Call, Parts

_RESOURCE = Agent.RESOURCE
_COLLECTION = "/namespaces/{namespace}/agents"


async def read(parts: Parts, call: Call[models.NamedAgent, None, None]) -> Answer:
    """As `kubectl get`."""
    return await got(parts, call, _RESOURCE)


async def listing(parts: Parts, call: Call[models.InNamespace, models.Paging, None]) -> Answer:
    """As `kubectl get`."""
    return await listed(parts, call, Listing(_RESOURCE))


OPERATIONS = (
    operation.listing(
        "listAgents",
        _COLLECTION,
        "List agents, a page at a time.",
        listing,
        query=models.Paging,
        answer=resources.Agents,
    ),
    operation.reading(
        "getAgent", f"{_COLLECTION}/{{name}}", "Read an agent.", read, where=models.NamedAgent, answer=resources.Agent
    ),
)
