"""Belay on its own control plane: operator and gateway as processes, each with its own ServiceAccount's token.

The manifests of `kubectl apply -k manifests/` are applied, so what runs here has the rights it will have in a cluster
and no more. Nothing outlives this process (see guard).
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from belay_api.meta import DEFAULT_AUDIENCE, GROUP
from belay_api.schema import KINDS
from belay_dev import kubeconfig
from belay_dev.clock import Deadline, Stopwatch
from belay_dev.controlplane import ControlPlane
from belay_dev.errors import DevError
from belay_dev.guard import Guard
from belay_dev.process import Process
from belay_dev.tools import Say, Tool, tell

NAMESPACE = "belay"
READY_SECONDS = 60.0
TOKEN_SECONDS = 24 * 3600
POLL_SECONDS = 0.1
PLURALS = tuple(kind.RESOURCE.plural for kind in KINDS)
DEV_ACCESS = Path(__file__).with_name("dev-access.yaml")


class StackError(DevError):
    """A part of Belay did not start, or ended by itself."""


@dataclass(frozen=True)
class Times:
    """Times that differ from the defaults, in seconds; None keeps a default."""

    grace: int | None = None
    stale_after: int | None = None
    heartbeat: int | None = None
    deadline: int | None = None
    stuck_threshold: int | None = None
    sweep_interval: int | None = None

    def environment(self) -> dict[str, str]:
        """The environment that tells both processes."""
        heartbeat = self.heartbeat or (max(1, self.stale_after // 3) if self.stale_after else None)
        named = {
            "BELAY_GRACE_SECONDS": self.grace,
            "BELAY_STALE_AFTER_SECONDS": self.stale_after,
            "BELAY_HEARTBEAT_SECONDS": heartbeat,
            "BELAY_DEADLINE_SECONDS": self.deadline,
            "BELAY_STUCK_THRESHOLD_SECONDS": self.stuck_threshold,
            "DELEGATION_STUCK_THRESHOLD_S": self.stuck_threshold,
            "DELEGATION_SWEEPER_INTERVAL_S": self.sweep_interval,
            "BELAY_LEASE_RENEW_SECONDS": max(1, self.stale_after // 9) if self.stale_after else None,
        }
        return {name: str(value) for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Ready:
    """Where everything is, once it is ready."""

    kubeconfig: Path
    gateway: str
    operator: str
    """Where the operator answers /healthz, /readyz and /metrics."""
    token_file: Path
    kubectl: Path
    pids: dict[str, int]

    def line(self) -> str:
        """One line of JSON for programs."""
        return json.dumps(
            {
                "kubeconfig": str(self.kubeconfig),
                "gateway": self.gateway,
                "operator": self.operator,
                "token": self.token_file.read_text().strip(),
                "tokenFile": str(self.token_file),
                "pids": self.pids,
            }
        )


class Stack:
    """Control plane, operator and gateway; started with `with`, ended with it.

    Args:
        data_dir: where state is kept for the next start; None: nothing is kept.
        times: times that differ from the defaults.
        environment: more settings of both processes, e.g. `BELAY_DRAIN_SECONDS`.
        gateway_port: 0 takes a free one.
        say: gets each line of progress.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        times: Times | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        gateway_port: int = 0,
        say: Say = tell,
    ) -> None:
        self._times = times or Times()
        self._environment = dict(environment or {})
        self._gateway_port = gateway_port
        self._say = say
        self._data_dir = data_dir
        self._held = ExitStack()
        self._token_age = Stopwatch()
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        with ExitStack() as held:
            self.guard = held.enter_context(Guard())
            self.control_plane = held.enter_context(ControlPlane(self._data_dir, guard=self.guard, say=self._say))
            self._folder = self.control_plane.data_dir / "belay"
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._install()
            self.ready = self._start(held)
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def tend(self) -> None:
        """Look after what runs: renew tokens at half their life. Raises StackError when a part has ended."""
        for process in self._processes:
            if not process.alive:
                raise StackError(f"{process.name} ended with exit code {process.exit_code}:\n{process.tail()}")
        if self._token_age.seconds > TOKEN_SECONDS / 2:
            self._write_tokens()

    def restart_gateway(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Stop the gateway as a rolling update does, and start it again at the same address. Raises StackError.

        `meanwhile` is called while there is no gateway.
        """
        self._end("belay-gateway")
        meanwhile()
        port = self.ready.gateway.rpartition(":")[2]
        self._wait_ready(self._spawn("belay-gateway", "belay_gateway.main", ["--port", port], self._held))

    def restart_operator(self) -> dict[str, str]:
        """Stop the operator as a rolling update does and start it again; returns what it says. Raises StackError."""
        self._end("belay-operator")
        return self._wait_ready(
            self._spawn("belay-operator", "belay_operator.main", ["--health-port", "0"], self._held)
        )

    def start_gateway(self, name: str) -> str:
        """Start one more gateway, beside the first; returns its address. Raises StackError."""
        process = self._spawn(name, "belay_gateway.main", ["--port", "0"], self._held, account="belay-gateway")
        return self._wait_ready(process)["url"]

    def kill(self, name: str) -> None:
        """End a process as a crash would: it says nothing to anybody."""
        old = next(process for process in self._processes if process.name == name)
        self._processes.remove(old)
        old.kill()

    def stop(self, name: str) -> None:
        """End a process as a rolling update does; returns when it has ended."""
        self._end(name)

    def pid(self, name: str) -> int:
        """The pid of `belay-operator`, `belay-gateway` or another gateway that was started."""
        return next(process.pid for process in self._processes if process.name == name)

    def account(self, name: str) -> Path:
        """The kubeconfig that process works with."""
        return self._folder / f"{name}.kubeconfig"

    def _end(self, name: str) -> None:
        old = next(process for process in self._processes if process.name == name)
        self._processes.remove(old)
        old.stop()

    def _install(self) -> None:
        self._say("installing Belay: CRDs, roles, admission policies")
        manifests, kubectl = find_manifests(), self.control_plane.kubectl
        kubectl("apply", "--server-side", "-k", str(manifests))
        kubectl(
            "wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{plural}.{GROUP}" for plural in PLURALS)
        )
        kubectl("apply", "--server-side", "-f", str(manifests / "sweeper.yaml"), "-f", str(DEV_ACCESS))
        self._write_tokens()

    def _write_tokens(self) -> None:
        self._token_age = Stopwatch()
        for account in ("belay-operator", "belay-gateway"):
            path = self.account(account)
            self.control_plane.service_account_kubeconfig(NAMESPACE, account, path, expiration_seconds=TOKEN_SECONDS)
        token = self.control_plane.service_account_token("default", "belay-agent", [DEFAULT_AUDIENCE], TOKEN_SECONDS)
        kubeconfig.write_private(self._folder / "agent.token", token)

    def _start(self, held: ExitStack) -> Ready:
        operator = self._spawn("belay-operator", "belay_operator.main", ["--health-port", "0"], held)
        gateway = self._spawn("belay-gateway", "belay_gateway.main", ["--port", str(self._gateway_port)], held)
        leading = self._wait_ready(operator)
        announced = self._wait_ready(gateway)
        pids = {**self.control_plane.pids, operator.name: operator.pid, gateway.name: gateway.pid}
        kubectl = self.control_plane.binaries[Tool.KUBECTL]
        token_file = self._folder / "agent.token"
        return Ready(self.control_plane.kubeconfig, announced["url"], leading["url"], token_file, kubectl, pids)

    def _spawn(self, name: str, module: str, flags: list[str], held: ExitStack, account: str | None = None) -> Process:
        log = self._folder / f"{name}.log"
        log.write_text("")
        config = self.account(account or name)
        entry = f"import sys; from {module} import main; sys.exit(main())"
        command = [sys.executable, "-c", entry, "--kubeconfig", str(config), "--announce", *flags]
        environment = {**clean_environment(), **self._times.environment(), **self._environment}
        process = self.guard.spawn(command, log=log, name=name, env=environment)
        held.callback(process.stop)
        self._processes.append(process)
        return process

    def _wait_ready(self, process: Process) -> dict[str, str]:
        self._say(f"starting {process.name}")
        deadline = Deadline(READY_SECONDS)
        while not deadline.passed:
            announced = next(
                (line for line in process.log.read_text().splitlines() if line.startswith('{"ready"')), None
            )
            if announced:
                answer: dict[str, str] = json.loads(announced)
                return answer
            if process.wait(POLL_SECONDS):
                raise StackError(f"{process.name} did not start:\n{process.tail()}")
        raise StackError(f"{process.name} was not ready within {READY_SECONDS:.0f} s:\n{process.tail()}")


def clean_environment() -> dict[str, str]:
    """This environment without what would lead a process to another cluster or gateway."""
    other = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    return {k: v for k, v in os.environ.items() if k not in other and not k.startswith(("BELAY_", "DELEGATION_"))} | {
        "PYTHONUNBUFFERED": "1"
    }


def find_manifests() -> Path:
    """The manifests, in a checkout or in an installed package. Raises StackError."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent.parent / "manifests", here / "manifests"):
        if (folder / "kustomization.yaml").is_file():
            return folder
    raise StackError("manifests/ is missing beside the package: reinstall belay, or work in a checkout")
