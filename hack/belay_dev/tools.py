"""The programs that can be had, each at its pinned version, and how progress is told."""

import sys
from collections.abc import Callable
from enum import StrEnum

from belay_dev import versions

Say = Callable[[str], None]
"""Gets one line of progress."""


class Tool(StrEnum):
    """A program the control plane, or a test of the chart or of the bus, needs."""

    APISERVER = "kube-apiserver"
    CONTROLLER_MANAGER = "kube-controller-manager"
    ETCD = "etcd"
    KUBECTL = "kubectl"
    HELM = "helm"
    NATS = "nats-server"
    HELM_UNITTEST = "helm-unittest"
    KUBECONFORM = "kubeconform"

    @property
    def version(self) -> str:
        """The pinned version, without a leading v."""
        others = {
            Tool.ETCD: versions.ETCD,
            Tool.HELM: versions.HELM,
            Tool.NATS: versions.NATS,
            Tool.HELM_UNITTEST: versions.HELM_UNITTEST,
            Tool.KUBECONFORM: versions.KUBECONFORM,
        }
        return others.get(self, versions.KUBERNETES)


CONTROL_PLANE = (Tool.ETCD, Tool.APISERVER, Tool.CONTROLLER_MANAGER, Tool.KUBECTL)
AHEAD = (*CONTROL_PLANE, Tool.HELM)
"""What is made ahead of its use; the rest is made by the test that asks for it."""


def tell(message: str) -> None:
    """Print one line of progress on standard error."""
    print(f"belay: {message}", file=sys.stderr, flush=True)
