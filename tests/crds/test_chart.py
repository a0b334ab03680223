"""The chart and what is rendered from it: in step with the project, strict about values, and no right too many."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import render_manifests
from belay_api import charted, generated, schema
from belay_dev import binaries
from belay_dev.tools import Tool

Json = dict[str, Any]

ROOT = Path(__file__).parent.parent.parent
READ = ("get", "list", "watch")
_KINDS = ("agents", "agentsubscriptions", "delegations", "permissionrequests")
_DRAINED = ("agentsessions", "pendingmessages")
PACKED = {"Chart.yaml", "values.yaml", "values.schema.json", "templates", "files", "LICENSE"}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm, whether it succeeds or not."""
    program = binaries.ensure([Tool.HELM])[Tool.HELM]
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)


def rendered(*arguments: str) -> list[Json]:
    """The chart's objects for some values."""
    done = helm("template", "belay", str(ROOT), "--namespace", "belay", *arguments)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def rules(name: str) -> list[Json]:
    """The rules of every role called `name`."""
    roles = [d for d in rendered() if d["kind"] in ("ClusterRole", "Role") and d["metadata"]["name"] == name]
    return [rule for role in roles for rule in role["rules"]]


def test_the_chart_has_the_projects_version() -> None:
    """One version for the package, the chart and the application in it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((ROOT / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == project["version"]
    assert chart["description"] == project["description"]


def test_the_manifests_are_up_to_date() -> None:
    """What is checked in is what the chart renders."""
    folder = ROOT / "manifests"
    assert generated.drift(folder, render_manifests.files(), render_manifests.PATTERN) == []


def test_the_chart_holds_the_chart_only(tmp_path: Path) -> None:
    """No source and no test is packed, and the definitions only as a template: Helm never upgrades those in crds/."""
    done = helm("package", str(ROOT), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.iterdir()
    listed = subprocess.run(["tar", "tzf", str(package)], check=True, capture_output=True, text=True).stdout.split()
    packed = {name.partition("/")[2] for name in listed}
    assert {name.partition("/")[0] for name in packed} <= PACKED
    assert f"templates/{charted.FILE}" in packed


def test_the_definitions_are_the_models_own() -> None:
    """What the chart installs is what the models say, but for labels and the word to keep it."""
    for document in (d for d in rendered() if d["kind"] == "CustomResourceDefinition"):
        metadata = document["metadata"]
        assert metadata.pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert metadata.pop("labels")
        (file,) = (text for text in schema.files().values() if f"name: {metadata['name']}\n" in text)
        assert document == yaml.safe_load(file)


def test_the_definitions_can_be_left_out_or_let_go() -> None:
    """Two values for who keeps definitions elsewhere, or wants none left."""
    assert not [d for d in rendered("--set", "crds.install=false") if d["kind"] == "CustomResourceDefinition"]
    loose = [d for d in rendered("--set", "crds.keep=false") if d["kind"] == "CustomResourceDefinition"]
    assert loose
    assert not [d for d in loose if "annotations" in d["metadata"]]


def test_the_chart_is_sound() -> None:
    """Helm's own checks find nothing to complain about."""
    done = helm("lint", "--strict", str(ROOT))
    assert done.returncode == 0, done.stdout


def test_other_names_reach_every_place() -> None:
    """The accounts' names are values: roles and policies follow them, also to another namespace."""
    given = ["--set", "operator.serviceAccount.name=op,gateway.serviceAccount.name=gw", "--namespace", "elsewhere"]
    text = yaml.safe_dump_all(d for d in rendered(*given) if d["kind"] != "CustomResourceDefinition")
    assert "system:serviceaccount:elsewhere:op" in text
    assert "system:serviceaccount:elsewhere:gw" in text
    assert "system:serviceaccount:belay" not in text
    subjects = [s for d in rendered(*given) for s in d.get("subjects", [])]
    assert {(s["name"], s["namespace"]) for s in subjects} == {("op", "elsewhere"), ("gw", "elsewhere")}


REFUSED = {
    "unknown value": ("operator.replica=2", "replica"),
    "unknown setting": ("gateway.settings.maxSocketz=5", "maxSocketz"),
    "setting out of its range": ("gateway.settings.maxQueuePerSocket=2", "maxQueuePerSocket"),
    "setting of the other process": ("operator.settings.maxHandshakes=5", "maxHandshakes"),
    "address of a bus that is none": ("bus.url=http://x", "pattern"),
    "tag where a digest belongs": ("image.digest=latest", "pattern"),
    "unknown part": ("database.url=x", "database"),
    "name that is none": ("operator.serviceAccount.name=Belay!", "pattern"),
    "empty name": ("operator.serviceAccount.name=", "operator"),
    "one account for both": ("operator.serviceAccount.name=belay-gateway", "must differ"),
    "ingress without a name": ("gateway.ingress.enabled=true", "gateway.ingress.hosts: at least one name"),
    "label that selects, on all": (r"commonLabels.app\.kubernetes\.io/name=x", "app.kubernetes.io/name"),
    "label that selects, on a pod": (r"operator.podLabels.app\.kubernetes\.io/name=x", "app.kubernetes.io/name"),
    "the same on the other": (r"gateway.podLabels.app\.kubernetes\.io/component=x", "app.kubernetes.io/component"),
}


@pytest.mark.parametrize(("value", "said"), REFUSED.values(), ids=REFUSED)
def test_values_that_make_no_sense_are_refused(value: str, said: str) -> None:
    """A misspelt value is told and not ignored."""
    done = helm("template", "belay", str(ROOT), "--set", value)
    assert done.returncode != 0
    assert said in done.stderr


def test_no_role_holds_a_wildcard_or_secrets() -> None:
    """Each right is named, and no process reads secrets."""
    for document in rendered():
        for rule in document.get("rules", []):
            named = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in named, document["metadata"]["name"]
            assert "secrets" not in rule["resources"], document["metadata"]["name"]


@pytest.mark.parametrize("name", ["belay-view", "belay-edit", "belay-admin"])
def test_D13_no_aggregated_role_holds_a_status(name: str) -> None:
    """Statuses belong to Belay's processes; what people get is aggregated to the roles of every cluster."""
    assert rules(name)
    assert not [resource for rule in rules(name) for resource in rule["resources"] if "/" in resource]
    (role,) = (d for d in rendered() if d["kind"] == "ClusterRole" and d["metadata"]["name"] == name)
    kind = name.removeprefix("belay-")
    assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{kind}"] == "true"


def test_the_processes_hold_no_other_rights_than_these() -> None:
    """Each right of the two accounts, as one flat list: a new one must be added here on purpose."""
    assert _flat("belay-gateway") == {
        *(f"{verb} {plural}" for verb in READ for plural in _kinds(*_KINDS, "agentsessions")),
        "get belay.dev/sessionturns",
        *(f"{verb} belay.dev/pendingmessages" for verb in ("create", "get")),
        *(f"{verb} belay.dev/agentsessions" for verb in ("create", "patch")),
        "create belay.dev/agentsubscriptions",
        "create belay.dev/permissionrequests",
        "patch belay.dev/permissionrequests/status",
        "create belay.dev/delegations",
        "patch belay.dev/delegations",
        "patch belay.dev/permissionrequests",
        "patch belay.dev/agentsubscriptions/status",
        "patch belay.dev/delegations/status",
        "create authentication.k8s.io/tokenreviews",
        "create authorization.k8s.io/subjectaccessreviews",
        "create events.k8s.io/events",
        *(f"{verb} coordination.k8s.io/leases" for verb in ("get", "list", "create", "patch")),
    }
    stated = _kinds(*_KINDS, *_DRAINED, "delegationsweepers")
    leases = ("get", "list", "watch", "create", "patch", "delete")
    assert _flat("belay-operator") == {
        *(f"{verb} {plural}" for verb in READ for plural in (*stated, "belay.dev/sessionturns")),
        *(f"patch {plural}/status" for plural in stated),
        *(f"create {plural}" for plural in _kinds("delegations", "permissionrequests", "sessionturns", *_DRAINED)),
        "delete belay.dev/agentsubscriptions",
        "delete belay.dev/pendingmessages",
        "delete belay.dev/permissionrequests",
        "delete belay.dev/delegations",
        "patch belay.dev/delegationsweepers",
        "create belay.dev/delegationsweepers",
        "create events.k8s.io/events",
        *(f"{verb} coordination.k8s.io/leases" for verb in leases),
    }


def _kinds(*plurals: str) -> list[str]:
    return [f"belay.dev/{plural}" for plural in plurals]


def _flat(name: str) -> set[str]:
    return {
        f"{verb} {group}/{resource}"
        for rule in rules(name)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
