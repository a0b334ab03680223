"""Installs Belay from `manifests/` and returns when it is in force: each wait is for a fact, none is for time."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from belay_api.meta import ANNOTATION_CANCEL_CASCADE, API_VERSION, GROUP
from belay_api.schema import KINDS
from belay_dev.clock import Deadline
from belay_dev.controlplane import ControlPlane
from belay_dev.errors import ControlPlaneError

MANIFESTS = Path(__file__).parent.parent / "manifests"
NAMESPACE = "belay"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:belay-operator"
GATEWAY = f"system:serviceaccount:{NAMESPACE}:belay-gateway"
SECONDS = 60.0

_PROBE = {
    "apiVersion": API_VERSION,
    "kind": "Delegation",
    "metadata": {"name": "probe", "namespace": NAMESPACE},
    "spec": {"agentRef": {"name": "probe"}, "task": {"prompt": "probe"}},
}
_ROW = {
    "apiVersion": API_VERSION,
    "kind": "AgentSubscription",
    "metadata": {"name": "probe", "namespace": NAMESPACE},
    "spec": {"agentRef": {"name": "probe"}, "sessionId": "probe"},
}
_PERMISSION = {
    "apiVersion": API_VERSION,
    "kind": "PermissionRequest",
    "metadata": {"name": "probe", "namespace": NAMESPACE},
    "spec": {"agentRef": {"name": "probe"}, "sessionId": "probe", "requestId": "probe", "tool": "probe"},
}
_MESSAGE = {
    "apiVersion": API_VERSION,
    "kind": "PendingMessage",
    "metadata": {"name": "probe", "namespace": NAMESPACE},
    "spec": {"sessionRef": {"name": "probe"}, "content": "probe", "source": {"name": "somebody else"}},
}
_TURN = {
    "apiVersion": API_VERSION,
    "kind": "SessionTurn",
    "metadata": {"name": "probe-1", "namespace": NAMESPACE},
    "spec": {"sessionRef": {"name": "probe"}, "sequence": 1, "outcome": "Answered"},
}
_CREATE = ("create", "--dry-run=server", "-f", "-")
_APPLY = ("apply", "--dry-run=server", "-f", "-")
_PATCH = ("patch", "--dry-run=server", "--subresource=status", "--type=merge", f"--namespace={NAMESPACE}")


def install(plane: ControlPlane) -> None:
    """Apply `manifests/` and wait until definitions are served, RBAC and every policy in force."""
    plane.kubectl("apply", "-k", str(MANIFESTS))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    for kind in KINDS:
        _until(f"the storage of {kind.RESOURCE.plural}", partial(_served, plane, kind.RESOURCE.plural))
    plane.kubectl("apply", "-f", str(MANIFESTS / "sweeper.yaml"))
    for account in (OPERATOR, GATEWAY):
        _until(f"the rights of {account}", partial(_allowed, plane, account))
    _until_enforced(plane)


def _served(plane: ControlPlane, plural: str) -> bool:
    """Whether a kind can be listed: for a moment after it is established the answer may be 429, try again."""
    try:
        plane.kubectl("get", f"{plural}.{GROUP}", "--all-namespaces", "-o", "name")
    except ControlPlaneError:
        return False
    return True


def _allowed(plane: ControlPlane, account: str) -> bool:
    attributes = {"group": GROUP, "resource": "delegations", "subresource": "status", "verb": "patch"}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "resourceAttributes": attributes},
    }
    return plane.kubectl("create", "-f", "-", "-o", "jsonpath={.status.allowed}", input=json.dumps(review)) == "true"


def _until_enforced(plane: ControlPlane) -> None:
    """Try, without effect and as the administrator, what each policy refuses, until it does."""
    plane.kubectl("create", "-f", "-", input=json.dumps(_PROBE))
    spoofed = {**_PROBE, "metadata": {**_PROBE["metadata"], "name": "spoofed"}}  # type: ignore[dict-item]
    spoofed["spec"] = {**_PROBE["spec"], "requester": "somebody else"}  # type: ignore[dict-item]
    misspelt = {**_PROBE, "metadata": {**_PROBE["metadata"], "annotations": {ANNOTATION_CANCEL_CASCADE: "no"}}}  # type: ignore[dict-item]
    refusals: dict[str, Callable[[], str]] = {
        "belay-delegation-annotations": lambda: plane.kubectl(*_APPLY, input=json.dumps(misspelt)),
        "belay-delegation-requests": lambda: plane.kubectl(*_CREATE, input=json.dumps(spoofed)),
        "belay-message-senders": lambda: plane.kubectl(*_CREATE, input=json.dumps(_MESSAGE)),
        "belay-session-status": lambda: plane.kubectl(*_CREATE, input=json.dumps(_TURN)),
        "belay-permission-requests": lambda: plane.kubectl(*_CREATE, input=json.dumps(_PERMISSION)),
        "belay-subscription-rows": lambda: plane.kubectl(*_CREATE, input=json.dumps(_ROW)),
        "belay-delegation-arrows": lambda: plane.kubectl(*_PATCH, "delegation/probe", '-p={"status":{"reason":"x"}}'),
        "belay-status-writers": lambda: plane.kubectl(*_PATCH, "bsweep/default", '-p={"status":{"totals":{}}}'),
    }
    for policy, attempt in refusals.items():
        _until(policy, partial(_refused, policy, attempt))
    plane.kubectl("delete", "delegation/probe", "--namespace", NAMESPACE)


def _refused(policy: str, attempt: Callable[[], str]) -> bool:
    try:
        attempt()
    except ControlPlaneError as error:
        if policy in str(error):
            return True
        raise
    return False


def _until(what: str, fact: Callable[[], bool]) -> None:
    deadline = Deadline(SECONDS)
    while not fact():
        if deadline.passed:
            raise ControlPlaneError(f"{what}: not in force {SECONDS:.0f} s after the installation")
