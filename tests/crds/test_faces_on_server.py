"""How each kind looks to its user: names, columns, selectors and the texts of `kubectl explain`."""

import re

import pytest

from belay_api import schema
from belay_api.resource import Kind
from belay_dev.clock import Deadline
from belay_dev.controlplane import ControlPlane
from belay_dev.errors import ControlPlaneError
from belay_kube.client import (
    AGENTS,
    DELEGATIONS,
    MESSAGES,
    PERMISSION_REQUESTS,
    SESSIONS,
    SUBSCRIPTIONS,
    TURNS,
    Kube,
    belay,
)
from crds_cases import agent, delegation, message, permission, row, session, sweeper, turn
from installation import MANIFESTS, OPERATOR

KINDS = pytest.mark.parametrize("kind", schema.KINDS, ids=lambda kind: kind.__name__)
SHORT = {
    "agents": "bagent",
    "agentsessions": "bsess",
    "agentsubscriptions": "bsub",
    "delegations": "dlg",
    "delegationsweepers": "bsweep",
    "pendingmessages": "bmsg",
    "permissionrequests": "bperm",
    "sessionturns": "bturn",
}
COLUMNS = {
    "bagent": "NAME RUNTIME ONLINE SESSIONS ACTIVE QUEUED AGE",
    "bmsg": "NAME SESSION TYPE FROM PHASE REASON AGE",
    "bsess": "NAME AGENT PHASE TURNS CALLS ERROR AGE",
    "bturn": "NAME SESSION TURN OUTCOME REASON STOP TOKENS-IN TOKENS-OUT AGE",
    "bsub": "NAME AGENT SESSION PHASE REASON RENEWED AGE",
    "dlg": "NAME AGENT PHASE REASON PROGRESS DEADLINE AGE",
    "bperm": "NAME AGENT SESSION TOOL PHASE BY AGE",
    "bsweep": "NAME INTERVAL STUCK-AFTER LAST IN-FLIGHT DEADLINE STUCK ERRORS BRAKED AGE",
}


USED = {"calls": 1, "inputTokens": 20, "outputTokens": 30}


@pytest.fixture(scope="module")
async def objects(kubes: dict[str, Kube], shared: str) -> str:
    """The namespace of one object of each kind, the delegation in hand."""
    await kubes["admin"].create(AGENTS, shared, agent())
    await kubes["admin"].create(belay("delegationsweepers"), shared, sweeper())
    made = await kubes["gateway"].create(SUBSCRIPTIONS, shared, row())
    await kubes["gateway"].patch_status(SUBSCRIPTIONS, made, {"phase": "Live", "holderIdentity": "gw", "token": "t"})
    await kubes["gateway"].create(PERMISSION_REQUESTS, shared, permission())
    await _talked(kubes, shared)
    work = delegation(sessionId="s", parentRef={"name": "p"}, topic="t")
    made = await kubes["admin"].create(DELEGATIONS, shared, work)
    status = {"phase": "Dispatched", "reason": "Dispatched", "deadline": "2099-01-02T03:04:05Z", "gateway": "gw"}
    made = await kubes["operator"].patch_status(DELEGATIONS, made, {**status, "progress": {"percent": 40}})
    await kubes["gateway"].patch_status(DELEGATIONS, made, {"phase": "InProgress", "sessionId": "s"})
    return shared


async def _talked(kubes: dict[str, Kube], namespace: str) -> None:
    """A session with a turn that called two tools, and one more message."""
    made = await kubes["admin"].create(SESSIONS, namespace, session(parentRef={"name": "p"}))
    await kubes["gateway"].create(MESSAGES, namespace, message(source={"name": "alice"}))
    said = [{"type": "Text", "text": "I see"}]
    await kubes["operator"].create(TURNS, namespace, turn(assistant=said, stopReason="tool_use", usage=USED))
    calls = [{"id": f"toolu_{n}", "tool": "delegate", "startedTime": "2026-01-02T03:04:05Z"} for n in (1, 2)]
    status = {"phase": "Executing", "turns": 1, "usage": USED, "openToolCalls": calls}
    await kubes["operator"].patch_status(SESSIONS, made, status)


def _explained(installed: ControlPlane, path: str) -> str:
    return re.sub(r"\s+", " ", installed.kubectl("explain", path, "--api-version=belay.dev/v1alpha1"))


@KINDS
def test_kubectl_explains_each_kind_and_field(installed: ControlPlane, kind: type[Kind]) -> None:
    """The models' sentences reach the user, for the kind, its spec and its status."""
    root = schema.root_schema(kind)
    deadline = Deadline(30.0)
    while root["description"] not in _explained(installed, kind.RESOURCE.plural):
        assert not deadline.passed, "the API server published no description in time"
    for part in {"spec", "status"} & root["properties"].keys():
        said = _explained(installed, f"{kind.RESOURCE.plural}.{part}")
        for name, node in root["properties"][part]["properties"].items():
            assert name in said
            assert node["description"] in said


@pytest.mark.parametrize("short", COLUMNS)
def test_short_names_show_the_columns(installed: ControlPlane, objects: str, short: str) -> None:
    """`kubectl get` of each short name prints what a person looks for first."""
    head, line, *_ = installed.kubectl("get", short, "--namespace", objects).splitlines()
    assert head.split() == COLUMNS[short].split()
    assert "<invalid>" not in line


def test_delegations_tell_how_they_are(installed: ControlPlane, objects: str) -> None:
    """Agent, phase, reason, progress and deadline at a glance; session, attempt and beat with `-o wide`."""
    line = installed.kubectl("get", "dlg", "--namespace", objects).splitlines()[1]
    assert line.split()[:-1] == ["work", "a", "InProgress", "Dispatched", "40", "2099-01-02T03:04:05Z"]
    wide = installed.kubectl("get", "dlg", "--namespace", objects, "-o", "wide").splitlines()[0].split()
    assert wide[6:-1] == ["SESSION", "ATTEMPT", "BEAT", "DOING", "MESSAGE"]


TALKED = {
    "bsess": ["s", "a", "Executing", "1", "1"],
    "bmsg": ["m", "s", "UserMessage", "alice"],
    "bturn": ["s-1", "s", "1", "Answered", "tool_use", "20", "30"],
}
WIDE = {
    "bsess": ["20", "30", "p", "delegate"],
    "bmsg": ["hello"],
    "bturn": ["I", "see"],
}


@pytest.mark.parametrize("short", TALKED)
def test_conversations_tell_how_they_are(installed: ControlPlane, objects: str, short: str) -> None:
    """Where a session, a message and a turn stand at a glance; what was said and spent with `-o wide`."""
    for more, expected in (((), TALKED[short]), (("-o", "wide"), TALKED[short] + WIDE[short])):
        line = installed.kubectl("get", short, "--namespace", objects, *more).splitlines()[1]
        assert [word for word in line.split() if word != "<none>"][:-1] == expected


def test_the_category_names_all_kinds(installed: ControlPlane, objects: str) -> None:
    """`kubectl get belay` shows everything of Belay in a namespace."""
    shown = installed.kubectl("get", "belay", "--namespace", objects, "-o", "name").split()
    assert {name.partition(".")[0] for name in shown} == {plural[:-1] for plural in SHORT}


SELECTORS = {
    "spec.agentRef.name": "a",
    "spec.sessionId": "s",
    "spec.parentRef.name": "p",
    "status.phase": "InProgress",
    "status.gateway": "gw",
    "status.sessionId": "s",
}


@pytest.mark.parametrize("field", SELECTORS)
async def test_delegations_are_found_by_field(admin_kube: Kube, objects: str, field: str) -> None:
    """Each selectable field finds the delegation by its value, and nothing by another."""
    for value, found in ((SELECTORS[field], 1), ("other", 0)):
        answer = await admin_kube.list(DELEGATIONS, objects, fieldSelector=f"{field}={value}")
        assert len(answer["items"]) == found


@KINDS
async def test_every_selectable_field_is_one(admin_kube: Kube, objects: str, kind: type[Kind]) -> None:
    """The API server takes a selector for each field that the model names."""
    for path in kind.RESOURCE.selectable:
        await admin_kube.list(belay(kind.RESOURCE.plural), objects, fieldSelector=f"{path[1:]}=x")


def test_the_samples_apply(installed: ControlPlane, namespace: str) -> None:
    """`manifests/samples` is accepted as it is, by kubectl's strict reading."""
    for sample in ("agent.yaml", "model-agent.yaml", "permissions.yaml", "delegation.yaml"):
        installed.kubectl("create", "--namespace", namespace, "-f", str(MANIFESTS / "samples" / sample))


def test_what_a_sample_has_in_comments_applies_too(installed: ControlPlane, namespace: str) -> None:
    """The agent of a paid provider, and the Role that grants the operator its Secret and no other."""
    lines = (MANIFESTS / "samples" / "model-agent.yaml").read_text().splitlines()
    commented = [line.removeprefix("#").removeprefix(" ") for line in lines[lines.index("# ---") :]]
    made = installed.kubectl("create", "--namespace", namespace, "-f", "-", "-o", "name", input="\n".join(commented))
    kinds = [name.partition(".")[0].partition("/")[0] for name in made.split()]
    assert kinds == ["agent", "role", "rolebinding"]
    asked = ("get", "secret/writer-anthropic", "--namespace", namespace, f"--as={OPERATOR}")
    assert installed.kubectl("auth", "can-i", *asked).strip() == "yes"


def test_a_bare_on_is_refused_and_not_guessed(installed: ControlPlane, namespace: str) -> None:
    """YAML reads a bare `on` as true: kubectl tells the field it doesn't know, and retries aren't silently dropped."""
    text = (MANIFESTS / "samples" / "delegation.yaml").read_text()
    assert '"on":' in text
    with pytest.raises(ControlPlaneError, match=r"unknown field \"spec\.retry\.true\""):
        installed.kubectl("create", "--namespace", namespace, "-f", "-", input=text.replace('"on":', "on:"))
