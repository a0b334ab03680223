"""AsyncAPI 3.0 document of `/cable` from the models of its frames: `python -m belay_api.asyncapi [--check] FOLDER`.

Three channels: the socket itself, and what travels inside its frames, between the gateway and an agent or a topic's
listener. An operation says what the gateway does: it receives commands and actions, and sends everything else. Every
message has an example (belay_api/frame_examples.py), which its model has read.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from belay_api import actions, frames, generated, messages
from belay_api.frame_examples import EXAMPLES
from belay_api.frames import Frame
from belay_api.meta import DEFAULT_AUDIENCE, VERSION

Json = generated.Json

COMMAND = "make crds"
FILE = "asyncapi.yaml"
_TAGS: Final = ("action", "type")

COMMANDS: tuple[type[Frame], ...] = (frames.Command,)
SERVER_FRAMES: tuple[type[Frame], ...] = (*get_args(get_args(frames.CableFrame)[0]), messages.Addressed)
ACTIONS: tuple[type[Frame], ...] = get_args(get_args(actions.AnyAction)[0])
MESSAGES: tuple[type[Frame], ...] = get_args(get_args(messages.AnyMessage)[0])
EVENTS: tuple[type[Frame], ...] = (messages.Event, messages.SessionChanged, messages.TurnTaken)
ON_TOPICS: tuple[type[Frame], ...] = (*EVENTS, messages.Broadcast, messages.Error)
TO_AGENTS: tuple[type[Frame], ...] = tuple(message for message in MESSAGES if message not in EVENTS)
ANSWERS: tuple[type[Frame], ...] = (messages.Ack, messages.Error)


class _Plain(GenerateJsonSchema):
    """Without titles that only repeat a field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  (pydantic's signature)
        """No field's."""
        return False


def name_of(model: type[Frame]) -> str:
    """What a frame is called in the document: its tag on the wire, or the class' name in lower case."""
    tags = (model.model_fields[tag].default for tag in _TAGS if tag in model.model_fields)
    return next((str(tag) for tag in tags), model.__name__.lower())


def document() -> Json:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Belay's cable",
            "version": VERSION,
            "description": "Action Cable's wire protocol and what Belay says inside it; explained in docs/protocol.md.",
        },
        "defaultContentType": "application/json",
        "servers": {"gateway": _server()},
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "securitySchemes": _security(),
            "messages": {model.__name__: _message(model) for model in every_frame()},
            "schemas": _schemas(),
        },
    }


def every_frame() -> tuple[type[Frame], ...]:
    """All frames of both directions."""
    return (*COMMANDS, *SERVER_FRAMES, *ACTIONS, *MESSAGES)


def _server() -> Json:
    return {
        "host": "{gateway}",
        "protocol": "wss",
        "description": "Any gateway serves any agent.",
        "variables": {"gateway": {"default": "localhost:8080", "description": "Where the gateway is reached."}},
        "security": [{"$ref": f"#/components/securitySchemes/{scheme}"} for scheme in _security()],
    }


def _security() -> dict[str, Json]:
    audience = f"A token that the cluster accepts for audience {DEFAULT_AUDIENCE}"
    return {
        "bearer": {"type": "http", "scheme": "bearer", "description": f"{audience}."},
        "subprotocol": {
            "type": "httpApiKey",
            "in": "header",
            "name": "Sec-WebSocket-Protocol",
            "description": f"{audience}, for browsers: base64url.bearer.authorization.k8s.io.<base64url without =>.",
        },
    }


def _channels() -> dict[str, Json]:
    within = "Not an address: what the frames of the socket carry, for one identifier of"
    headers = {
        "type": "object",
        "properties": {"Sec-WebSocket-Protocol": {"type": "string", "pattern": frames.SUBPROTOCOL}},
        "required": ["Sec-WebSocket-Protocol"],
    }
    return {
        "cable": {
            "address": "/cable",
            "description": f"One WebSocket, of the subprotocol {frames.SUBPROTOCOL}.",
            "messages": _references((*COMMANDS, *SERVER_FRAMES)),
            "bindings": {"ws": {"method": "GET", "headers": headers, "bindingVersion": "0.1.0"}},
        },
        "agent": {
            "address": None,
            "description": f"{within} an agent's session: actions as `data`, messages as `message`.",
            "messages": _references((*ACTIONS, *TO_AGENTS)),
        },
        "topic": {
            "address": None,
            "description": f"{within} a topic.",
            "messages": _references(ON_TOPICS),
        },
    }


def _references(models: Iterable[type[Frame]]) -> dict[str, Json]:
    return {model.__name__: {"$ref": f"#/components/messages/{model.__name__}"} for model in models}


def _operations() -> dict[str, Json]:
    return {
        "hearCommands": _operation("receive", "cable", COMMANDS, "What a client says on the socket."),
        "speak": _operation("send", "cable", SERVER_FRAMES, "What the gateway says on the socket."),
        **{f"on{model.__name__}": _action(model) for model in ACTIONS},
        "tellAgents": _operation("send", "agent", TO_AGENTS, "What an agent's session is told."),
        "tellTopics": _operation("send", "topic", ON_TOPICS, "What a topic's listeners are told."),
    }


def _operation(action: str, channel: str, models: Iterable[type[Frame]], summary: str) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": _of_channel(channel, models),
    }


def _action(model: type[Frame]) -> Json:
    operation = _operation("receive", "agent", (model,), _summary(model))
    reply = {"channel": {"$ref": "#/channels/agent"}, "messages": _of_channel("agent", ANSWERS)}
    return {**operation, "reply": reply}


def _of_channel(channel: str, models: Iterable[type[Frame]]) -> list[Json]:
    return [{"$ref": f"#/channels/{channel}/messages/{model.__name__}"} for model in models]


def _summary(model: type[Frame]) -> str:
    return (model.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def _message(model: type[Frame]) -> Json:
    return {
        "name": name_of(model),
        "summary": _summary(model),
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "examples": [{"payload": example.wire()} for example in EXAMPLES[model]],
    }


def _schemas() -> Mapping[str, Json]:
    mode: JsonSchemaMode = "validation"
    asked = [(model, mode) for model in every_frame()]
    made = models_json_schema(asked, ref_template="#/components/schemas/{model}", schema_generator=_Plain)[1]["$defs"]
    return {name: _tagged(_portable(schema)) for name, schema in made.items()}


def _portable(node: Any) -> Any:
    """Patterns as ECMAScript has them, which knows no POSIX classes, and no `discriminator`, which is OpenAPI's."""
    if isinstance(node, list):
        return [_portable(child) for child in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _portable(child) for key, child in node.items() if key != "discriminator"}
    if isinstance(pattern := kept.get("pattern"), str):
        kept["pattern"] = pattern.replace("[:cntrl:]", r"\u0000-\u001f\u007f")
    return kept


def _tagged(schema: Json) -> Json:
    """A tag has a default in Python and none on the wire: without it nobody could tell which frame it is."""
    properties = schema.get("properties", {})
    tags = [tag for tag in _TAGS if "const" in properties.get(tag, {})]
    for tag in tags:
        properties[tag].pop("default", None)
    required = [*tags, *schema.get("required", [])]
    return {**schema, "required": required} if required else schema


def files() -> dict[str, str]:
    """The text of the document, by file name."""
    return {
        FILE: generated.header("the models in crds/belay_api/frames.py, actions.py and messages.py", COMMAND)
        + generated.dump(document())
    }


if __name__ == "__main__":
    sys.exit(generated.main(files(), FILE, COMMAND))
