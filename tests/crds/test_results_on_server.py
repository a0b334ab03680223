"""Results on the API server: any JSON object as data, kept as it is, and as final as the rest of an end (D8)."""

import pytest
from pydantic import ValidationError

from belay_api.delegation import Result
from belay_kube.client import DELEGATIONS, JSON_PATCH, Json, Kube
from belay_kube.errors import Invalid
from crds_cases import in_phase

DATA: Json = {
    "nested": {"list": [1, "two", {"three": 3}], "yes": True},
    "number": 1.5,
    "text": "\u00fc\U0001f600",
    "empty": {},
    "in a list": [None, {}, []],
}


async def _ended(kubes: dict[str, Kube], namespace: str, result: Json) -> Json:
    obj = await in_phase(kubes, namespace, "Dispatched")
    return await kubes["gateway"].patch_status(DELEGATIONS, obj, {"phase": "Completed", "result": result})


async def test_D8_data_is_kept_whatever_its_fields_are(kubes: dict[str, Kube], namespace: str) -> None:
    """Nothing is pruned, and the model reads what the server kept."""
    ended = await _ended(kubes, namespace, {"text": "done", "data": DATA})
    assert ended["status"]["result"] == {"text": "done", "data": DATA}
    assert Result.model_validate(ended["status"]["result"]).data == DATA


REWRITES: dict[str, Json] = {
    "value changed": {"data": {"a": 2}},
    "value changed inside": {"data": {"b": {"c": 2}}},
    "field added": {"data": {"d": 1}},
    "field renamed": {"data": {"a": None, "z": 1}},
    "field renamed inside": {"data": {"b": {"c": None, "z": 1}}},
    "field removed": {"data": {"a": None}},
    "all removed": {"data": None},
}


@pytest.mark.parametrize("change", REWRITES.values(), ids=REWRITES)
async def test_D1_data_of_an_end_is_not_rewritten(kubes: dict[str, Kube], namespace: str, change: Json) -> None:
    """Each way to make other data of it is refused."""
    ended = await _ended(kubes, namespace, {"data": {"a": 1, "b": {"c": 1}}})
    with pytest.raises(Invalid, match=r"status\.result can't change"):
        await kubes["operator"].patch_status(DELEGATIONS, ended, {"result": change})


@pytest.mark.parametrize("value", ["text", 1, [1], True])
async def test_D8_data_is_an_object(kubes: dict[str, Kube], namespace: str, value: object) -> None:
    """A bare value is refused: what reads it later finds fields by name."""
    obj = await in_phase(kubes, namespace, "Dispatched")
    patch = [{"op": "add", "path": "/status/result", "value": {"data": value}}]
    with pytest.raises(Invalid, match=r"status\.result\.data"):
        await kubes["gateway"].patch(
            DELEGATIONS, namespace, obj["metadata"]["name"], patch, subresource="status", content_type=JSON_PATCH
        )


def test_D8_data_is_what_a_merge_patch_can_store() -> None:
    """Null fields are left out, however deep they are; the nulls of a list stay."""
    data: Json = {"a": None, "b": {"c": None, "d": 1}, "e": [None, {"f": None}]}
    assert Result.model_validate({"data": data}).data == {"b": {"d": 1}, "e": [None, {}]}


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"at": {1, 2}}, b"bytes"], ids=repr)
def test_D8_data_is_json(value: object) -> None:
    """What JSON has no word for is refused where it is made."""
    with pytest.raises(ValidationError):
        Result.model_validate({"data": {"x": value}})


def test_D6_text_and_data_are_counted_together() -> None:
    """In bytes of UTF-8, data as compact JSON."""
    assert Result(text="\u00e9", data={"a": "\u00e9"}).inline_bytes() == 2 + len('{"a":"xx"}')
    assert Result(uri="https://x").inline_bytes() == 0
