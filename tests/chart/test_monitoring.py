"""Alerts and dashboard ask for metrics that there are, with labels that they have, and each alert is explained."""

import json
import re
from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from belay_gateway.metrics import Metrics as GatewayMetrics
from belay_operator.metrics import Metrics as OperatorMetrics
from chart.helm import ROOT, of_kind
from chart.rendering import Json, rendered

_ON = ("--set", "monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true")


def _names(registry: CollectorRegistry) -> Iterator[str]:
    for family in registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        yield from (f"{family.name}{suffix}" for suffix in suffixes)


def known() -> set[str]:
    """The name of every series of both processes."""
    gateway = GatewayMetrics()
    gateway.watch_bus(lambda: True)
    return {*_names(gateway.registry), *_names(OperatorMetrics().registry)}


def _asked(expressions: list[str]) -> set[str]:
    return {name for each in expressions for name in re.findall(r"\bbelay_\w+", each)}


def _alerts() -> list[Json]:
    (rule,) = of_kind(rendered(*_ON), "PrometheusRule")
    return [each for group in rule["spec"]["groups"] for each in group["rules"]]


def test_every_alert_asks_for_metrics_there_are() -> None:
    """No expression is misspelt, and so silent for ever."""
    asked = _asked([alert["expr"] for alert in _alerts()])
    assert asked
    assert asked <= known()


def test_every_alert_is_explained() -> None:
    """docs/install.md says what to look at."""
    page = (ROOT / "docs" / "install.md").read_text()
    assert [alert["alert"] for alert in _alerts() if f"`{alert['alert']}`" not in page] == []


def test_the_dashboard_asks_for_metrics_there_are() -> None:
    """Each panel has a query, of series that exist; and it is JSON."""
    (found,) = of_kind(rendered(*_ON), "ConfigMap")
    panels = json.loads(found["data"]["belay.json"])["panels"]
    asked = _asked([target["expr"] for panel in panels for target in panel["targets"]])
    assert asked
    assert asked <= known()
