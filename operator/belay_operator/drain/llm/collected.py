"""What a model says, gathered piece by piece into blocks that fit a SessionTurn, whatever it says.

An answer is cut at MAX_ANSWER_BYTES of words and arguments, at MAX_BLOCK_BYTES of arguments of one call, and at
MOST_PARTS words and calls. From then on `full` is true: whoever reads stops reading, and gives CUT as the reason why
the answer stopped. Words that were cut end with CUT_NOTE; arguments that were cut are malformed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from belay_api.sessionturn import MAX_ASSISTANT_BLOCKS, MAX_BLOCK_BYTES, Block
from belay_operator.drain.llm.base import Hear

MAX_ANSWER_BYTES = 384 * 1024
MOST_PARTS = MAX_ASSISTANT_BLOCKS - MAX_ANSWER_BYTES // MAX_BLOCK_BYTES - 1
"""Words and calls of an answer; long words become several blocks, which all fit a turn."""
CUT = "cut"
CUT_NOTE = f"\n[cut here: an answer holds at most {MAX_ANSWER_BYTES // 1024} KiB]"
NO_ARGUMENTS = "{}"
"""What a call without a word of arguments has as its input."""

_MOST_NAME = 64
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_USABLE_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")


@dataclass
class _Part:
    type: Literal["Text", "ToolUse"]
    tool_use_id: str | None = None
    name: str | None = None
    pieces: list[str] = field(default_factory=list)
    size: int = 0


class Collected:
    """Words and calls in the order in which they were said; `taken` are ids of calls that stand for others already."""

    def __init__(self, hear: Hear, taken: Iterable[str] = ()) -> None:
        self._hear = hear
        self._taken = set(taken)
        self._parts: list[_Part] = []
        self.full = False
        self.size = 0

    @property
    def calls(self) -> bool:
        """Whether a tool was called."""
        return any(part.type == "ToolUse" for part in self._parts)

    def say(self, piece: str) -> None:
        """More words, heard as far as they are kept; after a call they are a block of their own."""
        if not piece or not self._has_words():
            return
        kept = self._add(piece, MAX_ANSWER_BYTES)
        if self.full:
            self._parts[-1].pieces.append(CUT_NOTE)
        self._hear(kept + CUT_NOTE if self.full else kept)

    def call(self, tool_use_id: str | None, name: str | None) -> None:
        """A call begins. An id that no resource takes, or that another call has, is left out: whoever stores the call
        gives it one (L14). What no tool can be called by is made into a name."""
        if self._is_refused():
            return
        usable = tool_use_id if tool_use_id and _USABLE_ID.fullmatch(tool_use_id) else None
        if usable in self._taken:
            usable = None
        if usable:
            self._taken.add(usable)
        self._parts.append(_Part("ToolUse", usable, _as_name(name)))

    def write(self, piece: str) -> None:
        """More of the JSON text of the arguments of the call that began last."""
        if piece and not self.full:
            self._add(piece, MAX_BLOCK_BYTES - self._parts[-1].size)

    def blocks(self) -> list[Block]:
        """All of it; blocks of nothing are left out."""
        return [block for part in self._parts for block in _blocks(part)]

    def _has_words(self) -> bool:
        """Whether words can be added to the last part, which is made one of words if it isn't."""
        if self._parts and self._parts[-1].type == "Text":
            return not self.full
        if self._is_refused():
            return False
        self._parts.append(_Part("Text"))
        return True

    def _is_refused(self) -> bool:
        self.full = self.full or len(self._parts) >= MOST_PARTS
        return self.full

    def _add(self, piece: str, room: int) -> str:
        """Add to the last part what there is room for, and return that."""
        raw = written(piece).encode()
        room = min(room, MAX_ANSWER_BYTES - self.size)
        kept = raw[:room].decode(errors="ignore")
        self.full = len(raw) > room
        self._parts[-1].pieces.append(kept)
        self._parts[-1].size += min(len(raw), room)
        self.size += min(len(raw), room)
        return kept


def written(text: str) -> str:
    """Text that can be written as UTF-8: halves of characters become question marks."""
    return text.encode("utf-8", "replace").decode()


def _as_name(name: str | None) -> str:
    return _NOT_IN_NAMES.sub("_", name or "")[:_MOST_NAME] or "unnamed"


def _blocks(part: _Part) -> Iterator[Block]:
    said = "".join(part.pieces)
    if part.type == "ToolUse":
        yield Block(type="ToolUse", tool_use_id=part.tool_use_id, name=part.name, input=said or NO_ARGUMENTS)
        return
    for piece in split(said, MAX_BLOCK_BYTES):
        yield Block(type="Text", text=piece)


def split(text: str, most: int) -> Iterator[str]:
    """Pieces of at most so many UTF-8 bytes, none of which ends within a character."""
    raw = text.encode()
    while raw:
        piece = raw[:most].decode(errors="ignore")
        yield piece
        raw = raw[len(piece.encode()) :]
