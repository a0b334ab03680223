"""How `belay chat` reads turns, on a real API server: by their numbers, never the conversation."""

from pathlib import Path

import pytest

from accounts import SERVICE_ACCOUNTS, grant, username
from belay_api.meta import GROUP
from belay_api.names import turn_name
from belay_dev.controlplane import ControlPlane
from belay_kube.client import SESSIONS, TURNS, Json, Kube
from client.chat_process import Run, beside
from client.played_drain import PlayedDrain, call, result, text


@pytest.fixture
async def session(admin_kube: Kube, namespace: str) -> Json:
    """A session of agent `m`."""
    kind = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AgentSession", "metadata": {"name": "s"}}
    return await admin_kube.create(SESSIONS, namespace, {**kind, "spec": {"agentRef": {"name": "m"}}})


async def test_L8_no_conversation_is_listed(
    admin_kube: Kube, installed: ControlPlane, namespace: str, run: Run, drain: PlayedDrain, tmp_path: Path
) -> None:
    """Who may only get turns by name hears all of two messages."""
    await admin_kube.create(SERVICE_ACCOUNTS, namespace, {"metadata": {"name": "pat"}})
    may = {
        "agents": ["delegate", "get"],
        "agentsessions": ["create", "get", "list", "watch"],
        "pendingmessages": ["create", "get", "list", "watch"],
        "sessionturns": ["get"],
    }
    rules = [{"apiGroups": [GROUP], "resources": [kind], "verbs": verbs} for kind, verbs in may.items()]
    await grant(admin_kube, namespace, username(namespace, "pat"), "talks", rules)
    file = installed.service_account_kubeconfig(namespace, "pat", tmp_path / "kubeconfig")
    chat = beside(run("m", stdin=b"one\ntwo\n", KUBECONFIG=str(file)))
    first = await drain.message()
    await drain.turn(first, 1, settles=(first,), assistant=[call("u1")])
    await drain.turn(first, 2, user=[result("u1", "ok")], assistant=[text("ONE")])
    await drain.lands(first, 2)
    await drain.answers(await drain.message(), 3, "TWO")
    said = await chat
    assert (said.code, said.out) == (0, "ONE\nTWO\n"), said
    told = [line for line in said.err.splitlines() if line.startswith("turn")]
    assert told == ["turn 1: Answered", "turn 2: Answered", "turn 3: Answered"]


async def test_turns_that_were_deleted_are_passed_over(session: Json, run: Run, drain: PlayedDrain) -> None:
    """The session counts them: the next one has a number all the same."""
    chat = beside(run("m", "hello", "--session", "s"))
    message = await drain.message()
    await drain.lands(message, 2)
    await drain.answers(message, 3, "hi")
    said = await chat
    assert (said.code, said.out) == (0, "hi\n"), said


async def test_a_turn_of_an_earlier_session_is_not_told(
    admin_kube: Kube, operator_kube: Kube, namespace: str, session: Json, run: Run, drain: PlayedDrain
) -> None:
    """One that is not cleared away yet has the number of the answer. (A finalizer holds it: the garbage collector sees
    that its owner is gone.)"""
    name = turn_name("s", 1)
    owner = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AgentSession", "name": "s", "uid": "earlier"}
    spec = {"sessionRef": {"name": "s"}, "sequence": 1, "outcome": "Answered", "assistant": [text("long ago")]}
    kind = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "SessionTurn"}
    meta = {"name": name, "ownerReferences": [owner], "finalizers": ["test/kept"]}
    left = {**kind, "metadata": meta, "spec": spec}
    await operator_kube.create(TURNS, namespace, left)
    chat = beside(run("m", "hello", "--session", "s"))
    message = await drain.message()
    await admin_kube.delete(TURNS, namespace, name)
    await admin_kube.patch(TURNS, namespace, name, {"metadata": {"finalizers": None}})
    await drain.answers(message, 1, "hi")
    said = await chat
    assert (said.code, said.out) == (0, "hi\n"), said
