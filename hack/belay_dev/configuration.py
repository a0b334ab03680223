"""Every setting by flag, environment and chart value, from the settings classes themselves:
`python -m belay_dev.configuration [--check]` writes docs/configuration.md, and what values.schema.json allows of them.

So a setting that is added is documented, and a value of the chart, with the same range; one that is removed is refused.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from belay_api import generated
from belay_gateway.settings import Settings as GatewaySettings
from belay_operator import settings as operator_settings

Json = generated.Json

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = "make configuration"
SCHEMA = "values.schema.json"
PAGE = "configuration.md"

CLASSES: Mapping[str, type[BaseSettings]] = {"operator": operator_settings.Settings, "gateway": GatewaySettings}
TIMING = ("heartbeat_seconds", "stale_after_seconds", "grace_seconds", "deadline_seconds", "stuck_threshold_seconds")
"""Both processes must agree on these, so they are one value of the chart."""
_SAME = {"stuck_threshold": "stuck_threshold_seconds"}
ELSEWHERE = {
    "namespace": "the release's namespace",
    "kubeconfig": "none: the pod's account",
    "identity": "none: from the pod's name",
    "announce": "none",
    "log_format": "`logFormat`",
    "watch_namespaces": "`watchNamespaces`",
    "bus_url": "`bus.url`, `bus.existingSecret.urlKey`",
    "bus_token_file": "`bus.existingSecret.tokenKey`",
    "bus_subject": "`bus.subject`",
}
"""Settings that the chart sets by other values, or by itself."""
_FALLING_BACK = {
    "sweeper_interval": (1, operator_settings.MOST_SWEEP_SECONDS),
    "stuck_threshold": (1, operator_settings.MOST_THRESHOLD_SECONDS),
}
"""Ranges of the two that are never refused (S5)."""
_INTRODUCTION = """# Settings

Each process reads a flag, else its environment, else the default. What is out of its range is refused at the start, by
its name; only `DELEGATION_SWEEPER_INTERVAL_S` and `DELEGATION_STUCK_THRESHOLD_S` fall back to their defaults, which is
logged. The settings in force are logged at the start, without those that may hold a password. Times are in seconds.

An Agent's `timing`, a Delegation's own fields and the DelegationSweeper win over what stands here.
"""
_COLUMNS = """| flag | environment | value of the chart | default | allowed | |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Setting:
    """One setting of one process."""

    process: str
    name: str
    field: FieldInfo

    @property
    def flag(self) -> str:
        return f"--{self._alias or self.name}".lower().replace("_", "-")

    @property
    def variable(self) -> str:
        return self._alias or f"BELAY_{self.name.upper()}"

    @property
    def _alias(self) -> str | None:
        return str(self.field.validation_alias) if self.field.validation_alias else None

    @property
    def value(self) -> str:
        """Where the chart has it, as a cell of the table."""
        if self.is_shared:
            return f"`timing.{self.chart_name}`"
        return ELSEWHERE.get(self.name) or f"`{self.process}.settings.{self.chart_name}`"

    @property
    def is_shared(self) -> bool:
        """Whether both processes must be told the same."""
        return _SAME.get(self.name, self.name) in TIMING

    @property
    def chart_name(self) -> str:
        """What the chart calls it."""
        return camel(_SAME.get(self.name, self.name))

    @property
    def range(self) -> tuple[int, int] | None:
        low = next((m.ge for m in self.field.metadata if isinstance(m, Ge)), None)
        high = next((m.le for m in self.field.metadata if isinstance(m, Le)), None)
        return (int(str(low)), int(str(high))) if low is not None else _FALLING_BACK.get(self.name)

    @property
    def default(self) -> str:
        """The default, as a cell."""
        if self.name == "identity":
            return f"`belay-{self.process}-<host>-<random>`"
        value = self.field.get_default(call_default_factory=True, validated_data={})
        return "none" if value in (None, []) else f"`{json.dumps(value) if isinstance(value, bool) else value}`"

    def schema(self) -> Json:
        """What the chart allows for it."""
        described = {"description": f"{self.field.description} Default: {self.default.replace('`', '')}."}
        if self.range:
            return {**described, "type": "integer", "minimum": self.range[0], "maximum": self.range[1]}
        if self.field.annotation is bool:
            return {**described, "type": "boolean"}
        if self.field.annotation is str:
            return {**described, "type": "string", "minLength": 1}
        return {**described, "type": "array", "items": {"type": "string", "minLength": 1}}

    def row(self) -> str:
        """Its row of the table."""
        allowed = f"{self.range[0]} to {self.range[1]}" if self.range else _choices(self.field.annotation)
        text = str(self.field.description).replace("|", "\\|")
        cells = (f"`{self.flag}`", f"`{self.variable}`", self.value, self.default, allowed, text)
        return f"| {' | '.join(cells)} |\n"


def _choices(annotation: Any) -> str:
    words = [str(word) for word in getattr(annotation, "__args__", ()) if isinstance(word, str)]
    return ", ".join(f"`{word}`" for word in words)


def camel(name: str) -> str:
    """`max_handshakes` as the chart says it: `maxHandshakes`."""
    return re.sub(r"_([a-z])", lambda found: found.group(1).upper(), name)


def settings_of(process: str) -> Iterator[Setting]:
    """Every setting of a process, in order."""
    for name, field in CLASSES[process].model_fields.items():
        yield Setting(process, name, field)


def page() -> str:
    """docs/configuration.md."""
    head = f"<!-- Generated from the settings classes by `{COMMAND}`: change those, not this. -->\n"
    tables = (
        f"\n## `belay-{process}`\n\n{_COLUMNS}" + "".join(setting.row() for setting in settings_of(process))
        for process in CLASSES
    )
    return head + _INTRODUCTION + "".join(tables)


def _definition(settings: Mapping[str, Json], description: str) -> Json:
    made: Json = {"description": description, "type": "object", "additionalProperties": False}
    return {**made, "properties": dict(settings)}


def definitions() -> Json:
    """What the values `timing`, `operator.settings` and `gateway.settings` may hold."""
    shared = {s.chart_name: s.schema() for s in settings_of("gateway") if s.is_shared}
    made = {"timing": _definition(shared, "Times of both processes, where no resource says otherwise.")}
    for process in CLASSES:
        own = {
            setting.chart_name: setting.schema()
            for setting in settings_of(process)
            if setting.name not in ELSEWHERE and not setting.is_shared
        }
        made[f"{process}Settings"] = _definition(own, f"Settings of the {process}: docs/configuration.md.")
    return made


def schema() -> str:
    """values.schema.json: as it stands, with the definitions of the settings made anew."""
    document = json.loads((ROOT / SCHEMA).read_text(encoding="utf-8"))
    document["$defs"].update(definitions())
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write both files, or with `--check` say which differs: 0, or 1 when one does."""
    code = generated.main({PAGE: page()}, PAGE, COMMAND, folder=ROOT / "docs")
    return code | generated.main({SCHEMA: schema()}, SCHEMA, COMMAND, folder=ROOT)


if __name__ == "__main__":
    sys.exit(main())
