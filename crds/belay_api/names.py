"""Names derived from other names, and the `namespace/name` form of the wire."""

import hashlib
from typing import NamedTuple


class Ref(NamedTuple):
    """An object of a known kind, by namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def short_hash(*parts: str) -> str:
    """Sixteen hex digits that differ for other parts, also when they only split elsewhere."""
    text = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def subscription_name(agent: str, session_id: str) -> str:
    """Name of the one row of a session, `<agent>-<hash(sessionId)>` (DESIGN.md section 5)."""
    return f"{agent}-{short_hash(session_id)}"


def permission_name(agent: str, session_id: str, request_id: str, tool: str, input_preview: str) -> str:
    """Name of a PermissionRequest: the same id with other content is another request (DESIGN.md section 5)."""
    return f"{agent}-{short_hash(agent, session_id, request_id, tool, input_preview)}"


def opened_session_name(agent: str, delegation_uid: str) -> str:
    """Name of the AgentSession that is opened for a Delegation which names none."""
    return f"{agent[:46]}-{short_hash(delegation_uid)}"


def prompt_message_name(session_uid: str, delegation_uid: str, attempt: int) -> str:
    """Name of the PendingMessage that brings a Delegation's prompt to a session: once an attempt."""
    return f"prompt-{short_hash(session_uid, delegation_uid, str(attempt))}"


def tool_call_name(session_uid: str, tool_use_id: str) -> str:
    """Name of the Delegation (or PermissionRequest) of a tool call, and of the response to it: a crash repeats nothing
    (DESIGN.md section 5, L14)."""
    return f"call-{short_hash(session_uid, tool_use_id)}"


def turn_name(session: str, sequence: int) -> str:
    """Name of a SessionTurn: there is one of each number (DESIGN.md section 5)."""
    return f"{session}-{sequence}"


def parse_ref(text: str) -> Ref:
    """Split `namespace/name` at the first slash. Raises ValueError when a part is missing."""
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name):
        raise ValueError(f"{text!r} is not of the form namespace/name")
    return Ref(namespace, name)
