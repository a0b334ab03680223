"""What the chart's roles allow its accounts, and what a request of theirs comes to beside them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from belay_kube.client import Json

ACCOUNTS = {"belay-operator": "templates/rbac-operator.yaml", "belay-gateway": "templates/rbac-gateway.yaml"}
"""Belay's ServiceAccounts, and where the chart keeps the roles of each."""
GRANTED_BY_NAME = frozenset({"secrets", "configmaps"})
"""A Role in the namespace of a Model agent grants each that it names (docs/model-agents.md); the chart grants none."""
_ROLE_KINDS = frozenset({"ClusterRole", "Role"})
_BINDING_KINDS = frozenset({"ClusterRoleBinding", "RoleBinding"})


@dataclass(frozen=True, order=True)
class Asked:
    """What one request asked for."""

    account: str
    verb: str
    group: str
    resource: str
    """With its subresource, if any: `delegations/status`."""
    namespace: str = ""
    """Empty: everywhere, or no namespace at all."""
    name: str = ""

    def __str__(self) -> str:
        named = f" {self.name}" if self.name else ""
        where = f"in {self.namespace}" if self.namespace else "in no or every namespace"
        return f"{self.account}: {self.verb} {self.resource} ({self.group or 'core'}){named} {where}"


@dataclass(frozen=True)
class Rule:
    """One verb on one resource that an account was given, in one namespace or (`""`) in all."""

    account: str
    verb: str
    group: str
    resource: str
    namespace: str = ""

    def allows(self, asked: Asked) -> bool:
        """Whether this is the right that a request needed."""
        same = (self.account, self.verb, self.group, self.resource)
        wanted = (asked.account, asked.verb, asked.group, asked.resource)
        return same == wanted and self.namespace in ("", asked.namespace)

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.account}: {self.verb} {self.resource} ({self.group or 'core'}){where}"


class Verdict(StrEnum):
    """What a request comes to; all but the first three fail the run."""

    HELD = "the roles hold it"
    NOT_THE_CHARTS = "a right that every account has, or that a namespace grants by name"
    EXPECTED = "what a test asks for on purpose"
    MISSING = "no role of the chart holds it, and it was refused"
    LENT = "no role of the chart holds it, and only a right that the tests gave allowed it"
    DENIED = "the chart's roles hold it, and it was refused all the same"


def chart_rules(documents: Iterable[Json]) -> frozenset[Rule]:
    """The rights of Belay's accounts in the chart's objects, one by one."""
    made = list(documents)
    roles = {_role(each): each for each in made if each["kind"] in _ROLE_KINDS}
    return frozenset(
        Rule(subject["name"], verb, group, resource, binding["metadata"].get("namespace", ""))
        for binding in made
        if binding["kind"] in _BINDING_KINDS
        for subject in binding["subjects"]
        if subject["name"] in ACCOUNTS
        for rule in roles[_bound(binding)]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


def _role(role: Json) -> tuple[str, str, str]:
    return role["kind"], role["metadata"].get("namespace", ""), role["metadata"]["name"]


def _bound(binding: Json) -> tuple[str, str, str]:
    kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
    return kind, "" if kind == "ClusterRole" else binding["metadata"]["namespace"], name


def verdict(rules: Iterable[Rule], asked: Asked, *, allowed: bool, everybodys: bool = False) -> Verdict:
    """What a request comes to.

    Args:
        rules: of the chart.
        asked: what for.
        allowed: what the API server's authorizer said.
        everybodys: it was allowed by a right that Kubernetes gives every account.
    """
    if any(rule.allows(asked) for rule in rules):
        return Verdict.HELD if allowed else Verdict.DENIED
    by_name = asked.verb == "get" and asked.group == "" and asked.resource in GRANTED_BY_NAME and asked.name
    if everybodys or (by_name and asked.account == "belay-operator"):
        return Verdict.NOT_THE_CHARTS
    return Verdict.LENT if allowed else Verdict.MISSING


def lacking(asked: Asked) -> str:
    """The rule that would allow a request, as it is written in the chart."""
    return (
        f"{ACCOUNTS[asked.account]}: apiGroups: [{asked.group or chr(34) * 2}] "
        f"resources: [{asked.resource}] verbs: [{asked.verb}]"
    )
