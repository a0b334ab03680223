"""Ordinary accounts for tests: a ServiceAccount with exactly the rules given, and a client that uses its token."""

from pathlib import Path

from belay_dev.clock import Deadline
from belay_dev.controlplane import ControlPlane
from belay_kube.client import ACCESS_REVIEWS, Collection, Json, Kube, connect

RBAC = "apis/rbac.authorization.k8s.io/v1"
ROLES = Collection(RBAC, "roles")
ROLE_BINDINGS = Collection(RBAC, "rolebindings")
SERVICE_ACCOUNTS = Collection("api/v1", "serviceaccounts")
SECONDS = 30.0


def username(namespace: str, name: str) -> str:
    """What the API server calls a ServiceAccount."""
    return f"system:serviceaccount:{namespace}:{name}"


async def account(plane: ControlPlane, admin: Kube, namespace: str, name: str, rules: list[Json], folder: Path) -> Kube:
    """A client of a new ServiceAccount that may do `rules` in its namespace, and by now can; the caller closes it."""
    await admin.create(SERVICE_ACCOUNTS, namespace, {"metadata": {"name": name}})
    await grant(admin, namespace, username(namespace, name), name, rules)
    return await connect(plane.service_account_kubeconfig(namespace, name, folder / name))


async def grant(admin: Kube, namespace: str, user: str, name: str, rules: list[Json]) -> None:
    """Let `user` do `rules` in a namespace, by a Role called `name`; returns when each of them is in force."""
    await admin.create(ROLES, namespace, {"metadata": {"name": name}, "rules": rules})
    await bind(admin, namespace, user, "Role", name)
    deadline = Deadline(SECONDS)
    for rule in rules:
        while not await _allowed(admin, namespace, user, rule):
            assert not deadline.passed, f"{user} was not granted {rule} in time"


async def bind(admin: Kube, namespace: str, user: str, kind: str, role: str) -> None:
    """Give `user` a Role or ClusterRole in a namespace."""
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    binding = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject]}
    await admin.create(ROLE_BINDINGS, namespace, binding)


async def _allowed(admin: Kube, namespace: str, user: str, rule: Json) -> bool:
    resource, _, subresource = rule["resources"][0].partition("/")
    asked = {
        "namespace": namespace,
        "group": rule["apiGroups"][0],
        "resource": resource,
        "subresource": subresource,
        "verb": rule["verbs"][0],
        "name": rule.get("resourceNames", [""])[0],
    }
    review = await admin.create(ACCESS_REVIEWS, None, {"spec": {"user": user, "resourceAttributes": asked}})
    return bool(review["status"]["allowed"])
