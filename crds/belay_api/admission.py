"""What an admission policy is made of, before `policy` writes it down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WHO = "request.userInfo.username"
"""The caller, in CEL."""


@dataclass(frozen=True)
class Check:
    """One condition; `message` is a CEL expression that says what was wrong, with what, and what to do."""

    expression: str
    message: str
    reason: str = "Forbidden"


@dataclass(frozen=True)
class Policy:
    """One ValidatingAdmissionPolicy and its binding: `matches` maps operations to resources of our group."""

    name: str
    promise: str
    matches: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
    checks: Sequence[Check]
    variables: Mapping[str, str] = field(default_factory=dict)
