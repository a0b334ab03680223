"""What the log says of a request: the agent, delegation or session that its path is about. Pure."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from pydantic import BaseModel

from belay_api.names import Ref

_CALLED: Final = {
    "agents": "agent",
    "delegations": "delegation",
    "permissionrequests": "request",
    "sessions": "session",
    "topics": "topic",
}


def names_of(path: str) -> dict[str, str]:
    """How the log calls the parts of an operation's path, by their name: `agents/{name}` is an agent."""
    steps = pairwise(path.split("/"))
    return {part[1:-1]: _CALLED[kind] for kind, part in steps if kind in _CALLED and part.startswith("{")}


def named(names: Mapping[str, str], where: BaseModel) -> dict[str, Ref | str]:
    """The names in a path that was read. A session of an agent's process is no object and has no namespace."""
    given: dict[str, str] = where.model_dump()
    return {
        called: Ref(given["namespace"], given[part]) if part == "name" else given[part]
        for part, called in names.items()
    }
