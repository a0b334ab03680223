"""Where a control plane keeps its files, and the ports it listens on; all of them on loopback only."""

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from belay_dev.certs import Pki

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """The ports of one start."""

    apiserver: int
    controller_manager: int
    etcd: int
    etcd_peer: int

    @classmethod
    def free(cls) -> "Ports":
        """Ports that were free a moment ago; another process may still be faster, so a start is tried again."""
        with ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in range(4)]
            for each in sockets:
                each.bind((LOOPBACK, 0))
            return cls(*[each.getsockname()[1] for each in sockets])


@dataclass(frozen=True)
class Layout:
    """The files below one folder."""

    root: Path

    @property
    def pki(self) -> Pki:
        return Pki(self.root / "pki")

    @property
    def etcd_data(self) -> Path:
        return self.root / "etcd"

    @property
    def admin_kubeconfig(self) -> Path:
        return self.root / "admin.kubeconfig"

    @property
    def controller_manager_kubeconfig(self) -> Path:
        return self.root / "controller-manager.kubeconfig"

    @property
    def authentication(self) -> Path:
        return self.root / "authentication.json"

    @property
    def audit_policy(self) -> Path:
        return self.root / "audit-policy.json"

    @property
    def audit_log(self) -> Path:
        return self.root / "audit" / "audit.log"

    @property
    def kubectl_cache(self) -> Path:
        """Of our own: the shared one is keyed by host and port, and ours are reused by other control planes."""
        return self.root / "kubectl-cache"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def make(self) -> None:
        """Make the folders, readable by their owner only."""
        for folder in (self.root, self.audit_log.parent, self.log("any").parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
