"""What people see of a tool call (C5)."""

from typing import Any

import pytest

from belay_operator.decisions.previews import preview

SHOWN: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "{}"),
    "as it is": (
        {"agent": "a", "n": 1.5, "more": {"x": [None, True]}},
        '{"n": 1.5, "agent": "a", "more": {"x": [null, true]}}',
    ),
    "short before long": ({"prompt": "a long one", "agent": "a"}, '{"agent": "a", "prompt": "a long one"}'),
    "letters of all kinds": ({"a": "héé 世"}, '{"a": "héé 世"}'),
    "no line of its own": ({"a": "x\ny"}, r'{"a": "x\ny"}'),
    "nothing invisible": ({"a\u202e": "x\0\u200b\ud800"}, r'{"a\u202e": "x\u0000\u200b\ud800"}'),
    "as much as there may be": ({"a": "x" * 4087}, '{"a": "' + "x" * 4087 + '"}'),
}


@pytest.mark.parametrize(("arguments", "expected"), SHOWN.values(), ids=SHOWN)
def test_C5_arguments_as_people_see_them(arguments: dict[str, Any], expected: str) -> None:
    """All that prints, in JSON."""
    assert preview(arguments, "s-1") == expected


@pytest.mark.parametrize("size", [4097, 5000, 100_000])
def test_C5_what_is_not_shown_is_said(size: int) -> None:
    """How much is missing, and where it is; what is short was shown before."""
    frame = '{"agent": "a", "prompt": ""}'
    shown = preview({"prompt": "x" * (size - len(frame)), "agent": "a"}, "s-7")
    assert 4090 < len(shown) <= 4096
    words, _, note = shown.partition("\n")
    assert words.startswith('{"agent": "a", "prompt": "xxx')
    missing = f"[{size - len(words)} more characters: "
    assert note == missing + "read them all before you decide, kubectl get sessionturn s-7 -o yaml]"
