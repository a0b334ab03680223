"""CustomResourceDefinitions from the models: `python -m belay_api.schema [--check] FOLDER`.

Promises a structural schema: references inlined, an optional field is one that isn't required (never a nullable one),
and nothing the models say is lost: a keyword that can't be carried over, or a list that doesn't say how it merges, is
an error here and not a surprise on the API server. Unknown fields need no word: the server prunes or refuses them.
"""

import sys
from collections.abc import Mapping

from belay_api import generated, meta
from belay_api.agent import Agent
from belay_api.agentsession import AgentSession
from belay_api.agentsubscription import AgentSubscription
from belay_api.delegation import Delegation
from belay_api.delegationsweeper import DelegationSweeper
from belay_api.pendingmessage import PendingMessage
from belay_api.permissionrequest import PermissionRequest
from belay_api.resource import Column, Kind
from belay_api.sessionturn import SessionTurn

Json = generated.Json

KINDS: tuple[type[Kind], ...] = (
    Agent,
    AgentSession,
    AgentSubscription,
    Delegation,
    DelegationSweeper,
    PendingMessage,
    PermissionRequest,
    SessionTurn,
)
COMMAND = "make crds"
PATTERN = f"{meta.GROUP}_*.yaml"

_CARRIED = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "default",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
)
_TRANSLATED = {"title", "$ref", "anyOf", "properties", "required", "items", "additionalProperties"}
_INT32 = 2**31
_TYPE_META = {
    "apiVersion": {"description": f"Version of the schema of this object: {meta.API_VERSION}.", "type": "string"},
    "kind": {"description": "Kind of this object.", "type": "string"},
    "metadata": {"type": "object"},
}


def structural(node: Json, defs: Mapping[str, Json]) -> Json:
    """The structural form of one node of a pydantic JSON schema. Raises ValueError for what has none."""
    node = _resolved(node, defs)
    if unknown := node.keys() - _TRANSLATED - set(_CARRIED):
        raise ValueError(f"no structural form for {sorted(unknown)} in {node}")
    if node.get("x-kubernetes-preserve-unknown-fields") and "type" not in node:
        return node
    if node["type"] == "integer":
        node["format"] = "int32" if node.get("maximum", _INT32) < _INT32 else "int64"
    made: Json = {key: node[key] for key in _CARRIED if key in node}
    if node["type"] == "array":
        if "x-kubernetes-list-type" not in node:
            raise ValueError(f"a list must say how it merges (x-kubernetes-list-type): {node}")
        made["items"] = structural(node["items"], defs)
    if isinstance(node.get("additionalProperties"), dict):
        made["additionalProperties"] = structural(node["additionalProperties"], defs)
    if "properties" in node:
        made["properties"] = {name: structural(child, defs) for name, child in node["properties"].items()}
    if "required" in node:
        made["required"] = node["required"]
    return made


def _resolved(node: Json, defs: Mapping[str, Json]) -> Json:
    """`node` with references and `X | None` replaced by what they stand for; what the field says of itself wins."""
    beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    if "$ref" in node:
        return _resolved({**defs[node["$ref"].rpartition("/")[2]], **beside}, defs)
    if "anyOf" in node:
        choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        if len(choices) != 1:
            raise ValueError(f"a field has one type, or that and None: {node}")
        if beside.get("default", ...) is None:
            del beside["default"]
        return _resolved({**choices[0], **beside}, defs)
    return dict(node)


def root_schema(kind: type[Kind]) -> Json:
    """The `openAPIV3Schema` of one kind."""
    raw = kind.model_json_schema(by_alias=True)
    made = structural(raw, raw.pop("$defs", {}))
    made["properties"] = {**_TYPE_META, **made["properties"]}
    if kind.RESOURCE.rules:
        made["x-kubernetes-validations"] = [{"rule": r.rule, "message": r.message} for r in kind.RESOURCE.rules]
    return made


def definition(kind: type[Kind]) -> Json:
    """The CustomResourceDefinition of one kind."""
    resource = kind.RESOURCE
    version: Json = {
        "name": meta.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root_schema(kind)},
        **({"subresources": {"status": {}}} if "status" in kind.model_fields else {}),
        "additionalPrinterColumns": [_column(column) for column in resource.columns],
    }
    if resource.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in resource.selectable]
    names = {
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "plural": resource.plural,
        "singular": resource.singular,
        "shortNames": [resource.short],
        "categories": [meta.CATEGORY],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{meta.GROUP}"},
        "spec": {"group": meta.GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _column(column: Column) -> Json:
    made: Json = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        made["description"] = column.description
    if column.priority:
        made["priority"] = column.priority
    return made


def files() -> dict[str, str]:
    """The text of each definition, by file name."""
    return {
        f"{meta.GROUP}_{kind.RESOURCE.plural}.yaml": generated.header("the models in crds/belay_api", COMMAND)
        + generated.dump(definition(kind))
        for kind in KINDS
    }


if __name__ == "__main__":
    sys.exit(generated.main(files(), PATTERN, COMMAND))
