"""Who may attach and who may listen: owners of the Agent, else RBAC (DESIGN.md section 7). Every doubt is a no."""

from collections.abc import Iterable, Mapping
from typing import Any

from belay_api.messages import ErrorCode
from belay_api.meta import GROUP, VERB_ATTACH
from belay_api.names import Ref
from belay_gateway.auth import ALLOW_SECONDS, DENY_SECONDS, REMEMBERED, User
from belay_gateway.coalesce import Coalesced
from belay_gateway.refused import Refused
from belay_kube.client import ACCESS_REVIEWS, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, Unreviewed

_Question = tuple[User, str, str, str, str]


def owns(user: User, namespace: str, owners: Iterable[Mapping[str, Any]]) -> bool:
    """Whether `user` is among the owners of an agent of `namespace`."""
    return any(_is(user, namespace, owner) for owner in owners)


def _is(user: User, namespace: str, owner: Mapping[str, Any]) -> bool:
    match owner.get("kind"):
        case "User":
            return user.name == owner.get("name")
        case "Group":
            return owner.get("name") in user.groups
        case "ServiceAccount":
            return user.name == f"system:serviceaccount:{owner.get('namespace') or namespace}:{owner.get('name')}"
        case _:
            return False


class Access:
    """Asks the API server, keeping an answer for at most ten seconds."""

    def __init__(self, kube: Kube, clock: Clock, remembered: int = REMEMBERED) -> None:
        self._kube = kube
        self.answers: Coalesced[_Question, bool] = Coalesced(clock, remembered)

    async def may_attach(self, user: User, agent: Ref, owners: Iterable[Mapping[str, Any]]) -> bool:
        """Owner, or RBAC verb `attach` on that Agent. Raises KubeError."""
        return owns(user, agent.namespace, owners) or await self.has_attach(user, agent)

    async def has_attach(self, user: User, agent: Ref) -> bool:
        """RBAC verb `attach` on that Agent, owner or not. Raises KubeError."""
        return await self._allowed(user, agent.namespace, VERB_ATTACH, "agents", agent.name)

    async def may_read_delegations(self, user: User, namespace: str) -> bool:
        """What `kubectl get delegations` would need. Raises KubeError."""
        return await self._allowed(user, namespace, "get", "delegations", "")

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str = "") -> bool:
        """What kubectl would need for `verb` on a resource of ours, all of them or one. Raises KubeError."""
        return await self._allowed(user, namespace, verb, resource, name)

    async def check(self, user: User, verb: str, resource: str, namespace: str, name: str = "") -> None:
        """See that they may. Raises Refused (forbidden), KubeError."""
        if not await self.may(user, verb, resource, namespace, name):
            what = f"{resource}/{name}" if name else resource
            raise Refused(
                ErrorCode.FORBIDDEN,
                f"{user.name} lacks the verb {verb} on {what} in namespace {namespace}; ask for a Role that grants it",
            )

    async def _allowed(self, user: User, namespace: str, verb: str, resource: str, name: str) -> bool:
        async def ask() -> bool:
            attributes = {"namespace": namespace, "verb": verb, "group": GROUP, "resource": resource, "name": name}
            body = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {**user.wire(), "resourceAttributes": attributes},
            }
            try:
                answer = await self._kube.create(ACCESS_REVIEWS, None, body)
            except KubeError as error:
                raise Unreviewed.after(error) from error
            return bool((answer.get("status") or {}).get("allowed"))

        question = (user, namespace, verb, resource, name)
        return await self.answers.get(question, ask, lambda allowed: ALLOW_SECONDS if allowed else DENY_SECONDS)
