"""One whole Belay for the end-to-end tests: operator and gateway as processes, agents as `belay agent run`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from belay_dev.clock import Deadline, pause
from belay_dev.errors import ControlPlaneError
from belay_dev.process import Process
from belay_dev.stack import Stack, Times, clean_environment
from rights.record import Record

GRACE_SECONDS = 8
SECONDS = 60.0
BELAY = [sys.executable, "-m", "belay_client.cli"]

Json = dict[str, Any]


class Belay:
    """A running Belay and the command line of a person who uses it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.environment = {
            **clean_environment(),
            "KUBECONFIG": str(stack.ready.kubeconfig),
            "BELAY_GATEWAY": stack.ready.gateway,
            "BELAY_TOKEN_FILE": str(stack.ready.token_file),
        }

    def run(self, *args: str, seconds: float = SECONDS, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `belay …` to its end."""
        env = {**self.environment, **environment}
        return subprocess.run(
            [*BELAY, *args],
            env=env,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def agent(self, name: str, command: str, *flags: str, spec: Json | None = None) -> Process:
        """Create an Agent and a process that attaches as it; returns once it is online."""
        self.create_agent(name, spec)
        log = self.folder / f"{name}-{os.urandom(3).hex()}.log"
        process = self.stack.guard.spawn(
            [*BELAY, "agent", "run", name, "--exec", command, *flags], log=log, name=name, env=self.environment
        )
        self.until(lambda: self.status("agent", name).get("routable"), process)
        return process

    def create_agent(self, name: str, spec: Json | None = None) -> None:
        """Create an Agent."""
        body = {"apiVersion": "belay.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": spec or {}}
        self.stack.control_plane.kubectl("apply", "-f", "-", input=json.dumps(body))

    def get(self, kind: str, name: str) -> Json:
        """An object of the default namespace; empty when there is none."""
        try:
            found: Json = json.loads(self.stack.control_plane.kubectl("get", kind, name, "-o", "json"))
        except ControlPlaneError as error:
            if "NotFound" in str(error):
                return {}
            raise
        return found

    def status(self, kind: str, name: str) -> Json:
        """Its status; empty when there is none."""
        return self.get(kind, name).get("status") or {}

    def until(self, fact: Callable[[], object], *processes: Process) -> None:
        """Wait for a fact; fails with what the processes said when one ended or the fact does not come."""
        deadline = Deadline(SECONDS)
        while not fact():
            said = "\n".join(process.tail() for process in processes)
            assert all(process.alive for process in processes), said
            assert not deadline.passed, f"this did not come: {fact}\n{said}"
            self.stack.tend()
            pause(0.05)

    def until_phase(self, name: str, phase: str, *processes: Process) -> Json:
        """Wait until a delegation is in `phase`; returns its status."""
        self.until(lambda: self.status("delegation", name).get("phase") == phase, *processes)
        return self.status("delegation", name)


def holds(status: Json, condition: str) -> bool:
    """Whether a condition is True."""
    return any(c["type"] == condition and c["status"] == "True" for c in status.get("conditions") or [])


@pytest.fixture(scope="session")
def belay(tmp_path_factory: pytest.TempPathFactory, record: Record) -> Iterator[Belay]:
    """A running Belay with a short grace."""
    with Stack(times=Times(grace=GRACE_SECONDS)) as stack, record.kept(stack.control_plane):
        yield Belay(stack, tmp_path_factory.mktemp("agents"))
