"""What a kind declares about itself beside its fields: names, columns, selectors, rules."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

ObjectName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
AgentName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
SessionId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]


@dataclass(frozen=True)
class Rule:
    """A CEL validation at the root of the schema; `rule` may use `self` and `oldSelf` (DESIGN.md section 2, CEL)."""

    rule: str
    message: str


@dataclass(frozen=True)
class Column:
    """A printer column: priority 0 shows in `kubectl get`, 1 only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True)
class Resource:
    """The names and faces of one kind."""

    kind: str
    plural: str
    short: str
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def singular(self) -> str:
        """The lower-case kind, as kubectl prints it."""
        return self.kind.lower()


class Part(BaseModel):
    """A part of a resource: camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    def wire(self) -> dict[str, Any]:
        """The JSON of this part, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Kind(Part):
    """A whole resource; `model_config` of subclasses stays as it is, `RESOURCE` names it."""

    RESOURCE: ClassVar[Resource]


def unchanged(*fields: str) -> tuple[Rule, ...]:
    """Rules that keep each `spec` field as it was created, also against removal (DESIGN.md section 2, CEL)."""
    return tuple(
        Rule(
            f"has(self.spec.{f}) == has(oldSelf.spec.{f}) && (!has(self.spec.{f}) || self.spec.{f} == oldSelf.spec.{f})",
            f"spec.{f} can't be changed: create another object instead",
        )
        for f in fields
    )
