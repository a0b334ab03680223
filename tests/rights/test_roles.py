"""Holding requests against the chart's roles: as tables, from lines of an audit log, and on a real API server."""

import json
from dataclasses import replace

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, SECRETS, Json, Kube
from belay_kube.errors import Forbidden
from rights.record import Answer, Record, answers
from rights.roles import Asked, Rule, Verdict, chart_rules, lacking, verdict
from waiting import eventually

RULES = {
    Rule("belay-operator", "patch", "belay.dev", "agents/status"),
    Rule("belay-operator", "get", "coordination.k8s.io", "leases", "belay"),
}
STATUS = Asked("belay-operator", "patch", "belay.dev", "agents/status", "team-a")
LEASE = Asked("belay-operator", "get", "coordination.k8s.io", "leases", "belay")
KEY = Asked("belay-operator", "get", "", "secrets", "team-a", "key")

JUDGED: dict[str, tuple[Asked, bool, Verdict]] = {
    "in a namespace, by a rule of all": (STATUS, True, Verdict.HELD),
    "everywhere": (replace(STATUS, namespace=""), True, Verdict.HELD),
    "in the one namespace": (LEASE, True, Verdict.HELD),
    "in another": (replace(LEASE, namespace="team-a"), False, Verdict.MISSING),
    "everywhere, by a rule of one namespace": (replace(LEASE, namespace=""), False, Verdict.MISSING),
    "another verb": (replace(STATUS, verb="update"), False, Verdict.MISSING),
    "another group": (replace(STATUS, group="apps"), False, Verdict.MISSING),
    "without the subresource": (replace(STATUS, resource="agents"), False, Verdict.MISSING),
    "the other account": (replace(STATUS, account="belay-gateway"), False, Verdict.MISSING),
    "lent by a test": (replace(STATUS, verb="update"), True, Verdict.LENT),
    "refused though it is held": (STATUS, False, Verdict.DENIED),
    "a Secret by its name": (KEY, True, Verdict.NOT_THE_CHARTS),
    "a Secret that isn't granted": (KEY, False, Verdict.NOT_THE_CHARTS),
    "a prompt by its name": (replace(KEY, resource="configmaps"), True, Verdict.NOT_THE_CHARTS),
    "a list of Secrets": (replace(KEY, verb="list", name=""), False, Verdict.MISSING),
    "a Secret, by the gateway": (replace(KEY, account="belay-gateway"), False, Verdict.MISSING),
    "a Secret is written": (replace(KEY, verb="patch"), True, Verdict.LENT),
}


@pytest.mark.parametrize(("asked", "allowed", "found"), JUDGED.values(), ids=JUDGED)
def test_what_a_request_comes_to(asked: Asked, allowed: bool, found: Verdict) -> None:
    """What the roles hold and what they don't, by what the API server said."""
    assert verdict(RULES, asked, allowed=allowed) is found


def test_what_everybody_may_needs_no_rule() -> None:
    """Such as to ask what one may do."""
    review = Asked("belay-gateway", "create", "authorization.k8s.io", "selfsubjectaccessreviews")
    assert verdict(RULES, review, allowed=True, everybodys=True) is Verdict.NOT_THE_CHARTS


def test_the_missing_rule_is_said() -> None:
    """As it would stand in the chart, with the file it belongs in."""
    assert lacking(replace(STATUS, verb="update")) == (
        "templates/rbac-operator.yaml: apiGroups: [belay.dev] resources: [agents/status] verbs: [update]"
    )
    assert 'apiGroups: [""] resources: [secrets] verbs: [list]' in lacking(replace(KEY, verb="list", name=""))


def _role(kind: str, name: str, resource: str, namespace: str | None = None) -> Json:
    rules = [{"apiGroups": ["belay.dev"], "resources": [resource, f"{resource}/status"], "verbs": ["get", "patch"]}]
    where = {"namespace": namespace} if namespace else {}
    return {"kind": kind, "metadata": {"name": name, **where}, "rules": rules}


def _binding(kind: str, role: Json, account: str) -> Json:
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": "belay"}]
    reference = {"kind": role["kind"], "name": role["metadata"]["name"]}
    return {"kind": kind, "metadata": role["metadata"], "roleRef": reference, "subjects": subjects}


def test_rules_are_those_that_are_bound() -> None:
    """Two roles of one name are told apart, each is in force where it is bound, and another's don't count."""
    wide = _role("ClusterRole", "belay-operator", "agents")
    own = _role("Role", "belay-operator", "delegations", "belay")
    others = _role("ClusterRole", "belay-view", "agentsessions")
    found = chart_rules([
        wide, own, others,
        _binding("ClusterRoleBinding", wide, "belay-operator"),
        _binding("RoleBinding", own, "belay-operator"),
        _binding("ClusterRoleBinding", others, "somebody"),
    ])  # fmt: skip
    assert found == {
        Rule("belay-operator", verb, "belay.dev", f"{plural}{status}", where)
        for verb in ("get", "patch")
        for plural, where in (("agents", ""), ("delegations", "belay"))
        for status in ("", "/status")
    }


def _line(**different: object) -> bytes:
    entry: Json = {
        "stage": "ResponseComplete",
        "verb": "get",
        "requestURI": "/api",
        "user": {"username": "system:serviceaccount:belay:belay-operator"},
        "objectRef": {"resource": "secrets", "namespace": "team-a", "name": "key"},
        "annotations": {"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""},
    }
    return json.dumps({**entry, **different}, separators=(",", ":")).encode()


LINES: dict[str, tuple[bytes, list[Answer]]] = {
    "a Secret": (_line(), [Answer(KEY, False, "")]),
    "no object": (_line(objectRef=None), [Answer(Asked("belay-operator", "get", "", "/api"), False, "")]),
    "of another": (_line(user={"username": "system:serviceaccount:belay:default"}), []),
    "of one whose name begins so": (_line(user={"username": "system:serviceaccount:belay:belay-operator-2"}), []),
    "no decision was come to": (_line(annotations={}), []),
    "a watch begins": (_line(verb="watch", stage="ResponseStarted"), [Answer(replace(KEY, verb="watch"), False, "")]),
    "a watch ends": (_line(verb="watch"), []),
}


@pytest.mark.parametrize(("line", "found"), LINES.values(), ids=LINES)
def test_lines_of_an_audit_log(line: bytes, found: list[Answer]) -> None:
    """One answer for each request of Belay's accounts, none for others'."""
    assert list(answers([line])) == found


async def test_what_the_roles_lack_is_found_in_the_log_of_a_real_api_server(
    installed: ControlPlane, operator_kube: Kube, namespace: str, record: Record
) -> None:
    """Of requests that were refused, that were allowed, and that watch: each is seen once, with the rule it lacks."""
    own = Record()
    for verb in ("list", "watch"):
        record.expects(f"belay-operator {verb} secrets", namespace, group="")
    await operator_kube.list(AGENTS, namespace)
    for attempt in (operator_kube.list(SECRETS, namespace), _watch(operator_kube, namespace)):
        with pytest.raises(Forbidden):
            await attempt

    def told() -> list[str]:
        own.answers.clear()
        own.read(installed.audit_log)
        return [line for line in own.complaints() if namespace in line]

    lines = await eventually(lambda: found if len(found := told()) == 2 else None)
    for verb, line in zip(("list", "watch"), lines, strict=True):
        assert line.startswith(f"belay-operator: {verb} secrets (core) in {namespace}, 1 times: {Verdict.MISSING}")
        assert line.endswith(f'templates/rbac-operator.yaml: apiGroups: [""] resources: [secrets] verbs: [{verb}]')
    assert [each.allowed for each in own.answers if each.asked.namespace == namespace and each.allowed] == [True]


def test_what_a_test_expects_is_no_news_and_no_more_than_that() -> None:
    """So often as it says: the next time it is somebody else who asks."""
    record = Record()
    record.expects("belay-operator list secrets", "team-a", group="")
    listed = Answer(replace(KEY, verb="list", name=""), False, "")
    record.answers[listed] += 1
    assert record.complaints() == []
    record.answers[listed] += 1
    (line,) = record.complaints()
    assert "2 times" in line


async def _watch(kube: Kube, namespace: str) -> None:
    async with kube.watch(SECRETS, namespace, {}):
        raise AssertionError("it was let")
