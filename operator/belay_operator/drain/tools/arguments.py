"""Arguments of tools as models of their own: one class is the schema that the model is told, and the check."""

import json
from typing import Any

from pydantic import ValidationError

from belay_api.resource import Part


class ToolArguments(Part):
    """The arguments of a tool, camelCase as the model writes them."""

    @classmethod
    def schema_of(cls) -> dict[str, Any]:
        """Their JSON Schema, as providers take it: without titles and defaults that say nothing."""
        schema = cls.model_json_schema(by_alias=True)
        schema.pop("title", None)
        schema.pop("description", None)
        schema["properties"] = {name: _plain(field) for name, field in schema.get("properties", {}).items()}
        return schema


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    """A field that may be left out, said as such and not as "or null"."""
    kept = {key: value for key, value in field.items() if key not in ("title", "default", "anyOf")}
    choices = [choice for choice in field.get("anyOf", ()) if choice != {"type": "null"}]
    return {**kept, **choices[0]} if len(choices) == 1 else field


def read(text: str | None) -> dict[str, Any]:
    """Arguments as the model wrote them. Raises ValueError when they are no JSON object, or say something twice: who is
    asked might see the one, and the tool take the other."""
    if not (text or "").strip():
        return {}
    try:
        found = json.loads(text or "", parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"it is {_WORDS.get(type(found), 'something else')}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {json.dumps(twice[:64])} is given more than once")
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


_WORDS: dict[type, str] = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false"}


def problems(error: ValidationError) -> str:
    """What is wrong with arguments, one field after the other."""
    found = [f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in error.errors()]
    return "; ".join(found[:8])
