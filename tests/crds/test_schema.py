"""The generated definitions: structural, bounded and described everywhere, the same at every run, and up to date."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belay_api import generated, policy, schema
from belay_api.policies import POLICIES
from belay_api.resource import Kind

Json = dict[str, Any]

ROOT = Path(__file__).parent.parent.parent
KINDS = pytest.mark.parametrize("kind", schema.KINDS, ids=lambda kind: kind.__name__)


def nodes(node: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every node below `node`, with its path; the metadata is the API server's own."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        if f"{path}.{name}" not in (".metadata", ".apiVersion", ".kind"):
            yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from nodes(node[key], f"{path}[]")


FREE = {"x-kubernetes-preserve-unknown-fields": True}
"""A value of data that is its author's own; what it may be says the map it is in."""


def fields(kind: type[Kind]) -> dict[str, Json]:
    """Every node of a kind's schema by its path, but for values that are free."""
    return {path: node for path, node in nodes(schema.root_schema(kind)) if node != FREE}


def test_only_data_is_free() -> None:
    """Whatever else is written has a type; and no more than so many fields of data."""
    free = [path for kind in schema.KINDS for path, node in nodes(schema.root_schema(kind)) if node == FREE]
    assert free == [".status.result.data[]"]


@KINDS
def test_every_node_is_structural(kind: type[Kind]) -> None:
    """Each has a type, and none a reference, an alternative or a null."""
    for path, node in fields(kind).items():
        assert node["type"] in {"object", "array", "string", "integer", "boolean"}, path
        assert not node.keys() & {"$ref", "anyOf", "oneOf", "allOf", "nullable", "title"}, path
        assert node.get("additionalProperties") is not False, path
        assert node.get("default", 0) is not None, path


@KINDS
def test_every_string_list_and_map_is_bounded(kind: type[Kind]) -> None:
    """No user can make an object larger than its kind allows."""
    bound = {"array": "maxItems", "string": "maxLength"}
    for path, node in fields(kind).items():
        if node["type"] in bound and not node.keys() & {"enum"} and node.get("format") != "date-time":
            assert bound[node["type"]] in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


COUNTED = (".status", ".spec.usage.")
"""What people don't write."""


@KINDS
def test_every_number_is_bounded_below_and_in_a_spec_above(kind: type[Kind]) -> None:
    """What people write has both bounds; what is counted only begins at zero."""
    for path, node in fields(kind).items():
        if node["type"] == "integer":
            assert "minimum" in node, path
            assert "maximum" in node or path.startswith(COUNTED), path
            assert node["format"] == ("int32" if "maximum" in node else "int64"), path


@KINDS
def test_every_field_is_described(kind: type[Kind]) -> None:
    """`kubectl explain` has a sentence for the kind and each field."""
    for path, node in fields(kind).items():
        assert path.endswith("[]") or len(node["description"]) >= 10, path


@KINDS
def test_every_list_says_how_it_merges(kind: type[Kind]) -> None:
    """Conditions are told apart by type, so two writers can each keep theirs; owners are one whole."""
    for path, node in fields(kind).items():
        if path.endswith(".conditions"):
            assert node["x-kubernetes-list-map-keys"] == ["type"]
        if path == ".spec.owners":
            assert node["x-kubernetes-list-type"] == "atomic"
        assert node["type"] != "array" or "x-kubernetes-list-type" in node, path


@KINDS
def test_columns_and_selectors_name_fields_that_exist(kind: type[Kind]) -> None:
    """At most eight selectable scalars; a column of another kind of path is a condition or metadata."""
    known, resource = fields(kind), kind.RESOURCE
    assert len(resource.selectable) <= 8
    assert all(known[path]["type"] in {"string", "integer", "boolean"} for path in resource.selectable)
    paths = [c.path for c in resource.columns if not c.path.startswith((".metadata", ".status.conditions["))]
    assert {re.sub(r"\[\d+\]", "[]", path) for path in paths} <= known.keys()
    assert resource.columns[-1].name == "Age"


@KINDS
def test_rules_stand_at_the_root(kind: type[Kind]) -> None:
    """A rule on a field doesn't run when the field is removed (DESIGN.md section 2)."""
    below = [path for path, node in fields(kind).items() if path and "x-kubernetes-validations" in node]
    assert not below
    messages = [rule.message for rule in kind.RESOURCE.rules]
    assert len(set(messages)) == len(messages)


def test_names_are_unique() -> None:
    """No two kinds share a plural or a short name."""
    for names in ([k.RESOURCE.plural for k in schema.KINDS], [k.RESOURCE.short for k in schema.KINDS]):
        assert len(set(names)) == len(names)


NO_STRUCTURE = {
    "two types": ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "one type"),
    "unknown keyword": ({"type": "string", "contentEncoding": "base64"}, "contentEncoding"),
    "list that says nothing": ({"type": "array", "items": {"type": "string"}}, "how it merges"),
}


@pytest.mark.parametrize(("node", "said"), NO_STRUCTURE.values(), ids=NO_STRUCTURE)
def test_what_has_no_structural_form_is_an_error(node: Json, said: str) -> None:
    """A model that can't be carried over is found when the definitions are made."""
    with pytest.raises(ValueError, match=said):
        schema.structural(node, {})


def test_a_field_says_more_than_its_type() -> None:
    """What stands beside a reference wins over what it refers to, and None isn't a default."""
    defs = {"T": {"type": "string", "description": "of the type", "maxLength": 1}}
    node = {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}], "default": None, "description": "of the field"}
    assert schema.structural(node, defs) == {"description": "of the field", "type": "string", "maxLength": 1}


GENERATORS = {"schema": (schema, ROOT / "crds"), "policy": (policy, ROOT / "templates")}


@pytest.mark.parametrize("name", GENERATORS)
def test_the_generated_files_are_up_to_date(name: str) -> None:
    """What is checked in is what the models make."""
    module, folder = GENERATORS[name]
    pattern = schema.PATTERN if name == "schema" else policy.FILE
    assert generated.drift(folder, module.files(), pattern) == []


@pytest.mark.parametrize("name", GENERATORS)
def test_the_output_does_not_depend_on_the_run(name: str, tmp_path: Path) -> None:
    """Another process, with other hashes, writes the same bytes."""
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "crds")}
        command = [sys.executable, "-m", f"belay_api.{name}", str(tmp_path / seed)]
        subprocess.run(command, check=True, env=environment)
    texts = [{path.name: path.read_text() for path in (tmp_path / seed).iterdir()} for seed in ("1", "2")]
    assert texts[0] == texts[1] == GENERATORS[name][0].files()


def test_a_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, changed and left-over files are each told, with what to run; nothing is written."""
    files = {"x_1.yaml": "one\n", "x_2.yaml": "two\n"}
    (tmp_path / "x_2.yaml").write_text("changed\n")
    (tmp_path / "x_3.yaml").write_text("old\n")
    assert generated.main(files, "x_*.yaml", "make it", ["--check", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    for name, what in {"x_1": "is missing", "x_2": "differs", "x_3": "no longer generated"}.items():
        assert any(name in line and what in line and "make it" in line for line in said.splitlines())
    assert not (tmp_path / "x_1.yaml").exists()


def test_writing_makes_the_check_pass(tmp_path: Path) -> None:
    """A write removes what isn't generated any more and leaves files of others alone."""
    (tmp_path / "x_3.yaml").write_text("old\n")
    (tmp_path / "other.yaml").write_text("kept\n")
    assert generated.main({"x_1.yaml": "one\n"}, "x_*.yaml", "make it", [str(tmp_path)]) == 0
    assert generated.main({"x_1.yaml": "one\n"}, "x_*.yaml", "make it", ["--check", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.yaml", "x_1.yaml"]


def test_every_policy_denies_when_it_fails() -> None:
    """No policy lets a request through because it could not be evaluated, and each has a message that is made."""
    for each in POLICIES:
        made, binding = policy.documents(each)
        assert made["spec"]["failurePolicy"] == "Fail"
        assert binding["spec"]["validationActions"] == ["Deny"]
        assert all(check.message and check.reason in {"Forbidden", "Invalid"} for check in each.checks)
