"""What one gateway tells the others over the bus: a frame and its address, trusted in neither size nor shape."""

import json
from typing import Annotated, Any

from pydantic import StringConstraints, ValidationError

from belay_api.frames import Frame
from belay_api.messages import Broadcast
from belay_api.names import Ref, parse_ref, short_hash
from belay_gateway.wire import text_of

MAX_BODY_BYTES = 64 * 1024
"""Of a broadcast's body, as compact UTF-8 JSON."""
MAX_CARRIED_BYTES = MAX_BODY_BYTES + 32 * 1024


class Unfit(Exception):
    """Bytes that are no broadcast, or not of that subject; the message says what is wrong with them."""


class Carried(Frame):
    """A broadcast on its way, and the gateway it was sent to."""

    gateway: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    broadcast: Broadcast


def subject_of(broadcast: Broadcast) -> str:
    """`<namespace>.agent.<name>` or `<namespace>.topic.<hash>`: names of agents hold no dot, topics anything. Pure.

    Raises ValueError when it isn't to exactly one of both.
    """
    if (broadcast.agent is None) == (broadcast.topic is None):
        raise ValueError("set exactly one of agent and topic")
    to = address_of(broadcast)
    return f"{to.namespace}.agent.{to.name}" if broadcast.agent else f"{to.namespace}.topic.{short_hash(to.name)}"


def address_of(broadcast: Broadcast) -> Ref:
    """The agent or the topic. Raises ValueError."""
    return parse_ref(broadcast.agent or broadcast.topic or "")


def pack(gateway: str, broadcast: Broadcast) -> bytes:
    """The bytes of a broadcast."""
    return text_of(Carried(gateway=gateway, broadcast=broadcast).wire()).encode()


def unpack(subject: str, data: bytes) -> Carried:
    """What the bytes say. Raises Unfit."""
    if len(data) > MAX_CARRIED_BYTES:
        raise Unfit(f"{len(data)} bytes, at most {MAX_CARRIED_BYTES}")
    try:
        carried = Carried.model_validate_json(data)
        expected = subject_of(carried.broadcast)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise Unfit(f"{where}: {first['msg']}"[:300]) from None
    except ValueError as error:
        raise Unfit(str(error)[:300]) from None
    if subject != expected:
        raise Unfit(f"addressed to {expected}"[:300])
    return carried


def body_text(body: Any) -> str:
    """A body as compact JSON. Raises ValueError when it is none."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
