"""Texts cut to what a turn can hold, never inside a character, and never without saying so.

A turn is one object of etcd (1.5 MiB), which stores JSON as Go writes it: `<` takes six bytes there. So what many texts
take together is counted in *stored* bytes, what one says in UTF-8 bytes.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence

from belay_api.session_words import cut as cut_note
from belay_api.sessionturn import MAX_BLOCK_BYTES

_ESCAPED = {"<": 5, ">": 5, "&": 5, "\u2028": 3, "\u2029": 3}
"""What Go's JSON takes more for a character than Python's does, in bytes."""
_NOTE_BYTES = 80
"""Room for the note about a cut."""


def clean(text: str) -> str:
    """`text` without lone surrogates, which are no UTF-8, and without NUL, which models aren't handed."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def stored_bytes(text: str) -> int:
    """What `text` takes in etcd."""
    size = len(json.dumps(text, ensure_ascii=False).encode(errors="replace")) - 2
    return size + sum(text.count(char) * more for char, more in _ESCAPED.items())


def cut(text: str, stored: int = MAX_BLOCK_BYTES * 6, most: int = MAX_BLOCK_BYTES) -> str:
    """`text`, or its beginning and a note, in at most `most` UTF-8 and `stored` stored bytes; either is at least 80."""
    text = clean(text)
    size = len(text.encode())
    if size <= most and stored_bytes(text) <= stored:
        return text
    kept = text[: min(_fitting(text, stored), _fitting_plain(text, most))]
    return kept + cut_note(len(kept.encode()), size)


def _fitting(text: str, stored: int) -> int:
    """How many characters of `text` fit into `stored` bytes beside the note."""
    ends = range(1, len(text) + 1)
    return bisect_right(ends, stored - _NOTE_BYTES, key=lambda end: stored_bytes(text[:end]))


def _fitting_plain(text: str, most: int) -> int:
    return len(text.encode()[: max(0, most - _NOTE_BYTES)].decode(errors="ignore"))


def level(sizes: Sequence[int], budget: int) -> int:
    """The most that any of `sizes` may have so that all together stay within `budget`: small ones stay whole, and only
    what is above the level is cut to it."""
    left, rest = budget, sorted(sizes)
    while rest and rest[0] * len(rest) <= left:
        left -= rest.pop(0)
    return left // len(rest) if rest else budget
