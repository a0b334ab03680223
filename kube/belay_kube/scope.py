"""Which namespaces a process works in: all, or only some, so that its roles need not reach further."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic_settings import NoDecode

Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


WatchNamespaces = Annotated[
    list[Namespace],
    NoDecode,
    BeforeValidator(_words),
    Field(description="Namespaces to serve beside its own, separated by commas; none: all there are."),
]
"""The setting of both processes."""


def scope(own: str, watched: list[str]) -> tuple[str, ...]:
    """The namespaces to read in; empty: all. A process that is told some reads its own as well."""
    return tuple(sorted({own, *watched})) if watched else ()
