"""Settings: page, schema of the chart and classes say the same, every value arrives, and no secret is printed."""

import json
from typing import Any

import pytest
import yaml

from belay_api import generated
from belay_dev import configuration
from belay_gateway.main import longest_end
from belay_gateway.settings import Settings as GatewaySettings
from belay_kube.process import shown
from belay_operator.settings import Settings as OperatorSettings
from chart.helm import ROOT, of_kind
from chart.rendering import environment, rendered

Json = dict[str, Any]


def test_the_page_and_the_schema_are_up_to_date() -> None:
    """What is checked in is what the classes say."""
    assert not generated.drift(ROOT / "docs", {configuration.PAGE: configuration.page()}, configuration.PAGE)
    assert not generated.drift(ROOT, {configuration.SCHEMA: configuration.schema()}, configuration.SCHEMA)


@pytest.mark.parametrize("process", configuration.CLASSES)
def test_every_setting_is_described(process: str) -> None:
    """Each has a sentence, and a flag, a variable and a value that lead to it."""
    for setting in configuration.settings_of(process):
        assert setting.field.description, setting.name
        assert f"`{setting.variable}`" in configuration.page()


def _example(schema: Json) -> Any:
    if schema["type"] == "integer":
        return schema["maximum"]
    return {"boolean": False, "string": "x", "array": ["https://a.example"]}[schema["type"]]


@pytest.mark.parametrize("process", configuration.CLASSES)
def test_every_value_reaches_its_process(process: str) -> None:
    """Each value of the chart, set to something, is the environment that the process reads it from."""
    definitions = configuration.definitions()
    own = {name: _example(schema) for name, schema in definitions[f"{process}Settings"]["properties"].items()}
    times = {name: _example(schema) for name, schema in definitions["timing"]["properties"].items()}
    objects = rendered(
        "--set-json", f"{process}.settings={json.dumps(own)}", "--set-json", f"timing={json.dumps(times)}"
    )
    given = environment(objects, process)
    settings = configuration.CLASSES[process].model_validate(_fields(process, given))
    for setting in configuration.settings_of(process):
        for name in {**own, **times}.keys() & {setting.chart_name}:
            assert getattr(settings, setting.name) == {**own, **times}[name], name


def _fields(process: str, given: dict[str, str]) -> dict[str, str]:
    names = {setting.variable: setting for setting in configuration.settings_of(process)}
    assert given.keys() <= names.keys(), "a variable that the process doesn't know"
    return {str(names[each].field.validation_alias or names[each].name): value for each, value in given.items()}


@pytest.mark.parametrize(("drain", "shutdown"), [(5, 10), (0, 1), (60, 30), (300, 300)])
def test_a_gateway_has_time_to_end(drain: int, shutdown: int) -> None:
    """Kubernetes waits for longer than a graceful end takes at most, or the Lease would not be released (P7)."""
    flags = ("--set", f"gateway.settings.drainSeconds={drain},gateway.settings.shutdownSeconds={shutdown}")
    (deployment,) = (d for d in of_kind(rendered(*flags), "Deployment") if d["metadata"]["name"] == "belay-gateway")
    waits = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert waits > longest_end(GatewaySettings(drain_seconds=drain, shutdown_seconds=shutdown))


def test_what_may_hold_a_password_is_not_shown() -> None:
    """The settings in force are logged at the start; an address with a password in it is not."""
    said = shown(GatewaySettings(bus_url="nats://user:secret@host:4222", drain_seconds=7))
    assert "secret" not in json.dumps(said)
    assert said["bus_url"] == "(not shown)"
    assert said["drain_seconds"] == 7
    assert shown(GatewaySettings())["bus_url"] is None
    assert shown(OperatorSettings())["workers"] == 32


def test_the_defaults_of_the_chart_are_settings() -> None:
    """What values.yaml itself sets is only where to listen, which in a pod isn't loopback."""
    values = yaml.safe_load((ROOT / "values.yaml").read_text())
    assert values["operator"]["settings"] == {"healthHost": "0.0.0.0", "healthPort": 8081}  # noqa: S104 - in a pod
    assert values["gateway"]["settings"] == {"host": "0.0.0.0", "port": 8080}  # noqa: S104 - in a pod
