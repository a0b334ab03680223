"""The pinned versions of everything the embedded control plane and the tests run; no other file names one."""

from typing import Final

KUBERNETES: Final = "1.36.3"
ETCD: Final = "3.6.8"
HELM: Final = "4.3.1"
NATS: Final = "2.15.2"
"""Of the tests' own server only."""
HELM_UNITTEST: Final = "1.1.2"
KUBECONFORM: Final = "0.8.0"
"""Both only check the chart."""
