"""What the API server itself accepts, refuses and keeps of each kind, whoever asks (DESIGN.md section 2)."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from belay_dev.controlplane import ControlPlane
from belay_dev.errors import ControlPlaneError
from belay_kube.client import AGENTS, DELEGATIONS, SUBSCRIPTIONS, SWEEPERS, Collection, Json, Kube
from belay_kube.errors import Invalid, KubeError
from crds_cases import agent, delegation, removal, row, sweeper

COLLECTIONS = {
    "Agent": AGENTS,
    "AgentSubscription": SUBSCRIPTIONS,
    "Delegation": DELEGATIONS,
    "DelegationSweeper": SWEEPERS,
}

MODEL = {"provider": "any", "name": "any"}
MODEL_MORE = {
    "apiKeySecretRef": {"name": "s", "key": "k"},
    "systemFrom": {"name": "c", "key": "k"},
    "baseURL": "https://x",
    "maxTokens": 1,
    "contextTokens": 1000,
    "maxCallsPerSession": 1,
    "timeoutSeconds": 1,
}
DELEGATE = {"name": "delegate", "agents": ["a", "b"], "permission": "Ask", "timeoutSeconds": 60}
ACCEPTED: dict[str, tuple[str, Json]] = {
    "agent, all defaults": ("admin", agent()),
    "agent, everything": (
        "admin",
        agent(
            "full",
            runtime="Model",
            model={**MODEL, **MODEL_MORE},
            tools=[{"name": "reply", "permission": "Deny"}, DELEGATE],
            owners=[{"kind": "ServiceAccount", "name": "sa", "namespace": "ns"}, {"kind": "User", "name": "u"}],
            timing={"heartbeatSeconds": 5, "staleAfterSeconds": 10, "reconnectGraceSeconds": 0},
            description="all",
            maxActiveDelegations=1000,
            onAgentLost="Wait",
            suspend=True,
        ),
    ),
    "row": ("gateway", row()),
    "delegation, least": ("admin", delegation()),
    "delegation, prompt of exactly 64 KiB": ("admin", delegation("large", task={"prompt": "\U0001f600" * 16384})),
    "delegation, line breaks and tabs": ("admin", delegation("lines", task={"prompt": "a\n\tb"})),
    "delegation, name of 253": ("admin", delegation("n" * 253)),
    "delegation, session's name as parent's": (
        "admin",
        delegation("p", parentRef={"kind": "AgentSession", "name": "p"}),
    ),
    "sweeper": ("admin", sweeper(intervalSeconds=1)),
}


@pytest.mark.parametrize(("account", "body"), ACCEPTED.values(), ids=ACCEPTED)
async def test_what_makes_sense_is_accepted(kubes: dict[str, Kube], shared: str, account: str, body: Json) -> None:
    """Each kind can be made, and comes back as it was given but for the defaults of its model."""
    made = await kubes[account].create(COLLECTIONS[body["kind"]], shared, body)
    assert {key: made["spec"][key] for key in body["spec"]} == body["spec"]


async def test_defaults_are_those_of_the_models(admin_kube: Kube, namespace: str) -> None:
    """Nothing that an environment variable or another resource may set is written into an object."""
    made = await admin_kube.create(AGENTS, namespace, agent())
    assert made["spec"] == {
        "runtime": "Channel",
        "maxActiveDelegations": 1,
        "onAgentLost": "Cancel",
        "suspend": False,
        "allowReentry": False,
    }
    made = await admin_kube.create(DELEGATIONS, namespace, delegation())
    assert made["spec"] == {**delegation()["spec"], "priority": 0, "desiredState": "Running"}
    made = await admin_kube.create(SWEEPERS, namespace, sweeper())
    assert made["spec"] == {"suspend": False}


def model_agent(**spec: Any) -> Json:
    """An Agent that Belay drives."""
    return agent("model", **{"runtime": "Model", "model": MODEL, **spec})


REFUSED: dict[str, tuple[Json, str]] = {
    "no spec": (
        {"apiVersion": "belay.dev/v1alpha1", "kind": "Delegation", "metadata": {"name": "x"}},
        "spec: Required",
    ),
    "no agent": ({**delegation(), "spec": {"task": {"prompt": "x"}}}, "spec.agentRef: Required"),
    "no prompt": (delegation(task={}), "spec.task.prompt: Required"),
    "null prompt": (delegation(task={"prompt": None}), "spec.task.prompt: "),
    "null agent": (delegation(agentRef=None), "spec.agentRef: "),
    "empty prompt": (delegation(task={"prompt": ""}), "spec.task.prompt"),
    "prompt one byte too long": (delegation(task={"prompt": "x" * 65537}), "spec.task.prompt"),
    "prompt too long in bytes only": (delegation(task={"prompt": "\U0001f600" * 16385}), "more than 64 KiB of UTF-8"),
    "NUL in the prompt": (delegation(task={"prompt": "a\0b"}), "contains a NUL character"),
    "NUL in the topic": (delegation(topic="a\0b"), "spec.topic"),
    "line break in the topic": (delegation(topic="a\nb"), "spec.topic"),
    "topic of a session": (delegation(topic="session/a/1"), "belong to sessions"),
    "deadline and deadlineSeconds": (
        delegation(deadline="2099-01-01T00:00:00Z", deadlineSeconds=5),
        "give deadline or deadlineSeconds, not both",
    ),
    "deadlineSeconds of zero": (delegation(deadlineSeconds=0), "should be greater than or equal to 1"),
    "deadlineSeconds over 30 days": (delegation(deadlineSeconds=2592001), "should be less than or equal to 2592000"),
    "number beyond 32 bits": (delegation(priority=2**31), "spec.priority"),
    "number beyond 64 bits": (delegation(priority=2**63), "spec.priority"),
    "priority of 1.5": (delegation(priority=1.5), "spec.priority"),
    "priority as text": (delegation(priority="1"), "spec.priority"),
    "deadline without a zone": (delegation(deadline="2099-01-01T00:00:00"), "spec.deadline"),
    "deadline of a day": (delegation(deadline="2099-01-01"), "spec.deadline"),
    "deadline on the 30th of February": (delegation(deadline="2099-02-30T00:00:00Z"), "spec.deadline"),
    "deadline in small letters": (delegation(deadline="2099-01-01t00:00:00z"), "spec.deadline"),
    "deadline 24 hours east": (delegation(deadline="2099-01-01T00:00:00+24:00"), "spec.deadline"),
    "own parent": (delegation("me", parentRef={"name": "me"}), "can't be its own parent"),
    "parent of an unknown kind": (delegation(parentRef={"kind": "Agent", "name": "x"}), "spec.parentRef.kind"),
    "unknown desiredState": (delegation(desiredState="Paused"), "spec.desiredState"),
    "session id with a slash": (delegation(sessionId="a/b"), "spec.sessionId"),
    "session id of 129": (delegation(sessionId="s" * 129), "spec.sessionId"),
    "33 inputs": (delegation(task={"prompt": "x", "inputs": {str(n): "" for n in range(33)}}), "spec.task.inputs"),
    "retry for one reason twice": (delegation(retry={"on": ["AgentLost", "AgentLost"]}), "Duplicate value"),
    "delegation's name of 254": (delegation("n" * 254), "metadata.name"),
    "agent's name of 64": (agent("n" * 64), "at most 63 characters"),
    "agent's name with a dot": (agent("a.b"), "no dots"),
    "model agent without a model": (agent(runtime="Model"), "required for runtime Model"),
    "channel agent with a model": (agent(model=MODEL), "required for runtime Model, and for it only"),
    "channel agent with tools": (agent(tools=[{"name": "reply"}]), "a process that attaches brings its own"),
    "delegates to nobody": (model_agent(tools=[{"name": "delegate"}]), "goes with the tool delegate, which needs it"),
    "agents of another tool": (model_agent(tools=[{"name": "reply", "agents": ["a"]}]), "and with no other"),
    "one tool twice": (model_agent(tools=[DELEGATE, DELEGATE]), "Duplicate value"),
    "one agent twice": (model_agent(tools=[{**DELEGATE, "agents": ["a", "a"]}]), "Duplicate value"),
    "tool with a blank": (model_agent(tools=[{"name": "a b"}]), "spec.tools[0].name"),
    "unknown permission": (model_agent(tools=[{"name": "reply", "permission": "Maybe"}]), "spec.tools[0].permission"),
    "two system prompts": (
        model_agent(model={**MODEL, "system": "s", "systemFrom": {"name": "c", "key": "k"}}),
        "give system or systemFrom, not both",
    ),
    "window of 999 tokens": (model_agent(model={**MODEL, "contextTokens": 999}), "spec.model.contextTokens"),
    "no call at all": (model_agent(model={**MODEL, "maxCallsPerSession": 0}), "spec.model.maxCallsPerSession"),
    "answer of over an hour": (model_agent(model={**MODEL, "timeoutSeconds": 3601}), "spec.model.timeoutSeconds"),
    "unknown runtime": (agent(runtime="Docker"), "spec.runtime"),
    "stale before two beats": (agent(timing={"heartbeatSeconds": 10, "staleAfterSeconds": 19}), "at least 2 x"),
    "beat longer than the default allows": (agent(timing={"heartbeatSeconds": 23}), "at least 2 x heartbeatSeconds"),
    "user with a namespace": (agent(owners=[{"kind": "User", "name": "u", "namespace": "n"}]), "ServiceAccount only"),
    "65 owners": (agent(owners=[{"kind": "User", "name": str(n)} for n in range(65)]), "spec.owners"),
    "no delegation at once": (agent(maxActiveDelegations=0), "spec.maxActiveDelegations"),
    "second sweeper": (sweeper("other"), "there is one DelegationSweeper, named default"),
    "sweep every 0 s": (sweeper(intervalSeconds=0), "spec.intervalSeconds"),
}


@pytest.mark.parametrize(("body", "said"), REFUSED.values(), ids=REFUSED)
async def test_D6_what_makes_no_sense_is_refused(admin_kube: Kube, shared: str, body: Json, said: str) -> None:
    """The refusal names the field, or says what to do; nothing is made."""
    with pytest.raises(KubeError) as refusal:
        await admin_kube.create(COLLECTIONS[body["kind"]], shared, body)
    assert refusal.value.status in (400, 422)
    assert said in refusal.value.message


async def test_a_refusal_of_a_long_prompt_is_short(admin_kube: Kube, shared: str) -> None:
    """The rule stands on the object and not on the text, which it would print in full."""
    with pytest.raises(Invalid) as refusal:
        await admin_kube.create(DELEGATIONS, shared, delegation(task={"prompt": "\U0001f600" * 16385}))
    assert len(refusal.value.message) < 1000


UNKNOWN = {
    "in spec": delegation(priorty=1),
    "in a reference": delegation(agentRef={"name": "a", "namespace": "other"}),
    "in the task": delegation(task={"prompt": "x", "attachments": []}),
    "at the root": {**delegation(), "data": {}},
}


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_fields_are_refused_by_kubectl(installed: ControlPlane, shared: str, body: Json) -> None:
    """A misspelt field is told and not dropped."""
    with pytest.raises(ControlPlaneError, match="unknown field"):
        installed.kubectl("create", "--namespace", shared, "-f", "-", input=json.dumps(body))


async def test_status_can_not_be_given_at_creation(admin_kube: Kube, namespace: str) -> None:
    """Nobody begins with a finished delegation: what is created has no status."""
    made = await admin_kube.create(DELEGATIONS, namespace, {**delegation(), "status": {"phase": "Completed"}})
    assert "status" not in made


CHANGES: Mapping[str, tuple[Any, Any]] = {
    "agentRef": ({"name": "a"}, {"name": "b"}),
    "sessionId": ("s1", "s2"),
    "topic": ("t1", "t2"),
    "task": ({"prompt": "p", "inputs": {"k": "v"}}, {"inputs": {"k": "w"}}),
    "requester": ("kubernetes-admin", "somebody"),
    "parentRef": ({"kind": "Delegation", "name": "p1"}, {"name": "p2"}),
    "deadlineSeconds": (60, 61),
    "stuckThresholdSeconds": (60, 61),
    "retry": ({"maxAttempts": 2, "on": ["AgentLost"]}, {"maxAttempts": 3}),
    "retryOf": ("r1", "r2"),
    "onAgentLost": ("Wait", "Fail"),
}


@pytest.fixture(scope="module")
async def full(admin_kube: Kube, shared: str) -> Json:
    """A Delegation with every immutable field set, by an administrator who names themselves."""
    me = await _username(admin_kube)
    given = {field: old for field, (old, _) in CHANGES.items()} | {"requester": me}
    return await admin_kube.create(DELEGATIONS, shared, delegation("full", **given))


async def _username(kube: Kube) -> str:
    reviews = Collection("apis/authentication.k8s.io/v1", "selfsubjectreviews")
    review = await kube.create(reviews, None, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    name: str = review["status"]["userInfo"]["username"]
    return name


@pytest.fixture(scope="module")
async def least(admin_kube: Kube, shared: str) -> Json:
    """A Delegation with only what is required."""
    return await admin_kube.create(DELEGATIONS, shared, delegation("least"))


@pytest.mark.parametrize("field", CHANGES)
async def test_immutable_fields_of_a_delegation(
    admin_kube: Kube, shared: str, full: Json, least: Json, field: str
) -> None:
    """They can't be changed, nor removed, nor added later."""
    with pytest.raises(Invalid, match=rf"spec\.{field} can't be changed"):
        await admin_kube.patch(DELEGATIONS, shared, "full", {"spec": {field: CHANGES[field][1]}})
    with pytest.raises(Invalid, match=rf"spec\.{field}(: Required| can't be changed)"):
        await admin_kube.patch(DELEGATIONS, shared, "full", **removal(f"/spec/{field}"))
    if field not in least["spec"]:
        with pytest.raises(Invalid, match=rf"spec\.{field} can't be changed"):
            await admin_kube.patch(DELEGATIONS, shared, "least", {"spec": {field: CHANGES[field][0]}})


async def test_an_absolute_deadline_is_immutable(admin_kube: Kube, shared: str, least: Json) -> None:
    """A deadline can't be given later."""
    with pytest.raises(Invalid, match=r"spec\.deadline can't be changed"):
        await admin_kube.patch(DELEGATIONS, shared, "least", {"spec": {"deadline": "2099-01-01T00:00:00Z"}})


async def test_mutable_fields_of_a_delegation(admin_kube: Kube, namespace: str) -> None:
    """Priority, time to live, one more attempt and the wish to cancel can change."""
    await admin_kube.create(DELEGATIONS, namespace, delegation())
    spec = {"priority": 7, "ttlSecondsAfterFinished": 0, "retryAttempt": 1, "desiredState": "Cancelled"}
    made = await admin_kube.patch(DELEGATIONS, namespace, "work", {"spec": spec})
    assert {key: made["spec"][key] for key in spec} == spec


FINAL = {
    "uncancel": ({"spec": {"desiredState": "Running"}}, "Cancelled is final"),
    "uncancel by removal": ({"spec": {"desiredState": None}}, "Cancelled is final"),
    "fewer retries": ({"spec": {"retryAttempt": 1}}, "spec.retryAttempt only grows"),
    "no retries": ({"spec": {"retryAttempt": None}}, "spec.retryAttempt only grows"),
}


@pytest.mark.parametrize(("change", "said"), FINAL.values(), ids=FINAL)
async def test_D9_a_cancel_is_final(admin_kube: Kube, namespace: str, change: Json, said: str) -> None:
    """What was asked for can't be taken back, also not by removing it."""
    await admin_kube.create(DELEGATIONS, namespace, delegation(desiredState="Cancelled", retryAttempt=2))
    with pytest.raises(Invalid, match=said):
        await admin_kube.patch(DELEGATIONS, namespace, "work", change)


async def test_P5_a_row_belongs_to_one_session_of_one_user(kubes: dict[str, Kube], namespace: str) -> None:
    """Agent, session and user stay, and the token and the phase can't be removed; a takeover changes the token."""
    gateway = kubes["gateway"]
    made = await gateway.create(SUBSCRIPTIONS, namespace, row())
    live = await gateway.patch_status(SUBSCRIPTIONS, made, {"phase": "Live", "token": "t1", "user": "u"})
    for change, said in (
        ({"user": "other"}, "only who attached may take the session over"),
        ({"user": None}, "status.user can't be removed"),
        ({"token": None}, "status.token can't be removed"),
        ({"phase": None}, "status.phase can't be removed"),
        (None, "can't be removed"),
    ):
        with pytest.raises(Invalid, match=said):
            await gateway.patch(SUBSCRIPTIONS, namespace, "a-1", {"status": change}, subresource="status")
    for field, value in {"agentRef": {"name": "b"}, "sessionId": "2"}.items():
        with pytest.raises(Invalid, match=f"spec.{field} can't be changed"):
            await kubes["admin"].patch(SUBSCRIPTIONS, namespace, "a-1", {"spec": {field: value}})
    taken = await gateway.patch_status(SUBSCRIPTIONS, live, {"token": "t2"})
    assert taken["status"]["token"] == "t2"
