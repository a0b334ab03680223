"""What the chart starts, started: with its arguments, environment and accounts, and with no right beside its roles."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from belay_dev.clock import Deadline, pause
from belay_dev.controlplane import ControlPlane
from belay_dev.guard import Guard
from belay_dev.stack import clean_environment
from chart.containers import Container, running
from chart.helm import NAMESPACE, Helm, of_kind

Json = dict[str, Any]

BELAY = [sys.executable, "-m", "belay_client.cli"]
REVIEWS = {"tokenreviews", "subjectaccessreviews"}
SECONDS = 60.0


def _agents(plane: ControlPlane, namespace: str) -> str:
    """An Agent whose owner is an account beside it, and one of runtime Model; returns the account's token."""
    owner = {"kind": "ServiceAccount", "name": "default"}
    model = {"runtime": "Model", "model": {"provider": "echo", "name": "echo"}}
    plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=60s")
    for name, spec in {"writer": {"owners": [owner]}, "echo": model}.items():
        agent = {"apiVersion": "belay.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": spec}
        plane.kubectl("create", "--namespace", namespace, "-f", "-", input=json.dumps(agent))
    return plane.service_account_token(namespace, "default", ["belay-gateway"])


def _delegates(helm: Helm, guard: Guard, folder: Path, gateway: Container, namespace: str) -> None:
    """The main job: attach, delegate, and get the result; and the same of an agent that Belay drives itself."""
    environment = {
        **clean_environment(),
        "KUBECONFIG": str(helm.plane.kubeconfig),
        "BELAY_GATEWAY": gateway.url,
        "BELAY_TOKEN": _agents(helm.plane, namespace),
    }
    where = ["--namespace", namespace]
    command = [*BELAY, "agent", "run", "writer", *where, "--exec", "tr a-z A-Z"]
    agent = guard.spawn(command, log=folder / f"{namespace}.log", name="writer", env=environment)
    for name, answer in {"writer": "HOLD THE ROPE", "echo": "hold the rope"}.items():
        done = subprocess.run(
            [*BELAY, "delegate", name, "hold the rope", "--wait", *where],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert answer in done.stdout, f"{done.stderr}\n{agent.tail()}\n{gateway.process.tail()}"
    agent.stop()


def _until_swept(plane: ControlPlane) -> None:
    """Wait until the operator has swept, and so listed all that it lists."""
    deadline = Deadline(SECONDS)
    while not plane.kubectl(
        "get", "delegationsweeper", "--namespace", NAMESPACE, "-o", "jsonpath={.items[*].status.lastSweep.startedTime}"
    ):
        assert not deadline.passed, "no sweep"
        pause(0.1)


def _refused(plane: ControlPlane, since: int) -> list[str]:
    """What the accounts asked the API server for and may not do, after so many bytes of the audit log."""
    found = []
    with plane.audit_log.open("rb") as log:
        log.seek(since)
        for entry in map(json.loads, log):
            ours = entry["user"]["username"].startswith(f"system:serviceaccount:{NAMESPACE}:")
            if ours and (entry.get("responseStatus") or {}).get("code") == 403:
                found.append(f"{entry['user']['username']} {entry['verb']} {entry['requestURI']}")
    return found


def _run_all(helm: Helm, guard: Guard, folder: Path, namespace: str, *flags: str) -> None:
    since = os.path.getsize(helm.plane.audit_log)
    started = running(helm, guard, folder, *flags)
    _delegates(helm, guard, folder, started["belay-gateway"], namespace)
    _until_swept(helm.plane)
    for container in started.values():
        container.process.stop(30)
        assert container.process.exit_code == 0, container.process.tail()
    assert _refused(helm.plane, since) == []
    helm.release_sweeper()


def test_the_main_job_runs_with_what_the_chart_says(helm: Helm, guard: Guard, tmp_path: Path) -> None:
    """Both containers start, answer their probes, do the job with their own accounts, and end in order."""
    _run_all(helm, guard, tmp_path, "default")


def test_in_some_namespaces_only(helm: Helm, guard: Guard, tmp_path: Path) -> None:
    """With `watchNamespaces` it works with Roles; nothing reaches further but reviews, which have no namespace."""
    helm.plane.kubectl("create", "namespace", "team-a")
    helm.plane.kubectl("create", "namespace", "team-b")
    _run_all(helm, guard, tmp_path, "team-a", "--set", "watchNamespaces={team-a,team-b}")
    wide = [rule for role in of_kind(helm.objects(), "ClusterRole") for rule in role["rules"]]
    assert {resource for rule in wide for resource in rule["resources"]} == REVIEWS
    assert {verb for rule in wide for verb in rule["verbs"]} == {"create"}
