"""The programs that can be had, each at its pinned version, and how progress is told."""

import sys
from collections.abc import Callable
from enum import StrEnum

from belay_dev import versions

Say = Callable[[str], None]
"""Gets one line of progress."""


class Tool(StrEnum):
    """A program the control plane, or a test of the chart, needs."""

    APISERVER = "kube-apiserver"
    CONTROLLER_MANAGER = "kube-controller-manager"
    ETCD = "etcd"
    KUBECTL = "kubectl"
    HELM = "helm"

    @property
    def version(self) -> str:
        """The pinned version, without a leading v."""
        return {Tool.ETCD: versions.ETCD, Tool.HELM: versions.HELM}.get(self, versions.KUBERNETES)


CONTROL_PLANE = (Tool.ETCD, Tool.APISERVER, Tool.CONTROLLER_MANAGER, Tool.KUBECTL)


def tell(message: str) -> None:
    """Print one line of progress on standard error."""
    print(f"belay: {message}", file=sys.stderr, flush=True)
