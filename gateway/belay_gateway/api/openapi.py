"""The OpenAPI 3.1 document, made from the operations and their models: `python -m belay_gateway.api.openapi FOLDER`.

Served at `/openapi.json`; the copy in docs/ is checked for drift by `make generated`.
"""

import json
import sys
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from belay_api import generated
from belay_api.resource import NO_CONTROLS
from belay_gateway.api import agents, broadcasting, conversations, delegations, permissions, sessions
from belay_gateway.api.operation import PREFIX, Operation
from belay_gateway.api.problems import CONTENT_TYPE, Problem

Json = dict[str, Any]

COMMAND = "make openapi"
FILE = "openapi.json"
OPERATIONS: Final[tuple[Operation, ...]] = (
    *delegations.OPERATIONS,
    *sessions.OPERATIONS,
    *agents.OPERATIONS,
    *broadcasting.OPERATIONS,
    *permissions.OPERATIONS,
    *conversations.OPERATIONS,
)
_REF = "#/components/schemas/{model}"
_JSON = "application/json"
_DESCRIPTION = (
    "The verbs of Belay's sockets over HTTP, for sessions that have one and for people. Whoever calls may do what "
    "kubectl would let them do. Refusals are RFC 9457 problem details."
)
_HEADERS: Final[dict[HTTPStatus, Json]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
}


def document() -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Belay", "version": version("belay"), "description": _DESCRIPTION},
        "servers": [{"url": PREFIX}],
        "security": [{"bearer": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A Kubernetes token for the gateway's audience.",
                }
            },
        },
    }


def _paths() -> Json:
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _operation(operation: Operation) -> Json:
    answers = {str(int(status)): _answer(status, model) for status, model in operation.answers.items()}
    refusals = {str(int(status)): _refusal(status) for status in operation.statuses()}
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            *_parameters("path", operation.where),
            *_parameters("query", operation.query),
            *_parameters("header", operation.headers),
        ],
        "responses": {**answers, **refusals},
    }
    if operation.body:
        described["requestBody"] = {"required": True, "content": _content(_JSON, operation.body)}
    return described


def _parameters(place: str, model: type[BaseModel] | None) -> list[Json]:
    if model is None:
        return []
    schema = model.model_json_schema(ref_template=_REF)
    # What a parameter refers to stands beside it, as parameters have no components of their own.
    defs = schema.get("$defs", {})
    required = schema.get("required", [])
    return [
        {"name": name, "in": place, "required": name in required, "schema": _portable(_inlined(field, defs))}
        for name, field in schema["properties"].items()
    ]


def _inlined(node: Any, defs: Json) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            return defs[node["$ref"].rpartition("/")[2]]
        if "anyOf" in node:  # a parameter is there or not, and never null
            (only,) = (choice for choice in node["anyOf"] if choice.get("type") != "null")
            beside = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
            return {**_inlined(only, defs), **beside}
    return node


def _answer(status: HTTPStatus, model: type[BaseModel] | None) -> Json:
    return {"description": status.phrase, **({"content": _content(_JSON, model)} if model else {})}


def _refusal(status: HTTPStatus) -> Json:
    headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
    return {"description": status.phrase, **headers, "content": _content(CONTENT_TYPE, Problem)}


def _content(kind: str, model: type[BaseModel]) -> Json:
    return {kind: {"schema": {"$ref": _REF.format(model=model.__name__)}}}


def _schemas() -> Json:
    models = {model for operation in OPERATIONS for model in operation.answers.values() if model}
    models |= {operation.body for operation in OPERATIONS if operation.body} | {Problem}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, made = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    schemas: Json = _portable(made["$defs"])
    return schemas


def _portable(node: Any) -> Any:
    """Patterns as JSON Schema's dialect has them: no classes of POSIX in them."""
    if isinstance(node, dict):
        return {
            key: _PATTERNS.get(value, value) if key == "pattern" else _portable(value) for key, value in node.items()
        }
    return [_portable(item) for item in node] if isinstance(node, list) else node


_PATTERNS: Final = {NO_CONTROLS: r"^[^\u0000-\u001f\u007f]+$"}


def files() -> dict[str, str]:
    """The document, by its file name."""
    return {FILE: json.dumps(document(), indent=2, ensure_ascii=False) + "\n"}


async def serve(_: web.Request) -> web.Response:
    """GET /openapi.json."""
    return web.Response(body=_text(), content_type=_JSON)


@cache
def _text() -> bytes:
    """Made once: whoever asks, without a token, costs no more than that."""
    return json.dumps(document()).encode()


if __name__ == "__main__":
    sys.exit(generated.main(files(), FILE, COMMAND))
