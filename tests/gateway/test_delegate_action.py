"""`delegate` on a socket: work handed on as the session's user, as a part of what the session holds."""

import pytest

from accounts import username
from belay_api.meta import ANNOTATION_ASKED_BY
from belay_kube.client import DELEGATIONS, Kube
from belay_kube.clock import SystemClock
from belay_kube.errors import Unreachable
from gateway.caller import DELEGATE, EVERYTHING, Caller, caller
from gateway.peer import Peer, identifier
from gateway.slow import CreateFails
from gateway.stage import Running, Stage, running


@pytest.fixture
async def alice(stage: Stage, gateway: Running) -> Caller:
    """The owner of agent `a`, who may delegate."""
    await stage.agent("a", "alice")
    return await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE)


async def attached(alice: Caller) -> tuple[Peer, str]:
    """Session `s1` of agent `a`."""
    peer = await alice.gateway.dialer.dial(alice.token)
    await peer.subscribe(f"{alice.namespace}/a", "s1")
    return peer, identifier(agent_id=f"{alice.namespace}/a", session_id="s1")


async def test_D8_a_session_hands_work_on(stage: Stage, alice: Caller) -> None:
    """The ack names it; it says who asked and from which session, and is a part of what the session holds."""
    peer, text = await attached(alice)
    await stage.offered("parent", "a")
    await peer.act(text, "accept", name="parent", attempt=1)
    more = {"inputs": {"k": "v"}, "topic": "t", "priority": 3, "deadline_seconds": 60}
    ack = await peer.act(text, "delegate", agent="b", prompt="do it", parent="parent", **more)
    assert ack["type"] == "ack", ack
    made = await stage.work(ack["name"])
    spec = made["spec"]
    assert spec["requester"] == username(stage.namespace, "alice")
    assert spec["parentRef"] == {"kind": "Delegation", "name": "parent"}
    assert (spec["task"], spec["agentRef"]) == ({"prompt": "do it", "inputs": {"k": "v"}}, {"name": "b"})
    assert (spec["topic"], spec["priority"], spec["deadlineSeconds"]) == ("t", 3, 60)
    assert made["metadata"]["annotations"][ANNOTATION_ASKED_BY] == "a/s1"


async def test_D5_the_same_key_on_a_socket_and_by_http(stage: Stage, alice: Caller) -> None:
    """One object, whichever way it was asked for; another body is refused."""
    peer, text = await attached(alice)
    first = await peer.act(text, "delegate", agent="b", prompt="p", idempotency_key="k")
    again = await peer.act(text, "delegate", agent="b", prompt="p", idempotency_key="k")
    assert first["name"] == again["name"]
    body = {"spec": {"agentRef": {"name": "b"}, "task": {"prompt": "p"}}}
    by_http = await alice.post("delegations", body, Idempotency_Key="k")
    assert (by_http.status, by_http.body["metadata"]["name"]) == (200, first["name"])
    other = await peer.act(text, "delegate", agent="b", prompt="q", idempotency_key="k")
    assert (other["code"], "another key" in other["message"]) == ("invalid", True)


async def test_D6_a_parent_must_be_held_by_the_session(stage: Stage, alice: Caller) -> None:
    """Neither one that is only on offer, nor another's, nor one that isn't there, nor one that has ended."""
    peer, text = await attached(alice)
    await stage.offered("offered", "a")
    await stage.offered("anothers", "b")
    await stage.offered("ended", "a")
    await peer.act(text, "complete", name="ended", attempt=1, result={"text": "x"})
    for parent in ("offered", "anothers", "missing", "ended"):
        answer = await peer.act(text, "delegate", agent="b", prompt="p", parent=parent)
        assert (answer["code"], parent in answer["message"]) == ("not_holder", True)


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"topic": "session/a/s1"}, "invalid", "session/"),
        ({"agent": "a.b"}, "invalid", "spec.agentRef.name"),
        ({"prompt": "a\0b"}, "invalid", "NUL"),
        ({"inputs": {"k": "x" * 5000}}, "invalid", "spec.task.inputs.k"),
    ],
    ids=["topic of a session", "no agent's name", "NUL", "input too long"],
)
async def test_D6_refused_on_the_socket(
    stage: Stage, alice: Caller, fields: dict[str, object], code: str, said: str
) -> None:
    """With the words of who refuses it."""
    peer, text = await attached(alice)
    answer = await peer.act(text, "delegate", **{"agent": "b", "prompt": "p", **fields})
    assert (answer["type"], answer["code"]) == ("error", code), answer
    assert said in answer["message"]


async def test_D13_a_session_needs_the_verb_delegate(stage: Stage, gateway: Running) -> None:
    """To own an agent is not to delegate to others."""
    await stage.agent("a", "bob")
    bob = await caller(stage, gateway, "bob", *EVERYTHING)
    peer, text = await attached(bob)
    answer = await peer.act(text, "delegate", agent="b", prompt="p")
    assert (answer["code"], "lacks the verb delegate on agents/b" in answer["message"]) == ("forbidden", True)


async def test_D5_a_delegate_without_an_answer(stage: Stage, gateway_kube: Kube) -> None:
    """It may have been made: the session is told so, without an address, and with a key it may ask again."""
    broken = Unreachable("POST https://10.0.0.1:6443/x broke off")
    kube = CreateFails(gateway_kube, DELEGATIONS, broken, after=True)
    async with running(kube, SystemClock()) as gateway:  # type: ignore[arg-type]
        await stage.agent("a", "alice")
        peer, text = await attached(await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE))
        told = await peer.act(text, "delegate", agent="b", prompt="p")
        assert (told["code"], "may have been made" in told["message"]) == ("unavailable", True)
        assert "10.0.0.1" not in told["message"]
        keyed = await peer.act(text, "delegate", agent="b", prompt="q", idempotency_key="k")
        assert (keyed["code"], "the same idempotency key" in keyed["message"]) == ("unavailable", True)
        kube.error = None
        assert (await peer.act(text, "delegate", agent="b", prompt="q", idempotency_key="k"))["type"] == "ack"
        made = (await stage.admin.list(DELEGATIONS, stage.namespace))["items"]
        assert sorted(item["spec"]["task"]["prompt"] for item in made) == ["p", "q"]
