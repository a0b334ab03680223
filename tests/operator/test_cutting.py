"""cutting.py: what fits stays whole, what doesn't is cut between two characters and says so."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belay_api.sessionturn import MAX_BLOCK_BYTES
from belay_operator.decisions.cutting import clean, cut, level, stored_bytes

TEXTS = st.text(max_size=300)


def as_go_writes(text: str) -> int:
    """Bytes of a JSON string the way the API server stores it."""
    written = json.dumps(text, ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        written = written.replace(char, f"\\u{ord(char):04x}")
    return len(written.encode()) - 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plain", 5, id="plain text"),
        pytest.param("grüße", 7, id="two bytes a character"),
        pytest.param("<b>", 13, id="angle brackets take six each"),
        pytest.param('a"\n', 5, id="escaped in two"),
        pytest.param("\x01", 6, id="a control character"),
        pytest.param("", 0, id="nothing"),
    ],
)
def test_stored_bytes_are_counted_as_the_api_server_writes_them(text: str, expected: int) -> None:
    """Go escapes what Python doesn't."""
    assert stored_bytes(text) == expected == as_go_writes(text)


@given(TEXTS)
def test_stored_bytes_of_any_text(text: str) -> None:
    """Property: as Go writes it."""
    assert stored_bytes(text) == as_go_writes(text)


@given(TEXTS, st.integers(80, 400), st.integers(80, 400))
def test_a_text_is_cut_within_both_bounds_or_not_at_all(text: str, stored: int, most: int) -> None:
    """Property: what is over a bound is a beginning and a note, what isn't is whole."""
    found = cut(text, stored, most)
    assert len(found.encode()) <= most
    assert stored_bytes(found) <= stored
    beginning, mark, _ = found.partition("\n[cut by Belay: ")
    assert clean(text).startswith(beginning)
    if len(clean(text).encode()) <= most and stored_bytes(clean(text)) <= stored:
        assert found == clean(text)
    else:
        assert mark


def test_a_cut_says_how_much_is_missing() -> None:
    """For who reads it, model or person."""
    found = cut("x" * 500, most=100)
    assert found == "x" * 20 + "\n[cut by Belay: 20 of 500 bytes are above]"


def test_a_cut_never_splits_a_character() -> None:
    """At UTF-8 boundaries; whole again without the note."""
    for most in range(80, 92):
        kept = cut("\U0001f600" * 100, most=most).partition("\n")[0]
        assert kept == "\U0001f600" * ((most - 80) // 4)


def test_a_text_as_long_as_messages_get_is_not_cut() -> None:
    """Whatever characters it is made of: a message's bound is in UTF-8 bytes."""
    longest = "<" * MAX_BLOCK_BYTES
    assert cut(longest) == longest
    assert cut(longest + "<") != longest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a\0b", "a\ufffdb", id="NUL"),
        pytest.param("a\ud800b", "a?b", id="half a character"),
        pytest.param("grüße", "grüße", id="nothing odd"),
    ],
)
def test_what_cannot_be_written_is_replaced(text: str, expected: str) -> None:
    """Neither a turn nor a model takes it."""
    assert clean(text) == expected == cut(text)


@pytest.mark.parametrize(
    ("sizes", "budget", "expected"),
    [
        pytest.param([], 100, 100, id="nothing"),
        pytest.param([10, 20], 100, 100, id="all fit"),
        pytest.param([50, 50], 100, 100, id="all fit exactly"),
        pytest.param([200], 100, 100, id="one is too long"),
        pytest.param([10, 200], 100, 90, id="the short one stays whole"),
        pytest.param([200, 200, 200], 100, 33, id="all are too long"),
        pytest.param([10, 40, 200, 300], 100, 30, id="the second is above the level too"),
    ],
)
def test_only_what_is_above_the_level_is_cut(sizes: list[int], budget: int, expected: int) -> None:
    """Short texts stay whole; the others share what is left."""
    assert level(sizes, budget) == expected


@given(st.lists(st.integers(0, 1000), max_size=20), st.integers(0, 5000))
def test_what_is_cut_to_the_level_fits(sizes: list[int], budget: int) -> None:
    """Property: together within the budget, and nothing is cut when all fit."""
    most = level(sizes, budget)
    assert sum(min(size, most) for size in sizes) <= budget
    assert sum(sizes) > budget or most >= max(sizes, default=0)
