"""Requests as the API server's audit log has them: what something cost, counted where nothing can be forgotten."""

import json
from pathlib import Path
from typing import NamedTuple

WRITES = frozenset({"create", "update", "patch", "delete"})
READS = frozenset({"get", "list"})


class Request(NamedTuple):
    """One request that was answered."""

    verb: str
    kind: str
    """The resource, in the plural."""
    name: str
    subresource: str
    code: int


def requests(log: Path, user: str) -> list[Request]:
    """Every request of a user, from the log and what was rotated out of it, oldest first."""
    found = []
    for path in (*sorted(p for p in log.parent.glob(f"{log.stem}*{log.suffix}") if p != log), log):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry["stage"] == "ResponseComplete" and "objectRef" in entry and entry["user"]["username"] == user:
                of, code = entry["objectRef"], entry["responseStatus"]["code"]
                found.append(
                    Request(entry["verb"], of["resource"], of.get("name", ""), of.get("subresource", ""), code)
                )
    return found
