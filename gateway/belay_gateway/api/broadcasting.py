"""Broadcasts: a transient word to an agent's sessions, or to a topic's listeners (C3)."""

from http import HTTPStatus

from belay_api.messages import Broadcast
from belay_api.names import Ref
from belay_gateway.api import models
from belay_gateway.api.operation import Answer, Call, Operation, Parts


async def to_agent(parts: Parts, call: Call[models.NamedAgent, None, models.Message]) -> Answer:
    """Tell every session of an agent that has a socket now."""
    agent = Ref(call.where.namespace, call.where.name)
    return _sent(await parts.broadcasts.to_agent(agent, call.user, call.body.body))


async def to_topic(parts: Parts, call: Call[models.NamedTopic, None, models.Message]) -> Answer:
    """Tell everyone who listens to a topic now."""
    topic = Ref(call.where.namespace, call.where.topic)
    return _sent(await parts.broadcasts.to_topic(topic, call.user, call.body.body))


def _sent(broadcast: Broadcast) -> Answer:
    return Answer({"id": broadcast.id})


OPERATIONS = (
    Operation(
        name="broadcastToAgent",
        method="POST",
        path="/namespaces/{namespace}/agents/{name}/broadcast",
        summary="Tell every session of an agent that has a socket now.",
        carry=to_agent,
        where=models.NamedAgent,
        body=models.Message,
        answers={HTTPStatus.OK: models.Sent},
    ),
    Operation(
        name="broadcastToTopic",
        method="POST",
        path="/namespaces/{namespace}/topics/{topic}/broadcast",
        summary="Tell everyone who listens to a topic now.",
        carry=to_topic,
        where=models.NamedTopic,
        body=models.Message,
        answers={HTTPStatus.OK: models.Sent},
    ),
)
