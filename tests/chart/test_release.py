"""The life of a release, by the real Helm on a real API server: made, changed, upgraded, rolled back, and removed."""

import json
from pathlib import Path

import pytest

from belay_dev.controlplane import ControlPlane
from belay_dev.errors import ControlPlaneError
from chart.changed import changed_chart
from chart.helm import NAMESPACE, PREVIOUS, RELEASE, ROOT, Helm, of_kind

CRD = "crd/agents.belay.dev"
AGENT = {"apiVersion": "belay.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "kept"}, "spec": {}}


def _pod(deployment: dict[str, object]) -> str:
    """A bare pod from a Deployment's template."""
    template = deployment["spec"]["template"]  # type: ignore[index]
    metadata = {"name": "probe", "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})


def _make_agent(plane: ControlPlane) -> None:
    plane.kubectl("wait", "--for=condition=Established", CRD, "--timeout=60s")
    plane.kubectl("apply", "-f", "-", input=json.dumps(AGENT))


def _columns(helm: Helm) -> list[str]:
    versions = helm.get(CRD)["spec"]["versions"]
    return [column["name"] for column in versions[0]["additionalPrinterColumns"]]


def test_an_installation_makes_what_the_chart_says(helm: Helm) -> None:
    """Every object is there, pods pass Pod Security `restricted`, and what comes next is told."""
    said = helm.install()
    assert "belay delegate writer" in said
    objects = helm.objects()
    names = [f"{each['kind']}/{each['metadata']['name']}" for each in objects]
    for name in names:
        assert helm.exists(name), name
    deployments = list(of_kind(objects, "Deployment"))
    assert len(deployments) == 2
    for deployment in deployments:
        helm.plane.kubectl("create", "--dry-run=server", "-f", "-", input=_pod(deployment))


def test_a_pod_with_more_rights_is_refused_there(helm: Helm) -> None:
    """The namespace does enforce `restricted`: the same pod without one of its words is refused."""
    helm.install()
    deployment = next(of_kind(helm.objects(), "Deployment"))
    del deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]
    with pytest.raises(ControlPlaneError, match="violates PodSecurity"):
        helm.plane.kubectl("create", "--dry-run=server", "-f", "-", input=_pod(deployment))


def test_other_values_and_back(helm: Helm) -> None:
    """Changed values reach the objects, and a rollback brings the old ones back."""
    helm.install()
    helm.upgrade("--set", "gateway.replicas=5,timing.graceSeconds=60")
    changed = helm.get("deployment/belay-gateway")["spec"]
    assert changed["replicas"] == 5
    assert {"name": "BELAY_GRACE_SECONDS", "value": "60"} in changed["template"]["spec"]["containers"][0]["env"]
    helm("rollback", RELEASE, "1")
    restored = helm.get("deployment/belay-gateway")["spec"]
    assert restored["replicas"] == 2
    assert "BELAY_GRACE_SECONDS" not in json.dumps(restored)


def test_definitions_are_upgraded_rolled_back_and_kept(helm: Helm, tmp_path: Path) -> None:
    """They come with the chart, change with it in both directions, and stay at its end with every object of them."""
    helm.install()
    _make_agent(helm.plane)
    assert "Later" not in _columns(helm)
    helm.upgrade(chart=changed_chart(tmp_path))
    assert "Later" in _columns(helm)
    helm("rollback", RELEASE, "1")
    assert "Later" not in _columns(helm)
    uid = json.loads(helm.plane.kubectl("get", "agent/kept", "-o", "json"))["metadata"]["uid"]
    helm("uninstall", RELEASE)
    assert not helm.exists("deployment/belay-operator")
    helm.install()
    assert json.loads(helm.plane.kubectl("get", "agent/kept", "-o", "json"))["metadata"]["uid"] == uid


def test_an_upgrade_from_the_release_before(helm: Helm) -> None:
    """Its definitions lay in `crds/`, and it had a DelegationSweeper: both are taken over with everything of them."""
    helm.install(chart=PREVIOUS)
    _make_agent(helm.plane)
    keep = "helm.sh/resource-policy=keep"
    helm.plane.kubectl("annotate", "delegationsweeper/default", "--namespace", NAMESPACE, keep)
    helm.upgrade("--take-ownership")
    assert helm.exists("deployment/belay-operator")
    assert helm.exists("agent/kept", "default")
    assert helm.exists("delegationsweeper/default")
    assert helm.get(CRD)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    helm("rollback", RELEASE, "1")
    assert helm.exists("agent/kept", "default")
    assert not helm.exists("deployment/belay-operator")


def test_a_server_side_dry_run_finds_nothing(helm: Helm) -> None:
    """With everything switched on that needs no foreign definition."""
    flags = (
        "--set",
        "gateway.ingress.enabled=true,monitoring.dashboard.enabled=true",
        "--set-json",
        'gateway.ingress.hosts=["belay.example.com"]',
    )
    helm.install("--dry-run=server", *flags)
    text = helm("template", RELEASE, str(ROOT), *flags)
    helm.plane.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=text)
