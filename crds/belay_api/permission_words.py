"""Reasons of permission requests, and the sentences that go with them (DESIGN.md section 5)."""

from enum import StrEnum


class PermissionReason(StrEnum):
    """Why a permission request stands where it does: `PermissionRequest.status.reason`."""

    AWAITING_DECISION = "AwaitingDecision"
    DECIDED = "Decided"
    DELEGATION_ENDED = "DelegationEnded"
    NOT_DECIDED = "NotDecided"
    RESOLVED = "Resolved"
    SUPERSEDED = "Superseded"


def awaiting_decision(name: str, namespace: str) -> str:
    """What whoever finds an open request can do."""
    return f"to decide: belay approve|deny {name} -n {namespace}"


def delegation_ended(name: str) -> str:
    """The work a permission was asked for is over."""
    return f"delegation {name}, for which it was asked, has ended"


def not_decided(seconds: int) -> str:
    """Nobody decided in time."""
    return f"nobody decided within {seconds}s"


def permission_resolved() -> str:
    """The agent got its answer elsewhere."""
    return "the agent says that it was answered elsewhere"


def permission_superseded(name: str) -> str:
    """The session uses the id for something else by now."""
    return f"the session asked something else by the same id: {name}"
