"""The real Helm on one control plane, as its administrator, with nothing of its own outside a folder."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from belay_dev import binaries
from belay_dev.controlplane import ControlPlane
from belay_dev.tools import Tool
from chart import definitions

Json = dict[str, Any]

ROOT = Path(__file__).parent.parent.parent
PREVIOUS = Path(__file__).parent / "previous" / "belay-0.1.0.tgz"
"""The chart as it was before it had Deployments, with the definitions in Helm's own `crds/`."""
NAMESPACE = "belay"
RELEASE = "belay"
SECONDS = 240.0


class Helm:
    """Runs Helm; what it prints is the answer, and a failure is an error with what it said."""

    def __init__(self, plane: ControlPlane, home: Path) -> None:
        self.plane = plane
        self._program = str(binaries.ensure([Tool.HELM])[Tool.HELM])
        folders = {f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        self.environment = {**os.environ, **folders, "KUBECONFIG": str(plane.kubeconfig)}
        """What it runs with."""

    def __call__(self, *arguments: str) -> str:
        """Run it in the release's namespace."""
        done = subprocess.run(
            [self._program, *arguments, "--namespace", NAMESPACE],
            env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        assert "would violate PodSecurity" not in done.stderr
        return done.stdout

    def install(self, *flags: str, chart: Path = ROOT) -> str:
        """Install as the README says."""
        return self("install", RELEASE, str(chart), *flags)

    def upgrade(self, *flags: str, chart: Path = ROOT) -> str:
        """Upgrade the release."""
        return self("upgrade", RELEASE, str(chart), *flags)

    def objects(self) -> list[Json]:
        """What the release says that it made."""
        return documents(self("get", "manifest", RELEASE))

    def get(self, what: str, *flags: str) -> Json:
        """An object of the release's namespace, or of none."""
        found: Json = json.loads(self.plane.kubectl("get", what, "--namespace", NAMESPACE, "-o", "json", *flags))
        return found

    def exists(self, what: str, namespace: str = NAMESPACE) -> bool:
        """Whether there is such an object."""
        return bool(self.plane.kubectl("get", what, "--namespace", namespace, "--ignore-not-found", "-o", "name"))

    def clear(self) -> None:
        """Remove what a test leaves, wherever it failed: the release, and the definitions with all objects of them."""
        self("uninstall", RELEASE, "--ignore-not-found")
        if self.exists("crd/delegationsweepers.belay.dev") and self.exists("delegationsweeper/default"):
            self.release_sweeper()
        definitions.remove(self.plane)

    def release_sweeper(self) -> None:
        """As docs/install.md says, once no operator runs: its timer's finalizer would hold the object for ever."""
        without = ("--type=merge", '-p={"metadata":{"finalizers":null}}')
        self.plane.kubectl("patch", "delegationsweeper", "default", "--namespace", NAMESPACE, *without)


def documents(text: str) -> list[Json]:
    """The objects in a text of YAML."""
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(objects: Iterable[Json], kind: str) -> Iterator[Json]:
    """Those of one kind."""
    return (each for each in objects if each["kind"] == kind)
