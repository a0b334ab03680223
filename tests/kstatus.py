"""The rules by which kstatus, and so Flux and kpt, read the state of a custom resource, as its package says them."""

from collections.abc import Mapping
from typing import Any

CURRENT, IN_PROGRESS, FAILED, TERMINATING = "Current", "InProgress", "Failed", "Terminating"


def kstatus(obj: Mapping[str, Any]) -> str:
    """The state of any object whose kind kstatus doesn't know.

    In the order of sigs.k8s.io/cli-utils/pkg/kstatus: deletion, the observed generation, Reconciling, Stalled, Ready.
    """
    metadata, status = obj["metadata"], obj.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return TERMINATING
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata.get("generation"):
        return IN_PROGRESS
    says = {condition["type"]: condition["status"] for condition in status.get("conditions") or []}
    if says.get("Reconciling") == "True":
        return IN_PROGRESS
    if says.get("Stalled") == "True":
        return FAILED
    return CURRENT if says.get("Ready", "True") == "True" else IN_PROGRESS
