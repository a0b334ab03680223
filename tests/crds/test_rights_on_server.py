"""What each account may and may not do, as the API server's own authorizer answers."""

import pytest

from accounts import bind
from belay_api.meta import GROUP
from belay_dev.clock import Deadline
from belay_kube.client import ACCESS_REVIEWS, Json, Kube
from installation import GATEWAY, NAMESPACE, OPERATOR

PROCESSES = {
    "operator writes statuses anywhere": (OPERATOR, f"patch {GROUP}/delegations/status", "any", True),
    "operator leads by a lease at home": (OPERATOR, "patch coordination.k8s.io/leases", NAMESPACE, True),
    "operator makes the sweeper at home": (OPERATOR, f"create {GROUP}/delegationsweepers", NAMESPACE, True),
    "operator has no sweeper elsewhere": (OPERATOR, f"patch {GROUP}/delegationsweepers", "any", False),
    "operator has no leases elsewhere": (OPERATOR, "get coordination.k8s.io/leases", "any", False),
    "operator doesn't change specs": (OPERATOR, f"patch {GROUP}/delegations", "any", False),
    "operator makes no rows": (OPERATOR, f"create {GROUP}/agentsubscriptions", "any", False),
    "operator settles permission requests": (OPERATOR, f"patch {GROUP}/permissionrequests/status", "any", True),
    "operator removes old permission requests": (OPERATOR, f"delete {GROUP}/permissionrequests", "any", True),
    "operator decides nothing": (OPERATOR, f"patch {GROUP}/permissionrequests", "any", False),
    "operator asks for models": (OPERATOR, f"create {GROUP}/permissionrequests", "any", True),
    "operator delegates for models": (OPERATOR, f"create {GROUP}/delegations", "any", True),
    "operator opens sessions": (OPERATOR, f"create {GROUP}/agentsessions", "any", True),
    "operator closes no session": (OPERATOR, f"delete {GROUP}/agentsessions", "any", False),
    "operator interrupts no session": (OPERATOR, f"patch {GROUP}/agentsessions", "any", False),
    "operator claims sessions": (OPERATOR, f"patch {GROUP}/agentsessions/status", "any", True),
    "operator removes mail that was read": (OPERATOR, f"delete {GROUP}/pendingmessages", "any", True),
    "operator writes turns": (OPERATOR, f"create {GROUP}/sessionturns", "any", True),
    "operator rewrites no turn": (OPERATOR, f"patch {GROUP}/sessionturns", "any", False),
    "operator removes no turn": (OPERATOR, f"delete {GROUP}/sessionturns", "any", False),
    "operator reads no secret unless granted": (OPERATOR, "get /secrets", "any", False),
    "operator reads no configuration unless granted": (OPERATOR, "get /configmaps", "any", False),
    "operator reads no secrets": (OPERATOR, "get /secrets", NAMESPACE, False),
    "operator makes no pods": (OPERATOR, "create /pods", NAMESPACE, False),
    "gateway makes rows anywhere": (GATEWAY, f"create {GROUP}/agentsubscriptions", "any", True),
    "gateway asks who somebody is": (GATEWAY, "create authentication.k8s.io/tokenreviews", "", True),
    "gateway asks for agents": (GATEWAY, f"create {GROUP}/permissionrequests", "any", True),
    "gateway keeps permission requests": (GATEWAY, f"delete {GROUP}/permissionrequests", "any", False),
    "gateway deletes no rows": (GATEWAY, f"delete {GROUP}/agentsubscriptions", "any", False),
    "gateway sends mail": (GATEWAY, f"create {GROUP}/pendingmessages", "any", True),
    "gateway reads a turn": (GATEWAY, f"get {GROUP}/sessionturns", "any", True),
    "gateway reads no whole conversation": (GATEWAY, f"list {GROUP}/sessionturns", "any", False),
    "gateway reads no mailbox": (GATEWAY, f"list {GROUP}/pendingmessages", "any", False),
    "gateway opens sessions": (GATEWAY, f"create {GROUP}/agentsessions", "any", True),
    "gateway interrupts sessions": (GATEWAY, f"patch {GROUP}/agentsessions", "any", True),
    "gateway closes no session": (GATEWAY, f"delete {GROUP}/agentsessions", "any", False),
    "gateway claims no session": (GATEWAY, f"patch {GROUP}/agentsessions/status", "any", False),
    "gateway writes no turn": (GATEWAY, f"create {GROUP}/sessionturns", "any", False),
    "gateway doesn't write agents": (GATEWAY, f"patch {GROUP}/agents/status", "any", False),
    "gateway counts its siblings": (GATEWAY, "list coordination.k8s.io/leases", NAMESPACE, True),
    "gateway ends no other lease": (GATEWAY, "delete coordination.k8s.io/leases", NAMESPACE, False),
    "gateway reads no secrets": (GATEWAY, "get /secrets", NAMESPACE, False),
}
PEOPLE = {
    "view": {
        "get delegations": True,
        "list agentsubscriptions": True,
        "create delegations": False,
        "get permissionrequests": True,
        "patch permissionrequests": False,
        "get agentsessions": True,
        "watch sessionturns": True,
        "list pendingmessages": True,
        "create pendingmessages": False,
        "patch agentsessions": False,
    },
    "edit": {
        "get delegations": True,
        "create delegations": True,
        "patch agents": True,
        "delegate agents": True,
        "patch permissionrequests": True,
        "create permissionrequests": False,
        "patch permissionrequests/status": False,
        "attach agents": False,
        "patch delegations/status": False,
        "delete agentsubscriptions": False,
        "create agentsessions": True,
        "delete agentsessions": True,
        "patch agentsessions": True,
        "patch agentsessions/status": False,
        "create pendingmessages": True,
        "delete pendingmessages": True,
        "patch pendingmessages": False,
        "patch pendingmessages/status": False,
        "create sessionturns": False,
        "patch sessionturns": False,
        "delete sessionturns": False,
    },
    "admin": {
        "create delegations": True,
        "attach agents": True,
        "patch delegations/status": False,
        "create sessionturns": False,
    },
}


async def _may(admin: Kube, user: str, what: str, namespace: str) -> bool:
    verb, _, path = what.partition(" ")
    group, resource, subresource = (*path.split("/"), "")[:3]
    asked: Json = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
    spec = {"user": user, "resourceAttributes": {**asked, "namespace": namespace}}
    review = await admin.create(ACCESS_REVIEWS, None, {"spec": spec})
    return bool(review["status"]["allowed"])


@pytest.mark.parametrize(("user", "what", "namespace_", "allowed"), PROCESSES.values(), ids=PROCESSES)
async def test_the_processes_may_do_what_they_do(
    admin_kube: Kube, user: str, what: str, namespace_: str, allowed: bool
) -> None:
    """Each account has the rights of its process, where it needs them, and not those beside them."""
    assert await _may(admin_kube, user, what, namespace_) == allowed


@pytest.mark.parametrize("role", PEOPLE)
async def test_D13_the_roles_of_every_cluster_hold_ours(admin_kube: Kube, namespace: str, role: str) -> None:
    """Who has view, edit or admin in a namespace has it for Belay too, once the roles are aggregated; no status."""
    await bind(admin_kube, namespace, "pat", "ClusterRole", role)
    deadline = Deadline(30.0)
    expected = {what.replace(" ", f" {GROUP}/"): may for what, may in PEOPLE[role].items()}
    while (found := {what: await _may(admin_kube, "pat", what, namespace) for what in expected}) != expected:
        assert not deadline.passed, found
