"""The containers of the rendered Deployments, each as a local process: its arguments, its environment, its account."""

import socket
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from belay_dev.clock import Deadline, pause
from belay_dev.controlplane import ControlPlane
from belay_dev.guard import Guard
from belay_dev.process import Process
from belay_dev.stack import clean_environment
from chart.helm import NAMESPACE, Helm, of_kind

Json = dict[str, Any]

LOOPBACK = "127.0.0.1"
SECONDS = 90.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with closing(socket.socket()) as taken:
        taken.bind((LOOPBACK, 0))
        port: int = taken.getsockname()[1]
        return port


def listening(operator: int, gateway: int) -> list[str]:
    """Values that have both processes listen here and nowhere else."""
    settings = {
        "operator.settings.healthHost": LOOPBACK,
        "operator.settings.healthPort": operator,
        "gateway.settings.host": LOOPBACK,
        "gateway.settings.port": gateway,
    }
    return ["--set", ",".join(f"{name}={value}" for name, value in settings.items())]


class Container:
    """The one container of a Deployment, running."""

    def __init__(self, plane: ControlPlane, guard: Guard, deployment: Json, folder: Path) -> None:
        pod = deployment["spec"]["template"]["spec"]
        (self._spec,) = pod["containers"]
        self.name: str = deployment["metadata"]["name"]
        account = plane.service_account_kubeconfig(NAMESPACE, pod["serviceAccountName"], folder / f"{self.name}.config")
        given = {each["name"]: each["value"] for each in self._spec["env"]}
        # In a pod the account's token is found by itself; here it lies elsewhere, and that is all that differs.
        environment = {**clean_environment(), **given, "BELAY_KUBECONFIG": str(account)}
        program, *flags = self._spec["command"]
        command = [Path(sys.executable).with_name(program), *flags]
        self.process: Process = guard.spawn(command, log=folder / f"{self.name}.log", name=self.name, env=environment)

    @property
    def port(self) -> int:
        """The port that it says it has."""
        (port,) = self._spec["ports"]
        number: int = port["containerPort"]
        return number

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def until_probed(self) -> None:
        """Wait until each of its probes is answered as a kubelet wants it."""
        for kind in ("livenessProbe", "readinessProbe"):
            probe = self._spec[kind]["httpGet"]
            assert probe["port"] == self._spec["ports"][0]["name"]
            deadline = Deadline(SECONDS)
            while not self._answers(probe["path"]):
                assert self.process.alive, self.process.tail()
                assert not deadline.passed, f"{kind} of {self.name} is not answered: {self.process.tail()}"
                pause(0.1)

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:  # noqa: S310 - on loopback
                status: int = answer.status
                return status == 200
        except (urllib.error.URLError, OSError):
            return False


def running(helm: Helm, guard: Guard, folder: Path, *flags: str) -> dict[str, Container]:
    """Install, and start each Deployment once; returns when the probes are answered."""
    helm.install(*listening(free_port(), free_port()), *flags)
    helm.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    started = [Container(helm.plane, guard, each, folder) for each in of_kind(helm.objects(), "Deployment")]
    for container in started:
        container.until_probed()
    return {container.name: container for container in started}
