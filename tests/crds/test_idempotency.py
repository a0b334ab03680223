"""Names and hashes of idempotency keys: equal for the same request, different for any other (D5)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belay_api.idempotency import KEY, Keyed, Standing, keyed
from belay_api.meta import ANNOTATION_REQUEST_HASH, LABEL_IDEMPOTENCY

Json = dict[str, Any]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARTS = st.tuples(TEXT, TEXT, TEXT)


def body(labels: Json | None = None, **spec: Any) -> Json:
    """What is asked for."""
    return {"metadata": {"labels": labels or {}}, "spec": {"agentRef": {"name": "a"}, "task": {"prompt": "p"}, **spec}}


def made(key: Keyed, number: int = 1, **changes: Any) -> Json:
    """The object that stands under a key."""
    obj = key.marked(body(requester=key.caller), number)
    return {**obj, **changes}


@given(PARTS, PARTS)
def test_D5_other_parts_make_other_names(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Namespace, caller and key each count, also when they only split elsewhere."""
    names = [keyed(*parts, body()).name(1) for parts in (one, other)]
    assert (names[0] == names[1]) == (one == other)


@given(st.integers(1, 10**6))
def test_D5_the_number_is_read_back_from_the_name(number: int) -> None:
    """And is none for the name of another key, or of no key."""
    key = keyed("ns", "me", "k", body())
    assert key.number(key.name(number)) == number
    assert keyed("ns", "me", "other", body()).number(key.name(number)) == 0
    for name in (key.stem, f"{key.stem}-", f"{key.stem}-x", f"{key.stem}-1-1", f"{key.stem}-²"):
        assert key.number(name) == 0


SAME = {
    "order of keys": {"spec": {"task": {"prompt": "p"}, "agentRef": {"name": "a"}}},
    "a default written out": body(priority=0, desiredState="Running"),
    "the caller named": body(requester="me"),
    "empty labels": {**body(), "metadata": {}},
    "the asking session": {**body(), "metadata": {"annotations": {"x": "y"}}},
}
OTHER = {
    "prompt": body(task={"prompt": "q"}),
    "priority": body(priority=1),
    "labels": body({"a": "b"}),
    "agent": body(agentRef={"name": "b"}),
    "inputs": body(task={"prompt": "p", "inputs": {"a": "b"}}),
}


@pytest.mark.parametrize("asked", SAME.values(), ids=SAME)
def test_D5_the_same_body(asked: Json) -> None:
    """What only looks different is the same request."""
    first = keyed("ns", "me", "k", body())
    assert keyed("ns", "me", "k", asked) == first
    assert first.standing(made(keyed("ns", "me", "k", asked))) is Standing.SAME


@pytest.mark.parametrize("asked", OTHER.values(), ids=OTHER)
def test_D5_another_body(asked: Json) -> None:
    """Is told from it, however the first ended."""
    key = keyed("ns", "me", "k", asked)
    first = made(keyed("ns", "me", "k", body()))
    assert key.standing(first) is Standing.OTHER
    assert key.standing({**first, "status": {"phase": "Failed"}}) is Standing.OTHER


@pytest.mark.parametrize("phase", ["Pending", "Stuck", "Completed", "Cancelled", "Failed"])
def test_D5_only_a_failure_frees_the_key(phase: str) -> None:
    """Any other end is the answer."""
    key = keyed("ns", "me", "k", body())
    expected = Standing.FAILED if phase == "Failed" else Standing.SAME
    assert key.standing(made(key, status={"phase": phase})) is expected


def test_D5_what_another_made_is_no_answer() -> None:
    """Neither without a requester, nor with another, nor without the hash."""
    key = keyed("ns", "me", "k", body())
    for spec in (body()["spec"], body(requester="bob")["spec"]):
        assert key.standing(made(key, spec=spec)) is Standing.OTHER
    bare = made(key)
    bare["metadata"]["annotations"] = {}
    assert key.standing(bare) is Standing.OTHER


def test_D5_what_is_made_is_marked() -> None:
    """Name, label and hash, beside what was there."""
    key = keyed("ns", "me", "k", body({"team": "x"}))
    meta = key.marked({**body({"team": "x"}), "metadata": {"generateName": "a-", "labels": {"team": "x"}}}, 2)[
        "metadata"
    ]
    assert meta["name"] == f"{key.stem}-2"
    assert meta["labels"] == {"team": "x", LABEL_IDEMPOTENCY: key.stem}
    assert meta["annotations"] == {ANNOTATION_REQUEST_HASH: key.digest}
    assert key.selector() == f"{LABEL_IDEMPOTENCY}={key.stem}"


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "a\n", "x" * 257])
def test_D5_what_is_no_key(key: str) -> None:
    """Only what every header and shell carries as it is."""
    assert not KEY.fullmatch(key)
    assert KEY.fullmatch("build-1/step_2:~")
