"""The three processes of one start: brought up in order, watched until they are ready, taken down in reverse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from belay_dev import components, kubeconfig
from belay_dev.binaries import Binaries
from belay_dev.clock import Deadline
from belay_dev.errors import ControlPlaneError
from belay_dev.guard import Guard
from belay_dev.layout import LOOPBACK, Layout, Ports
from belay_dev.probe import Probe
from belay_dev.process import Process
from belay_dev.tools import Tool

READY_SECONDS = 120.0
STOP_SECONDS = 10.0
TICK_SECONDS = 0.05
LOG_LINES = 20
ADDRESS_IN_USE = "address already in use"


class PortTakenError(ControlPlaneError):
    """Another process was faster to take a port that was free a moment ago."""


@dataclass
class Fleet:
    """Etcd, API server and controller manager on fixed ports, over one folder of state."""

    layout: Layout
    ports: Ports
    binaries: Binaries
    guard: Guard
    audit: bool = True
    etcd_flags: Mapping[str, object] = field(default_factory=dict)
    running: dict[Tool, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The API server's."""
        return f"https://{LOOPBACK}:{self.ports.apiserver}"

    def write_files(self) -> None:
        """Write the kubeconfigs and configuration that fit these ports, and begin with empty logs."""
        layout, pki = self.layout, self.layout.pki
        components.write_configuration(layout)
        kubeconfig.with_certificate(layout.admin_kubeconfig, self.url, pki.ca, pki.admin)
        kubeconfig.with_certificate(layout.controller_manager_kubeconfig, self.url, pki.ca, pki.controller_manager)
        for tool in Tool:
            layout.log(tool).unlink(missing_ok=True)

    def start(self) -> None:
        """Start all three and wait until each is ready.

        Raises:
            PortTakenError: a port is no longer free.
            ControlPlaneError: a process ended, or was not ready in time.
        """
        self._spawn(Tool.ETCD, components.etcd(self.layout, self.ports, self.etcd_flags))
        self.start_apiserver()

    def start_apiserver(self) -> None:
        """Start the API server and the controller manager, and wait until both are ready.

        Raises:
            ControlPlaneError: it runs already; else as `start`.
        """
        if Tool.APISERVER in self.running and self.running[Tool.APISERVER].alive:
            raise ControlPlaneError("the API server is already started")
        self._stop_one(Tool.CONTROLLER_MANAGER, kill=True)  # still there if the API server ended on its own
        self._spawn(Tool.APISERVER, components.apiserver(self.layout, self.ports, audit=self.audit))
        self._wait_until_ready(Tool.APISERVER, self.ports.apiserver, "/readyz")
        self._spawn(Tool.CONTROLLER_MANAGER, components.controller_manager(self.layout, self.ports))
        self._wait_until_ready(Tool.CONTROLLER_MANAGER, self.ports.controller_manager, "/healthz")

    def stop_apiserver(self, *, kill: bool = False) -> None:
        """End the API server, gracefully or (`kill`) as a crash would; and the controller manager.

        A controller manager that lived through this would, after a longer downtime, still do nothing for a minute.
        """
        self._stop_one(Tool.CONTROLLER_MANAGER, kill=True)
        self._stop_one(Tool.APISERVER, kill=kill)

    def stop(self, *, kill: bool = False) -> None:
        """End all three, each before what it depends on."""
        for tool in reversed(list(self.running)):
            self._stop_one(tool, kill=kill)

    def _stop_one(self, tool: Tool, *, kill: bool) -> None:
        process = self.running.pop(tool, None)
        if process:
            process.kill() if kill else process.stop(STOP_SECONDS)

    def _spawn(self, tool: Tool, flags: Sequence[str]) -> None:
        log = self.layout.log(tool)
        self.running[tool] = self.guard.spawn([self.binaries[tool], *flags], log=log, name=tool)

    def _wait_until_ready(self, tool: Tool, port: int, path: str) -> None:
        probe, deadline = Probe(port, self.layout.pki.ca), Deadline(READY_SECONDS)
        while not probe.ready(path):
            for process in self.running.values():
                _check(process)
            if deadline.passed:
                raise ControlPlaneError(
                    f"{tool} was not ready within {READY_SECONDS:.0f} s; its last lines:\n"
                    f"{self.running[tool].tail(LOG_LINES)}"
                )
            self.running[tool].wait(TICK_SECONDS)


def _check(process: Process) -> None:
    if not process.alive:
        failure = PortTakenError if process.printed(ADDRESS_IN_USE) else ControlPlaneError
        raise failure(
            f"{process.name} ended with exit code {process.exit_code} as it started; its last lines:\n"
            f"{process.tail(LOG_LINES)}"
        )
