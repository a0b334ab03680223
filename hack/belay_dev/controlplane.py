"""A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager, with RBAC and TLS.

There are no nodes, so no pod ever runs; everything else is the real thing. Nothing of it outlives this process (see
guard). A folder of state given by the caller is kept and used again at the next start; else it is a temporary one.
"""

import fcntl
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from belay_dev import binaries, certs, kubeconfig
from belay_dev.binaries import Binaries
from belay_dev.errors import ControlPlaneError
from belay_dev.fleet import Fleet, PortTakenError
from belay_dev.guard import Guard
from belay_dev.layout import Layout, Ports
from belay_dev.tools import CONTROL_PLANE, Say, Tool, tell

KUBECTL_SECONDS = 120.0
PORT_TRIES = 3


class ControlPlane:
    """Started by `start()` or `with`, ended by `stop()`; may be started again.

    Args:
        data_dir: where state is kept for the next start; None: a temporary folder that is removed at the end.
        audit: write every request, at Metadata level, to `audit_log`.
        guard: share this one, which then is the caller's to close; None: a guard of its own.
        found: use these programs; None: find or make them.
        choose_ports: called for each try to start.
        etcd_flags: flags of etcd that differ, e.g. `{"quota-backend-bytes": 16 << 20}`.
        say: gets each line of progress.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        audit: bool = True,
        *,
        guard: Guard | None = None,
        found: Binaries | None = None,
        choose_ports: Callable[[], Ports] = Ports.free,
        etcd_flags: Mapping[str, object] | None = None,
        say: Say = tell,
    ) -> None:
        self._kept = data_dir
        self._audit = audit
        self._guard = guard
        self._found = found
        self._choose_ports = choose_ports
        self._etcd_flags = dict(etcd_flags or {})
        self._say = say
        self._fleet: Fleet | None = None
        self._held = ExitStack()

    def start(self) -> Self:
        """Start, and return when requests are answered and the `default` namespace is ready for use.

        Raises:
            BinariesError: a program could neither be found nor made.
            ControlPlaneError: a process ended or was not ready in time, or the data folder is in use.
        """
        if self._fleet is not None:
            raise ControlPlaneError("this control plane is already started")
        found = self._found or binaries.ensure(CONTROL_PLANE, say=self._say)
        with ExitStack() as held:
            guard = self._guard or held.enter_context(Guard())
            layout = Layout(self._open_data_dir(guard, held))
            certs.ensure(layout.pki.folder)
            self._fleet = self._start_fleet(layout, found, guard, held)
            held.callback(self._forget)
            self.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
            self._held = held.pop_all()
        return self

    def stop(self) -> None:
        """End all processes and remove a temporary folder; returns when that is done. Twice is fine."""
        self._held.close()

    def start_apiserver(self) -> None:
        """Start the API server again, on the same port and with the same data, and wait until it is ready.

        Raises:
            ControlPlaneError: it runs already, or it ended or was not ready in time.
        """
        self._started.start_apiserver()

    def stop_apiserver(self, *, kill: bool = False) -> None:
        """Take the API server down, gracefully or (`kill`) as a crash would; the controllers pause with it."""
        self._started.stop_apiserver(kill=kill)

    def restart_apiserver(self, *, kill: bool = False) -> None:
        """Take the API server down and up again."""
        self.stop_apiserver(kill=kill)
        self.start_apiserver()

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002  (named as in subprocess.run)
        timeout: float = KUBECTL_SECONDS,
    ) -> str:
        """Run kubectl as the administrator and return what it printed.

        Args:
            args: as on the command line.
            input: its standard input.
            timeout: seconds until it is ended.

        Raises:
            ControlPlaneError: it failed or did not end in time; holds what it said on standard error.
        """
        layout = self._started.layout
        flags = [f"--kubeconfig={layout.admin_kubeconfig}", f"--cache-dir={layout.kubectl_cache}"]
        command = [str(self.binaries[Tool.KUBECTL]), *flags, *args]
        try:
            done = subprocess.run(
                command, input=input or "", capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ControlPlaneError(f"kubectl {' '.join(args)} did not end within {timeout:.0f} s") from error
        if done.returncode:
            raise ControlPlaneError(f"kubectl {' '.join(args)} failed: {done.stderr.strip()}")
        return done.stdout

    def service_account_token(
        self, namespace: str, name: str, audiences: list[str] | None = None, expiration_seconds: int = 3600
    ) -> str:
        """A token of an existing service account, from the TokenRequest API (which allows no less than 600 s).

        Raises:
            ControlPlaneError: it was refused, for instance as there is no such service account.
        """
        asked = [f"--audience={audience}" for audience in audiences or []]
        duration = f"--duration={expiration_seconds}s"
        return self.kubectl("create", "token", name, "--namespace", namespace, duration, *asked).strip()

    def service_account_kubeconfig(
        self, namespace: str, name: str, path: Path, *, expiration_seconds: int = 86400
    ) -> Path:
        """Write a kubeconfig of an existing service account, its token in a file beside (`<path>.token`).

        Writing it again renews the token for whoever already reads that file.

        Raises:
            ControlPlaneError: the token was refused.
        """
        token = self.service_account_token(namespace, name, expiration_seconds=expiration_seconds)
        token_file = kubeconfig.write_private(path.with_name(f"{path.name}.token"), token)
        return kubeconfig.with_token_file(path, self.url, self.ca_file, token_file, namespace)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, with its certificate inside."""
        return self._started.layout.admin_kubeconfig

    @property
    def url(self) -> str:
        return self._started.url

    @property
    def ca_file(self) -> Path:
        return self._started.layout.pki.ca

    @property
    def audit_log(self) -> Path:
        """One JSON object a line; rotated files stand beside it."""
        return self._started.layout.audit_log

    @property
    def data_dir(self) -> Path:
        return self._started.layout.root

    @property
    def binaries(self) -> Binaries:
        return self._started.binaries

    @property
    def pids(self) -> dict[str, int]:
        """The pid of each process that was started and not stopped, by the program's name."""
        return {str(tool): process.pid for tool, process in self._started.running.items()}

    @property
    def _started(self) -> Fleet:
        if self._fleet is None:
            raise ControlPlaneError("this control plane is not started")
        return self._fleet

    def _forget(self) -> None:
        self._fleet = None

    def _open_data_dir(self, guard: Guard, held: ExitStack) -> Path:
        if self._kept is None:
            folder = guard.folder("belay-controlplane-")
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            return folder
        layout = Layout(self._kept.absolute())
        layout.make()
        lock = held.enter_context(layout.lock.open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ControlPlaneError(f"another control plane uses {layout.root}") from error
        return layout.root

    def _start_fleet(self, layout: Layout, found: Binaries, guard: Guard, held: ExitStack) -> Fleet:
        for tries_left in reversed(range(PORT_TRIES)):
            layout.make()
            fleet = Fleet(layout, self._choose_ports(), found, guard, self._audit, self._etcd_flags)
            fleet.write_files()
            held.callback(fleet.stop)
            try:
                fleet.start()
            except BaseException as error:
                fleet.stop(kill=True)
                if not tries_left or not isinstance(error, PortTakenError):
                    raise
            else:
                return fleet
        raise AssertionError("unreachable")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
