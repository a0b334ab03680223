"""What comes of the wish of a session: a change of a status, nothing, or a refusal.

The write that follows carries the resourceVersion of what was read, so of several who decide at once one wins and the
others decide again (DESIGN.md sections 3 and 5).
"""

from dataclasses import dataclass

from belay_api.delegation import Progress
from belay_api.messages import ErrorCode
from belay_kube.client import Json


@dataclass(frozen=True)
class Asker:
    """The session that asks, and the gateway it is attached to."""

    agent: str
    session_id: str
    gateway: str


@dataclass(frozen=True)
class Change:
    """A merge patch of the status."""

    status: Json


@dataclass(frozen=True)
class NoChange:
    """Already so, or not worth a write: acknowledged."""

    unwritten: Progress | None = None
    """Progress that came too soon after the last write; the next beat that is due must carry it."""


@dataclass(frozen=True)
class Refusal:
    """Nothing changes; `message` says why and what to do."""

    code: ErrorCode
    message: str


Verdict = Change | NoChange | Refusal
