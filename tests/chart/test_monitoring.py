"""Alerts and dashboard ask for metrics that there are, with labels that they have, and each alert is explained."""

import inspect
import json
import re
from types import ModuleType

import pytest

from belay_api.sessionturn import TurnOutcome
from belay_gateway import leasing, touching
from belay_operator.sweep import Result
from chart.helm import ROOT, of_kind
from chart.rendering import Json, rendered
from chart.series import Expression, labels

_ON = ("--set", "monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true")


def _words(module: ModuleType) -> set[str]:
    """The values that a module may give a label are among these."""
    return set(re.findall(r'"([a-z]+)"', inspect.getsource(module)))


VALUES = {
    ("belay_gateway_touches_total", "result"): _words(touching),
    ("belay_gateway_lease_renewals_total", "result"): _words(leasing),
    ("belay_swept_total", "kind"): set(Result().found()),
    ("belay_model_turns_total", "outcome"): set(map(str, TurnOutcome)),
}
"""What labels are ever set to that an alert looks for by value."""


def _alerts() -> list[Json]:
    (rule,) = of_kind(rendered(*_ON), "PrometheusRule")
    return [each for group in rule["spec"]["groups"] for each in group["rules"]]


def _targets() -> list[Json]:
    (found,) = of_kind(rendered(*_ON), "ConfigMap")
    return [target for panel in json.loads(found["data"]["belay.json"])["panels"] for target in panel["targets"]]


def test_every_alert_asks_for_metrics_there_are() -> None:
    """No series and no label is misspelt, and so silent for ever."""
    asked = {alert["alert"]: Expression(alert["expr"]) for alert in _alerts()}
    assert all(each.series() for each in asked.values())
    assert {name: wrong for name, each in asked.items() if (wrong := each.unknown(labels()))} == {}


def test_every_alert_looks_for_values_there_are() -> None:
    """A label that never has that value is as silent."""
    matchers = [each for alert in _alerts() for each in Expression(alert["expr"]).matchers()]
    assert matchers
    assert [each for each in matchers if not set(each.values) <= VALUES[each.series, each.label]] == []


def test_every_alert_tells_by_labels_that_it_has() -> None:
    """`$labels.x` in a sentence is one that the expression keeps; else there is a hole in it."""
    for alert in _alerts():
        told = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
        assert told <= Expression(alert["expr"]).kept(), alert["alert"]


def test_every_alert_is_explained() -> None:
    """docs/install.md says what to look at."""
    page = (ROOT / "docs" / "install.md").read_text()
    assert [alert["alert"] for alert in _alerts() if f"`{alert['alert']}`" not in page] == []


def test_the_dashboard_asks_for_metrics_there_are() -> None:
    """Each query is of series and labels that exist, and each legend of labels that the query keeps; and it is JSON."""
    for target in _targets():
        asked = Expression(target["expr"])
        assert asked.series()
        assert asked.unknown(labels()) == []
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= asked.kept()


WRONG = {
    "a series": ("sum(belay_operator_leadr)", ["belay_operator_leadr"]),
    "a label in braces": ('sum(rate(belay_swept_total{knd="errors"}[5m]))', ["knd of belay_swept_total"]),
    "a label that is grouped by": (
        "max by (pod) (belay_operator_blind) or max by (wtch) (belay_operator_watch_age_seconds)",
        ["wtch of belay_operator_watch_age_seconds"],
    ),
    "buckets of what has none": ("sum by (le) (belay_operator_blind)", ["le of belay_operator_blind"]),
}


@pytest.mark.parametrize(("text", "found"), WRONG.values(), ids=WRONG)
def test_what_is_misspelt_is_found(text: str, found: list[str]) -> None:
    """The tests above do see what they look for."""
    assert Expression(text).unknown(labels()) == found
