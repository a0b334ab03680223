"""The chart, read by the tools that others check charts with: kubeconform and helm-unittest, from their Go modules."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from belay_dev import binaries
from belay_dev.controlplane import ControlPlane
from belay_dev.tools import Tool
from chart.helm import ROOT, Helm

Json = dict[str, Any]

VALUES = ROOT / "tests" / "chart" / "unittest" / "everything.yaml"
FOREIGN = "ServiceMonitor,PodMonitor,PrometheusRule"
"""Whose definitions are the Prometheus operator's."""
_KEY = "x-kubernetes-group-version-kind"
_INT_OR_STRING = {"oneOf": [{"type": "string"}, {"type": "integer"}]}


def schemas(plane: ControlPlane, folder: Path) -> str:
    """Write what the API server itself says of each kind, as kubeconform reads it; returns where that is."""
    definitions: Json = json.loads(plane.kubectl("get", "--raw", "/openapi/v2"))["definitions"]
    strict = {name: _strict(each) for name, each in definitions.items()}
    for name, each in definitions.items():
        for kind in each.get(_KEY, []):
            parts = [kind["kind"], *filter(None, [kind["group"].split(".")[0]]), kind["version"]]
            path = folder / f"{'-'.join(parts).lower()}.json"
            path.write_text(json.dumps({"$ref": f"#/definitions/{name}", "definitions": strict}))
    return str(folder / "{{.ResourceKind}}{{.KindSuffix}}.json")


def _strict(schema: Any) -> Any:
    """Without what OpenAPI says in words of its own, and with no field that isn't named."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string":
        return _INT_OR_STRING
    made = {name: _strict(each) for name, each in schema.items() if name not in ("format", "properties")}
    if "properties" in schema:
        # By their names: a field may itself be called `format`, or `properties`.
        made["properties"] = {name: _strict(each) for name, each in schema["properties"].items()}
        made.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return made


def conforms(where: str, text: str) -> subprocess.CompletedProcess[str]:
    """Ask kubeconform about some objects."""
    program = str(binaries.ensure([Tool.KUBECONFORM])[Tool.KUBECONFORM])
    command = [program, "-strict", "-summary", "-schema-location", where, "-skip", FOREIGN]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("flags", [[], ["--values", str(VALUES)]], ids=["by default", "all switched on"])
def test_every_object_conforms_to_the_api_servers_schemas(helm: Helm, tmp_path: Path, flags: list[str]) -> None:
    """Nothing is misspelt or out of place, nor in the cluster-wide roles, and kubeconform does see what is."""
    where = schemas(helm.plane, tmp_path)
    text = helm("template", "belay", str(ROOT), *flags)
    done = conforms(where, text)
    assert done.returncode == 0, done.stdout
    wrong = text.replace("terminationGracePeriodSeconds:", "terminationGracePeriod:", 1)
    refused = conforms(where, wrong)
    assert refused.returncode == 1
    assert "terminationGracePeriod" in refused.stdout


def test_the_suites_of_helm_unittest_pass() -> None:
    """What values lead to, in the words of helm-unittest."""
    program = str(binaries.ensure([Tool.HELM_UNITTEST])[Tool.HELM_UNITTEST])
    command = [program, "--strict", "--file", "tests/chart/unittest/*_test.yaml", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"Tests: +[1-9][0-9]* passed", done.stdout), done.stdout
