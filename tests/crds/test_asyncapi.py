"""docs/asyncapi.yaml: a valid AsyncAPI document that has every frame, with examples that are such frames."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from belay_api import actions, asyncapi, frames, messages
from belay_api.frame_examples import EXAMPLES

ROOT = Path(__file__).parent.parent.parent
SPECIFICATION = ROOT / "tests/node/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"
DOCUMENT: dict[str, Any] = yaml.safe_load(asyncapi.files()[asyncapi.FILE])
MODELS = {model.__name__: model for model in asyncapi.every_frame()}


def test_document_is_what_the_models_say() -> None:
    """The file in the repository is the one that would be generated."""
    assert (ROOT / "docs" / asyncapi.FILE).read_text(encoding="utf-8") == asyncapi.files()[asyncapi.FILE]


def test_document_is_valid_asyncapi() -> None:
    """It satisfies AsyncAPI's own schema of version 3.0, and every reference leads somewhere."""
    assert SPECIFICATION.exists(), "AsyncAPI's schema comes with npm: install Node.js 20 or newer, `make node-clients`"
    specification = jsonschema_rs.validator_for(json.loads(SPECIFICATION.read_text(encoding="utf-8")))
    assert [f"{error.instance_path}: {error.message}"[:300] for error in specification.iter_errors(DOCUMENT)] == []
    assert [reference for reference in _references(DOCUMENT) if _at(reference) is None] == []


def test_document_has_every_frame() -> None:
    """Each member of the contract's unions is a message of the document, under its name on the wire."""
    names = {message["name"] for message in DOCUMENT["components"]["messages"].values()}
    tags = {
        schema["properties"][tag]["const"]
        for adapter, tag in ((actions.ACTIONS, "action"), (messages.MESSAGES, "type"), (frames.CABLE_FRAMES, "type"))
        for schema in adapter.json_schema()["$defs"].values()
        if "const" in schema.get("properties", {}).get(tag, {})
    }
    assert names == tags | {"command", "addressed"}
    operations = DOCUMENT["operations"]
    assert {name for name in operations if name.startswith("on")} == {f"on{m.__name__}" for m in asyncapi.ACTIONS}


@pytest.mark.parametrize("name", MODELS)
def test_examples_fit_schema_and_model(name: str) -> None:
    """Each example in the document is read by its model, and by the document's own schema of it."""
    message = DOCUMENT["components"]["messages"][name]
    assert len(message["examples"]) == len(EXAMPLES[MODELS[name]]) > 0
    schema = jsonschema_rs.validator_for({**DOCUMENT, **message["payload"]})
    for example in (example["payload"] for example in message["examples"]):
        assert MODELS[name].model_validate(example).wire() == example
        assert schema.is_valid(example)
    assert not schema.is_valid({"nothing": "of the kind"})


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [reference for child in node.values() for reference in _references(child)]
    return [reference for child in node for reference in _references(child)] if isinstance(node, list) else []


def _at(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node.get(part) if isinstance(node, dict) else None
    return node
