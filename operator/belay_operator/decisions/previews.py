"""What people are shown of a tool call before they decide on it (BEHAVIOUR.md, C5)."""

import json
from collections.abc import Mapping
from typing import Any

from belay_api.permissionrequest import MAX_PREVIEW_CHARS
from belay_api.tool_words import preview_cut


def preview(arguments: Mapping[str, Any], turn: str) -> str:
    """What the tool is given, as JSON: short values first, so that a long one hides no other, and nothing invisible.
    What is too long ends with a note of how much is missing, and names the SessionTurn that holds it all."""
    fields = sorted((f"{_shown(name)}: {_shown(value)}" for name, value in arguments.items()), key=len)
    whole = "{" + ", ".join(fields) + "}"
    if len(whole) <= MAX_PREVIEW_CHARS:
        return whole
    kept = MAX_PREVIEW_CHARS - len(preview_cut(len(whole), turn))
    return whole[:kept] + preview_cut(len(whole) - kept, turn)


def _shown(value: Any) -> str:
    """JSON in which whatever doesn't print is escaped: it could make a text look like another."""
    written = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in written)
