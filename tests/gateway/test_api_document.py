"""The OpenAPI document: in step with the code, valid, and kept by the running gateway whatever it is asked."""

import asyncio
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from belay_api import generated
from belay_gateway.api import openapi
from belay_kube.client import PERMISSION_REQUESTS, Kube
from gateway.caller import DELEGATE, EVERYTHING, Caller, caller, permission_request
from gateway.conversation import Conversation, text, tool_use
from gateway.stage import Running, Stage

DOCS = Path(__file__).parent.parent.parent / "docs"
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    response_schema_conformance,
    content_type_conformance,
]
EXAMPLES = 12
ATTACH = {**DELEGATE, "verbs": ["attach"]}


def test_the_copy_in_docs_is_up_to_date() -> None:
    """What is checked in is what the gateway serves."""
    assert generated.drift(DOCS, openapi.files(), openapi.FILE) == []


def test_every_operation_has_a_name_of_its_own() -> None:
    """Clients are generated from them; each also says what its path names."""
    names = [operation.name for operation in openapi.OPERATIONS]
    assert len(names) == len(set(names))
    for operation in openapi.OPERATIONS:
        for name in operation.where.model_fields:
            assert f"{{{name}}}" in operation.path


def test_every_schema_is_one() -> None:
    """By JSON Schema's own meta-schema, with every reference resolved."""
    document = openapi.document()
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        assert jsonschema_rs.meta.is_valid(schema)
    text = openapi.files()[openapi.FILE]
    assert "[:" not in text
    assert _refs(document) <= {f"#/components/schemas/{name}" for name in schemas}


def _refs(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*map(_refs, node.values()))
    return set().union(*map(_refs, node)) if isinstance(node, list) else set()


async def test_served_without_a_token(gateway: Running) -> None:
    """Whoever is to write a client needs no account."""
    answer = await Caller(gateway, "", None).send("GET", "/openapi.json")
    assert (answer.status, answer.type, answer.body) == (200, "application/json", openapi.document())


@pytest.fixture
async def alice(stage: Stage, gateway: Running, gateway_kube: Kube) -> Caller:
    """Somebody who may do everything here, with an agent, its session and work in every way."""
    who = await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE, ATTACH)
    await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(who.token)
    await peer.subscribe(f"{stage.namespace}/a", "s1")
    await stage.offered("d", "a", topic="t")
    await gateway_kube.create(PERMISSION_REQUESTS, stage.namespace, permission_request("d"))
    talk = Conversation(stage, "d", "a")
    await talk.open()
    await talk.turn(1, text("hello"), tool_use("toolu_1", "delegate"), usage={"calls": 1})
    await talk.stands("Idle", turns=1)
    return who


SPOKEN = {"agent": "a", "sessionId": "s1", "attempt": 1}
GOOD: dict[str, Any] = {
    "createDelegation": {"spec": {"agentRef": {"name": "a"}, "task": {"prompt": "do it"}}},
    "listDelegations": None,
    "getDelegation": None,
    "heartbeatDelegation": SPOKEN,
    "progressDelegation": {**SPOKEN, "progress": {"percent": 40, "message": "at it"}},
    "replyDelegation": {**SPOKEN, "result": {"text": "fine", "data": {"n": 1}}},
    "cancelDelegation": None,
    "listAgents": None,
    "getAgent": None,
    "broadcastToAgent": {"body": {"say": "hello"}},
    "broadcastToTopic": {"body": "hello"},
    "listPermissionRequests": None,
    "decidePermissionRequest": {"behavior": "Allow", "reason": "fine"},
    "endSession": None,
    "openSession": {"spec": {"agentRef": {"name": "a"}}},
    "listSessions": None,
    "getSession": None,
    "listSessionTurns": None,
    "sendMessage": {"content": "hello", "bounceBack": True},
    "interruptSession": None,
}
"""A body that each operation takes, in an order in which all go well."""


async def test_every_operation_succeeds_as_the_document_says(alice: Caller) -> None:
    """Asked for what is there, in an order that makes sense: each answers 2xx, of the schema that is promised."""
    await asyncio.to_thread(_succeed, alice)


def _succeed(alice: Caller) -> None:
    operations = {operation.definition.raw["operationId"]: operation for operation in _operations(alice)}
    assert operations.keys() == GOOD.keys()
    for name, body in GOOD.items():
        case = operations[name].Case(
            path_parameters={"namespace": alice.namespace, "session": "s1", "topic": "t", "name": "d"},
            **({} if body is None else {"body": body, "media_type": "application/json"}),
        )
        _aim(case, alice.namespace)
        answer = case.call_and_validate(headers=_bearer(alice), checks=CHECKS)
        assert 200 <= answer.status_code < 300, f"{name}: {answer.status_code} {answer.content!r}"


async def test_the_gateway_keeps_to_the_document(alice: Caller) -> None:
    """Every operation, with what hypothesis makes of its schemas: no 5xx, and only what the document says."""
    await asyncio.to_thread(_run, alice)


def _run(alice: Caller) -> None:
    for operation in _operations(alice):
        _try(operation, alice)


def _operations(alice: Caller) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{alice.gateway.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == len(openapi.OPERATIONS)
    return operations


def _try(operation: Any, alice: Caller) -> None:
    asked: set[int] = set()

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Case[Any]) -> None:
        _aim(case, alice.namespace)
        asked.add(case.call_and_validate(headers=_bearer(alice), checks=CHECKS).status_code)

    run()
    assert not asked <= {401, 403, 404}, f"{operation.label}: nothing but {asked}"


def _aim(case: Case[Any], namespace: str) -> None:
    """Names that nobody has are all alike: most requests go to what is there."""
    known = {"namespace": namespace, "session": "s1", "name": "a" if "/agents/" in case.path else "d"}
    given = case.path_parameters or {}
    case.path_parameters = {name: known.get(name, value) for name, value in given.items()}
    if isinstance(case.body, dict) and "sessionId" in case.body:
        case.body = {**case.body, "agent": "a", "sessionId": "s1"}


def _bearer(alice: Caller) -> dict[str, str]:
    return {"Authorization": f"Bearer {alice.token}"}
