"""Agents from Git: the sample repository is applied, becomes current, and a self-heal never fights with us."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belay_dev.clock import Deadline, pause
from belay_dev.controlplane import ControlPlane
from belay_dev.guard import Guard
from chart.containers import Container, running
from chart.helm import NAMESPACE, ROOT, Helm
from kstatus import CURRENT, kstatus

Json = dict[str, Any]

GITOPS = ROOT / "manifests" / "samples" / "gitops"
FORCED = ("apply", "--server-side", "--force-conflicts", "--field-manager=gitops")
HEALS = 10
SECONDS = 60.0


@pytest.fixture
def started(helm: Helm, tmp_path: Path) -> Iterator[dict[str, Container]]:
    """The chart's containers, running, and the sample applied."""
    with Guard() as guard:
        containers = running(helm, guard, tmp_path)
        helm.plane.kubectl(*FORCED, "-k", str(GITOPS))
        yield containers
        for container in containers.values():
            container.process.stop(30)
    helm.plane.kubectl("delete", "namespace", "agents", "--wait", "--timeout=120s")
    helm.release_sweeper()


def _ours(plane: ControlPlane) -> dict[str, Json]:
    """What a repository of agents holds, by name, as it is now."""
    agents = json.loads(plane.kubectl("get", "agents", "--namespace", "agents", "-o", "json"))["items"]
    sweepers = json.loads(plane.kubectl("get", "delegationsweepers", "--namespace", NAMESPACE, "-o", "json"))["items"]
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in [*agents, *sweepers]}


def _settled(plane: ControlPlane) -> dict[str, Json]:
    """The same, once each has been looked at in its present form."""
    deadline = Deadline(SECONDS)
    while True:
        found = _ours(plane)
        if all(_is_seen(each) for each in found.values()):
            return found
        assert not deadline.passed, json.dumps(found)
        pause(0.2)


def _is_seen(obj: Json) -> bool:
    observed: int | None = (obj.get("status") or {}).get("observedGeneration")
    generation: int = obj["metadata"]["generation"]
    return observed == generation


def _versions(plane: ControlPlane, release: list[Json]) -> dict[str, tuple[int | None, str]]:
    """Generation and resourceVersion of everything that is applied."""
    listed = json.loads(plane.kubectl("get", "-f", "-", "-o", "json", input=_text(release)))["items"]
    return {
        f"{each['kind']}/{each['metadata']['name']}": (
            each["metadata"].get("generation"),
            each["metadata"]["resourceVersion"],
        )
        for each in [*listed, *_ours(plane).values()]
    }


def _text(objects: list[Json]) -> str:
    return "\n---\n".join(map(json.dumps, objects))


def _rounds(container: Container) -> str:
    """The operator's count of sweeps: between two looks at it none was made."""
    with urllib.request.urlopen(f"{container.url}/metrics", timeout=5) as answer:  # noqa: S310 - on loopback
        lines: list[str] = answer.read().decode().splitlines()
    return next(line for line in lines if line.startswith("belay_sweeps_total"))


def test_the_sample_is_current_though_nobody_is_attached(helm: Helm, started: dict[str, Container]) -> None:
    """Every object of it says to kstatus that it is done, and the settings of the sweep are in force."""
    found = _settled(helm.plane)
    assert {name: kstatus(each) for name, each in found.items()} == dict.fromkeys(found, CURRENT)
    assert {"Agent/reviewer", "Agent/indexer"} < found.keys()
    assert found["DelegationSweeper/default"]["status"]["stuckThresholdSeconds"] == 900
    wait = ("--for=condition=Ready", "agents", "--all", "--namespace", "agents", "--timeout=30s")
    assert "condition met" in helm.plane.kubectl("wait", *wait)


def test_a_self_heal_never_fights_with_us(helm: Helm, started: dict[str, Container]) -> None:
    """All is applied with force, again and again: no generation and no resourceVersion moves."""
    release = helm.objects()
    helm.plane.kubectl(*FORCED, "-f", "-", input=_text(release))
    _settled(helm.plane)
    before, rounds = _versions(helm.plane, release), _rounds(started["belay-operator"])
    for _ in range(HEALS):
        helm.plane.kubectl(*FORCED, "-k", str(GITOPS))
        helm.plane.kubectl(*FORCED, "-f", "-", input=_text(release))
    assert _rounds(started["belay-operator"]) == rounds, "a sweep came between, which counts in its status"
    after = _versions(helm.plane, release)
    assert {name: (before[name], now) for name, now in after.items() if before[name] != now} == {}
