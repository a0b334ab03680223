"""The series of both processes with the labels that they have, and what an expression of Prometheus asks of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics import MetricWrapperBase

from belay_gateway.metrics import Metrics as GatewayMetrics
from belay_operator.metrics import Metrics as OperatorMetrics

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
OF_THE_TARGET = frozenset({"pod", "namespace", "job", "instance"})
"""What Prometheus adds to each series, by where it found it."""
_SERIES = re.compile(r"\b(belay_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


def labels() -> dict[str, frozenset[str]]:
    """The labels of every series, by its name."""
    gateway = GatewayMetrics()
    gateway.watch_bus(lambda: True)
    registries = (gateway.registry, OperatorMetrics().registry)
    metrics = (each for registry in registries for each in registry._names_to_collectors.values())
    return dict(pair for each in metrics if isinstance(each, MetricWrapperBase) for pair in _series(each))


def _series(metric: MetricWrapperBase) -> Iterator[tuple[str, frozenset[str]]]:
    has = OF_THE_TARGET.union(metric._labelnames)
    for suffix in SUFFIXES.get(str(metric._type), ("",)):
        yield f"{metric._name}{suffix}", has | {"le"} if suffix == "_bucket" else has


@dataclass(frozen=True)
class Matcher:
    """A label that a series must have, and the values that are looked for."""

    series: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Expression:
    """What is asked of Prometheus."""

    text: str

    def series(self) -> set[str]:
        """The names asked for."""
        return {name for name, _ in _SERIES.findall(self.text)}

    def matchers(self) -> list[Matcher]:
        """Each label in braces."""
        return [
            Matcher(name, label, tuple(values.split("|")))
            for name, braces in _SERIES.findall(self.text)
            for label, values in _MATCHER.findall(braces)
        ]

    def unknown(self, known: dict[str, frozenset[str]]) -> list[str]:
        """What is asked for and isn't there: a series, or a label of one."""
        names = [name for name in self.series() if name not in known]
        asked = [(each.series, each.label) for each in self.matchers()] + self._grouped()
        return names + [f"{label} of {name}" for name, label in asked if label not in known.get(name, ())]

    def kept(self) -> set[str]:
        """The labels that a result has: those it is grouped by."""
        return {label for _, label in self._grouped()}

    def _grouped(self) -> list[tuple[str, str]]:
        """Each series with each label that the side of `or` it stands on is grouped by."""
        return [
            (name, label)
            for side in re.split(r"\bor\b", self.text)
            for braced in _GROUPED.findall(side)
            for label in re.split(r"\s*,\s*", braced)
            for name, _ in _SERIES.findall(side)
        ]
