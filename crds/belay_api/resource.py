"""What a kind declares about itself beside its fields: names, columns, selectors, rules."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

ObjectName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
AgentName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
SessionId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]
ModelToolName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
"""What a model calls a tool by."""
ToolUseId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_-]+$")]

GIVEN_TIME: JsonDict = {
    "pattern": r"^[1-9]\d{3}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
}
"""For a time that people write: `format: date-time` alone lets through what `times.from_wire` can't read."""
NO_CONTROLS = r"^[^[:cntrl:]]+$"
"""For text of one line: no NUL, no line break, no escape sequence."""
ATOMIC_MAP: JsonDict = {"x-kubernetes-map-type": "atomic"}
"""For a part that has one owner as a whole, like a reference."""
ATOMIC_LIST: JsonDict = {"x-kubernetes-list-type": "atomic"}
SET: JsonDict = {"x-kubernetes-list-type": "set"}
FREE_FIELDS: JsonDict = {"additionalProperties": {"x-kubernetes-preserve-unknown-fields": True}}
"""For an object whose fields are its author's own. Not on the object itself: there CEL compares only fields that both
sides have, so that a renamed field went for the same (tried)."""


def map_list(*keys: str) -> JsonDict:
    """For a list whose items are told apart by `keys`, so that two writers can each keep their own."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


@dataclass(frozen=True)
class Rule:
    """A CEL validation at the root of the schema; `rule` may use `self` and `oldSelf` (DESIGN.md section 2, CEL)."""

    rule: str
    message: str


def never_removed(field: str, why: str) -> Rule:
    """A rule that keeps `status.<field>` set once it is, also against removal of the whole status."""
    return Rule(
        f"!has(oldSelf.status) || !has(oldSelf.status.{field}) || (has(self.status) && has(self.status.{field}))",
        f"status.{field} can't be removed: {why}",
    )


def kept_once(phases: Iterable[str], field: str, message: str) -> Rule:
    """A rule that keeps `status.<field>` as it is, set or not, once `status.phase` is one of `phases`."""
    ended = "[" + ", ".join(f"'{phase}'" for phase in sorted(phases)) + "]"
    return Rule(
        f"!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase in {ended}) || "
        f"(has(self.status) && has(self.status.{field}) == has(oldSelf.status.{field}) && "
        f"(!has(self.status.{field}) || self.status.{field} == oldSelf.status.{field}))",
        message,
    )


@dataclass(frozen=True)
class Column:
    """A printer column: priority 0 shows in `kubectl get`, 1 only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


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
            f"has(self.spec.{f}) == has(oldSelf.spec.{f}) && "
            f"(!has(self.spec.{f}) || self.spec.{f} == oldSelf.spec.{f})",
            f"spec.{f} can't be changed: create another object instead",
        )
        for f in fields
    )
