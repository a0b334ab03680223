"""docs/install.md, "Removing it", as it stands there: first the processes and, if wanted, then everything."""

import json
from collections.abc import Callable

import pytest

from chart import definitions
from chart.helm import NAMESPACE, ROOT, Helm
from chart.shell import environment
from transcripts import block, perform

PAGE = "docs/install.md"
PARTS = ("deployment/belay-operator", "clusterrole/belay-operator", "validatingadmissionpolicy/belay-status-writers")
AGENT = {"apiVersion": "belay.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "kept"}, "spec": {}}
HELD = '{"metadata":{"finalizers":["belay.dev/sweeper"]}}'


def _by_helm(helm: Helm) -> str:
    helm.install("--create-namespace")
    return "helm uninstall"


def _by_kubectl(helm: Helm) -> str:
    helm.plane.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests"))
    return "kubectl delete -f manifests/install.yaml"


def _work(helm: Helm) -> None:
    """What an operator that no longer runs leaves behind: an Agent, and a sweeper that is held."""
    helm.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    helm.plane.kubectl("apply", "-f", "-", input=json.dumps(AGENT))
    helm.plane.kubectl("apply", "--server-side", "-f", str(ROOT / "manifests" / "sweeper.yaml"))
    helm.plane.kubectl("patch", "delegationsweeper/default", "-n", NAMESPACE, "--type=merge", "-p", HELD)


@pytest.mark.parametrize("install", [_by_helm, _by_kubectl], ids=["with helm", "with kubectl"])
def test_it_is_removed_as_the_page_says(fresh: Helm, install: Callable[[Helm], str]) -> None:
    """The processes go with their rights, and all data stays; then nothing holds anything that is told to go."""
    uninstall = install(fresh)
    assert all(map(fresh.exists, PARTS))
    _work(fresh)
    perform(block(PAGE, uninstall), environment(fresh))
    assert not [part for part in PARTS if fresh.exists(part)]
    assert fresh.exists("agent/kept", "default")

    perform(block(PAGE, "kubectl delete namespace belay"), environment(fresh))
    assert not fresh.exists(f"namespace/{NAMESPACE}")
    definitions.gone(fresh.plane)
