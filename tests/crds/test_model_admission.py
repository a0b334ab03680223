"""The policies of Model agents: who writes sessions, mail and turns, and what may be named in an agent's spec."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from accounts import account, username
from belay_api.meta import GROUP
from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, MESSAGES, SESSIONS, TURNS, Collection, Json, Kube
from belay_kube.errors import Forbidden
from crds_cases import agent, message, session, turn
from installation import OPERATOR
from rights.record import Record

EVERYTHING = [
    {"apiGroups": [GROUP], "resources": [resource], "verbs": ["create", "get", "patch", "update", "delete"]}
    for plural in ("agents", "agentsessions", "pendingmessages", "sessionturns")
    for resource in (plural, f"{plural}/status")
]
OWN = [
    {"apiGroups": [GROUP], "resources": ["agents"], "verbs": ["delegate"], "resourceNames": ["a"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["own"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["own"]},
]


@pytest.fixture(scope="module")
async def alice(
    installed: ControlPlane, admin_kube: Kube, shared: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Kube]:
    """Somebody whom RBAC lets write every part of agents, sessions, mail and turns, delegate to the agent `a`, and read
    a Secret and a ConfigMap called `own`."""
    folder = tmp_path_factory.mktemp("alice")
    kube = await account(installed, admin_kube, shared, "alice", [*EVERYTHING, *OWN], folder)
    yield kube
    await kube.close()


@pytest.fixture(scope="module")
def every(kubes: dict[str, Kube], alice: Kube) -> dict[str, Kube]:
    """The processes, the administrator and an ordinary user."""
    return {**kubes, "alice": alice}


@pytest.fixture(scope="module")
async def kept(admin_kube: Kube, shared: str) -> None:
    """A session and a message called `kept`; patches of their status are dry runs."""
    await admin_kube.create(SESSIONS, shared, session("kept"))
    await admin_kube.create(MESSAGES, shared, message("kept"))


WRITES: dict[str, tuple[Collection, Json]] = {
    "agentsessions": (SESSIONS, {"phase": "Idle"}),
    "pendingmessages": (MESSAGES, {"phase": "Parked"}),
}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("name", ["operator", "gateway", "alice", "admin"])
@pytest.mark.parametrize("plural", WRITES)
async def test_D13_only_the_operator_says_how_conversations_go(
    every: dict[str, Kube], shared: str, plural: str, name: str, record: Record
) -> None:
    """The status of sessions and mail is the operator's, whatever RBAC grants to others."""
    collection, status = WRITES[plural]
    if name == "gateway":
        record.expects(f"belay-gateway patch {plural}/status", shared)
    patch = every[name].patch(collection, shared, "kept", {"status": status}, subresource="status", dryRun="All")
    if name == "operator":
        assert (await patch)["status"] == status
        return
    with pytest.raises(Forbidden) as refusal:
        await patch
    if name != "gateway":  # which RBAC stops before
        assert f"{plural}: " in refusal.value.message
        assert f"only {OPERATOR} may; send a PendingMessage, or set spec.interruptRequest" in refusal.value.message


@pytest.mark.parametrize("name", ["gateway", "alice", "admin"])
async def test_D13_only_the_operator_makes_turns(
    every: dict[str, Kube], shared: str, name: str, record: Record
) -> None:
    """Nobody else says what a model said."""
    if name == "gateway":
        record.expects("belay-gateway create sessionturns", shared)
    with pytest.raises(Forbidden) as refusal:
        await every[name].create(TURNS, shared, turn(30))
    assert name == "gateway" or f"sessionturns: {await _name(every[name])} may not" in refusal.value.message


async def _name(kube: Kube) -> str:
    reviews = Collection("apis/authentication.k8s.io/v1", "selfsubjectreviews")
    review = await kube.create(reviews, None, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    name: str = review["status"]["userInfo"]["username"]
    return name


async def test_D13_mail_bears_its_senders_name(every: dict[str, Kube], shared: str) -> None:
    """Their own name or none; not another's, nor that of an object, also not for an administrator."""
    for sender in ("alice", "admin"):
        kube, me = every[sender], await _name(every[sender])
        await kube.create(MESSAGES, shared, message(f"mine-{sender}", source={"name": me}))
        await kube.create(MESSAGES, shared, message(f"nameless-{sender}"))
        for source in ({"kind": "User", "name": "bob"}, {"kind": "Delegation", "name": me}):
            said = rf"spec\.source: is {source['kind']} {source['name']} but the caller is {me}; leave it out"
            with pytest.raises(Forbidden, match=said):
                await kube.create(MESSAGES, shared, message("spoofed", source=source))


async def test_D13_the_processes_send_for_others(every: dict[str, Kube], shared: str) -> None:
    """The gateway names who spoke on a socket, the operator whose end the message is."""
    for name, source in (("gateway", {"name": "bob"}), ("operator", {"kind": "Delegation", "name": "d"})):
        made = await every[name].create(MESSAGES, shared, message(f"for-others-{name}", source=source))
        assert made["spec"]["source"]["name"] == source["name"]


async def test_D13_who_may_delegate_may_open_a_session(every: dict[str, Kube], shared: str) -> None:
    """Alice holds the verb on the agent `a` only; the processes act for others."""
    await every["alice"].create(SESSIONS, shared, session("alices"))
    with pytest.raises(Forbidden, match="lacks the verb delegate on agents/b in namespace") as refusal:
        await every["alice"].create(SESSIONS, shared, session("alices-b", agentRef={"name": "b"}))
    assert username(shared, "alice") in refusal.value.message
    for name in ("operator", "gateway"):
        await every[name].create(SESSIONS, shared, session(f"by-{name}", agentRef={"name": "b"}))


async def test_L14_tools_answer_for_themselves(every: dict[str, Kube], shared: str) -> None:
    """What a model is told as the response of a tool, no user says, not even in their own name or an administrator."""
    answer = {"type": "ToolResponse", "toolUseId": "toolu_1"}
    for sender in ("alice", "admin"):
        kube, me = every[sender], await _name(every[sender])
        said = rf"spec\.type: {me} may not send a ToolResponse, only {OPERATOR} may: the tool that was called answers"
        for source in ({}, {"source": {"name": me}}):
            with pytest.raises(Forbidden, match=said):
                await kube.create(MESSAGES, shared, message("forged", **answer, **source))
    await every["operator"].create(MESSAGES, shared, message("a-tools", **answer))


MODEL: Json = {"provider": "anthropic", "name": "m", "baseURL": "https://one.example"}
KEY: Json = {"apiKeySecretRef": {"name": "own", "key": "k"}}
OTHERS_KEY: Json = {"apiKeySecretRef": {"name": "others", "key": "k"}}
PROMPT: Json = {"systemFrom": {"name": "own", "key": "k"}}
OTHERS_PROMPT: Json = {"systemFrom": {"name": "others", "key": "k"}}


def model_agent(name: str, delegates: list[str] | None = None, **model: Any) -> Json:
    """A Model agent; with the tool `delegate` to some agents."""
    tools = {"tools": [{"name": "reply"}, {"name": "delegate", "agents": delegates}]} if delegates else {}
    return agent(name, runtime="Model", model={**MODEL, **model}, **tools)


MADE: dict[str, tuple[Json, str | None]] = {
    "no key": (model_agent("none"), None),
    "own key and prompt": (model_agent("own", **KEY, **PROMPT), None),
    "own agents": (model_agent("delegates", ["a"]), None),
    "another's key": (
        model_agent("x", **OTHERS_KEY),
        "spec.model.apiKeySecretRef: {me} may not get secrets/others in ",
    ),
    "another's prompt": (
        model_agent("x", **OTHERS_PROMPT),
        "spec.model.systemFrom: {me} may not get configmaps/others ",
    ),
    "another's agent": (model_agent("x", ["b"]), "spec.tools: {me} lacks the verb delegate on one of agents b in "),
    "one of two": (model_agent("x", ["a", "b"]), "lacks the verb delegate on one of agents a, b in namespace"),
}


@pytest.mark.parametrize(("body", "said"), MADE.values(), ids=MADE)
async def test_D13_an_agent_is_given_what_its_maker_holds(
    alice: Kube, shared: str, body: Json, said: str | None
) -> None:
    """A Secret, a ConfigMap and agents that whoever writes the spec may use themselves, as the API server sees it."""
    if said is None:
        await alice.create(AGENTS, shared, body)
        return
    with pytest.raises(Forbidden) as refusal:
        await alice.create(AGENTS, shared, body)
    assert said.format(me=username(shared, "alice")) in refusal.value.message


@pytest.fixture(scope="module")
async def theirs(admin_kube: Kube, shared: str) -> None:
    """Agents with what Alice couldn't give them: `theirs` has a key and a prompt, `chief` delegates, which it asks for
    each time; patches of them are dry runs."""
    await admin_kube.create(AGENTS, shared, model_agent("theirs", **OTHERS_KEY, **OTHERS_PROMPT))
    chief = model_agent("chief", ["a", "b"], system="theirs")
    chief["spec"]["tools"][1]["permission"] = "Ask"
    await admin_kube.create(AGENTS, shared, chief)


def _delegates(*names: str, permission: str = "Ask") -> Json:
    return {"tools": [{"name": "delegate", "agents": list(names), "permission": permission}]}


CHANGED: dict[str, tuple[str, Json, str | None]] = {
    "nothing of these": ("theirs", {"description": "new", "model": {"name": "other", "maxTokens": 5}}, None),
    "no key any more": ("theirs", {"model": {"apiKeySecretRef": None}}, None),
    "no prompt any more": ("theirs", {"model": {"systemFrom": None, "system": "mine"}}, None),
    "own instead": ("theirs", {"model": {**KEY, **PROMPT}}, None),
    "own key and prompt, elsewhere": (
        "theirs",
        {"model": {**KEY, **PROMPT, "baseURL": "https://two.example"}},
        None,
    ),
    "the key to another address": (
        "theirs",
        {"model": {"baseURL": "https://two.example"}},
        "spec.model.apiKeySecretRef: ",
    ),
    "the key to the provider's own address": ("theirs", {"model": {"baseURL": None}}, "spec.model.apiKeySecretRef: "),
    "the key to another provider": ("theirs", {"model": {"provider": "echo"}}, "spec.model.apiKeySecretRef: "),
    "another key of that Secret": (
        "theirs",
        {"model": {"apiKeySecretRef": {"key": "root"}}},
        "spec.model.apiKeySecretRef: ",
    ),
    "another key of that ConfigMap": ("theirs", {"model": {"systemFrom": {"key": "root"}}}, "spec.model.systemFrom: "),
    "the prompt to another address": (
        "theirs",
        {"model": {**KEY, "baseURL": "https://two.example"}},
        "spec.model.systemFrom: ",
    ),
    "the prompt to another provider": ("theirs", {"model": {**KEY, "provider": "echo"}}, "spec.model.systemFrom: "),
    "nothing of the delegates": ("chief", {"description": "new", "model": {"name": "other", "maxTokens": 5}}, None),
    "one agent less": ("chief", _delegates("b"), None),
    "one agent less, who is told otherwise": ("chief", {**_delegates("a"), "model": {"system": "mine"}}, None),
    "no tool any more": ("chief", {"tools": None, "model": {"system": "mine"}}, None),
    "one agent more": ("chief", _delegates("a", "b", "c"), "on one of agents c in namespace"),
    "nobody is asked any more": ("chief", _delegates("a", "b", permission="Allow"), "on one of agents a, b in "),
    "delegates told otherwise": ("chief", {"model": {"system": "mine"}}, "on one of agents a, b in "),
    "delegates told nothing": ("chief", {"model": {"system": None}}, "on one of agents a, b in "),
    "delegates told from elsewhere": ("chief", {"model": {"system": None, **PROMPT}}, "on one of agents a, b in "),
    "delegates of another address": ("chief", {"model": {"baseURL": "https://two.example"}}, "on one of agents a, b "),
    "delegates of another provider": ("chief", {"model": {"provider": "echo"}}, "on one of agents a, b in "),
}


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(("name", "change", "said"), CHANGED.values(), ids=CHANGED)
async def test_D13_what_stands_may_stay(alice: Kube, shared: str, name: str, change: Json, said: str | None) -> None:
    """Who holds none of it may change all else, take it away, and not turn it to other ends."""
    patch = alice.patch(AGENTS, shared, name, {"spec": change}, dryRun="All")
    if said is None:
        assert await patch
        return
    with pytest.raises(Forbidden) as refusal:
        await patch
    assert said in refusal.value.message


async def test_D13_a_key_is_not_smuggled_in_by_a_change_of_runtime(alice: Kube, shared: str) -> None:
    """An agent that had no model is given one like a new one."""
    await alice.create(AGENTS, shared, agent("channel"))
    turned = {"spec": {"runtime": "Model", "model": {**MODEL, **OTHERS_KEY}}}
    with pytest.raises(Forbidden, match=r"spec\.model\.apiKeySecretRef: "):
        await alice.patch(AGENTS, shared, "channel", turned)
    assert await alice.patch(AGENTS, shared, "channel", {"spec": {"runtime": "Model", "model": {**MODEL, **KEY}}})
