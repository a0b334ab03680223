"""`belay delegate` and `belay cancel` on a real API server; the phases are written by the accounts that may."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from belay_client.cluster import Where, explain
from belay_client.delegate import Request, create
from belay_client.follow import Lines, follow, printable, state_line
from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, DELEGATIONS, Json, Kube
from belay_kube.clock import SystemClock
from belay_kube.errors import NotFound, from_status
from client.belay_command import Said, belay

END = "2026-01-02T03:04:05.000000Z"


@pytest.fixture
def kubeconfig(installed: ControlPlane) -> dict[str, Any]:
    """The environment of the administrator."""
    return {"KUBECONFIG": str(installed.kubeconfig)}


async def only(kube: Kube, namespace: str) -> Json:
    """The one delegation of a namespace, once it is there."""
    while True:
        found: list[Json] = (await kube.list(DELEGATIONS, namespace))["items"]
        if found:
            return found[0]


def waiting(namespace: str, kubeconfig: dict[str, Any], *flags: str) -> "asyncio.Task[Said]":
    """`delegate --wait` beside the test."""
    return asyncio.create_task(belay("delegate", "a", "do it", "--wait", "-n", namespace, *flags, **kubeconfig))


async def test_creates_what_was_asked_for(admin_kube: Kube, namespace: str, kubeconfig: dict[str, Any]) -> None:
    """Every flag has its field; the name is made from the agent's; a missing agent is only a warning."""
    said = await belay(
        "delegate", "a", "-", "-n", namespace, "--deadline", "1h30m", "--priority", "5", "--input", "k=v=w",
        "--session", "s1", "--topic", "t", "--on-agent-lost", "Requeue", stdin=b"from stdin\n", **kubeconfig,
    )  # fmt: skip
    assert said.code == 0, said
    created = await admin_kube.get(DELEGATIONS, namespace, said.out.strip())
    assert created["metadata"]["name"].startswith("a-")
    assert len(created["metadata"]["name"]) == 7
    spec = {key: value for key, value in created["spec"].items() if key not in ("requester", "desiredState")}
    assert spec == {
        "agentRef": {"name": "a"},
        "sessionId": "s1",
        "topic": "t",
        "task": {"prompt": "from stdin\n", "inputs": {"k": "v=w"}},
        "priority": 5,
        "deadlineSeconds": 5400,
        "onAgentLost": "Requeue",
    }
    assert said.err == f"belay: agent {namespace}/a does not exist yet: the delegation waits until it does\n"


async def test_formats(admin_kube: Kube, namespace: str, kubeconfig: dict[str, Any]) -> None:
    """`-o name` as kubectl has it, `-o json` the object; with the agent there, no warning."""
    agent: dict[str, Any] = {"runtime": "Channel", "owners": [{"kind": "User", "name": "x"}]}
    await admin_kube.create(
        AGENTS,
        namespace,
        {"apiVersion": "belay.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "a"}, "spec": agent},
    )
    named = await belay("delegate", "a", "p", "-n", namespace, "--name", "mine", "-o", "name", **kubeconfig)
    assert (named.out, named.err) == ("delegation.belay.dev/mine\n", "")
    shown = await belay("delegate", "a", "p", "-n", namespace, "-o", "json", **kubeconfig)
    assert json.loads(shown.out)["kind"] == "Delegation"
    again = await belay("delegate", "a", "p", "-n", namespace, "--name", "mine", **kubeconfig)
    assert again.is_one_line(), again
    assert "already exists" in again.err


@pytest.mark.parametrize(
    ("status", "code", "out", "err"),
    [
        ({"phase": "Completed", "reason": "Completed", "result": {"text": "all\nwell"}}, 0, "all\nwell\n", "Completed"),
        (
            {"phase": "Completed", "reason": "Completed", "result": {"uri": "https://x/y"}},
            0,
            "https://x/y\n",
            "Completed",
        ),
        (
            {"phase": "Completed", "reason": "Completed", "result": {"text": "two", "data": {"rows": [1, 2]}}},
            0,
            'two\n{\n  "rows": [\n    1,\n    2\n  ]\n}\n',
            "Completed",
        ),
        ({"phase": "Failed", "reason": "AgentFailed", "message": "no idea"}, 1, "", "Failed (AgentFailed) no idea"),
    ],
    ids=["text", "uri", "data", "failed"],
)
async def test_wait_ends_with_the_delegation(
    admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str, kubeconfig: dict[str, Any],
    status: Json, code: int, out: str, err: str,
) -> None:  # fmt: skip
    """Each state is a line on standard error, the result is all there is on standard output."""
    running = waiting(namespace, kubeconfig)
    obj = await only(admin_kube, namespace)
    times = {"sessionId": "s1", "attempt": 1, "dispatchedTime": END}
    obj = await operator_kube.patch_status(DELEGATIONS, obj, {"phase": "Dispatched", "reason": "Dispatched", **times})
    obj = await gateway_kube.patch_status(DELEGATIONS, obj, {"phase": "InProgress", "reason": "Accepted"})
    await gateway_kube.patch_status(DELEGATIONS, obj, {**status, "completionTime": END})
    said = await running
    assert (said.code, said.out) == (code, out), said
    assert err in said.err


async def test_wait_for_one_that_is_cancelled(
    admin_kube: Kube, operator_kube: Kube, namespace: str, kubeconfig: dict[str, Any]
) -> None:
    """`belay cancel` asks, the operator ends it: exit code 3."""
    running = waiting(namespace, kubeconfig)
    name = (await only(admin_kube, namespace))["metadata"]["name"]
    asked = await belay("cancel", name, "-n", namespace, **kubeconfig)
    assert (asked.code, asked.out) == (0, f"delegation.belay.dev/{name} is to be cancelled\n")
    obj = await admin_kube.get(DELEGATIONS, namespace, name)
    assert obj["spec"]["desiredState"] == "Cancelled"
    ended = {"phase": "Cancelled", "reason": "Cancelled", "completionTime": END}
    await operator_kube.patch_status(DELEGATIONS, obj, ended)
    assert (await running).code == 3


async def test_wait_for_one_that_is_deleted(admin_kube: Kube, namespace: str, kubeconfig: dict[str, Any]) -> None:
    """Exit code 4."""
    running = waiting(namespace, kubeconfig)
    name = (await only(admin_kube, namespace))["metadata"]["name"]
    await admin_kube.delete(DELEGATIONS, namespace, name)
    said = await running
    assert said.code == 4, said
    assert "was deleted" in said.err


async def test_one_that_was_deleted_before_anyone_looked(admin_kube: Kube, namespace: str) -> None:
    """The first list lacks it: it is gone, not still to come."""
    created = await create(admin_kube, namespace, Request("a", "p"))
    await admin_kube.delete(DELEGATIONS, namespace, created["metadata"]["name"])
    assert await follow(admin_kube, created, SystemClock(), Lines("d")) is None


async def test_D5_the_same_key_twice_makes_one(
    admin_kube: Kube, operator_kube: Kube, namespace: str, kubeconfig: dict[str, Any]
) -> None:
    """The second names the first; another task under the key is refused; after a failure the next is made."""

    async def keyed(*more: str) -> Said:
        return await belay("delegate", "a", "p", "-n", namespace, "--idempotency-key", "k", *more, **kubeconfig)

    first, again = await keyed(), await keyed("--priority", "0")
    assert (first.code, again.code) == (0, 0), again
    assert first.out == again.out
    assert "was there already" in again.err
    made = await admin_kube.get(DELEGATIONS, namespace, first.out.strip())
    assert made["spec"]["requester"] == "belay-admin"
    other = await keyed("--priority", "1")
    assert other.is_one_line(), other
    assert "another key" in other.err
    await operator_kube.patch_status(DELEGATIONS, made, {"phase": "Failed", "reason": "DeadlineExceeded"})
    assert (await keyed()).out.strip() == first.out.strip().removesuffix("-1") + "-2"


@pytest.mark.parametrize("flags", [("--name", "mine", "--idempotency-key", "k"), ("--idempotency-key", "two words")])
async def test_D5_a_key_that_makes_no_sense(namespace: str, kubeconfig: dict[str, Any], flags: tuple[str, ...]) -> None:
    """Said before anything is asked of the cluster."""
    said = await belay("delegate", "a", "p", "-n", namespace, *flags, **kubeconfig)
    assert said.is_one_line(), said
    assert "--idempotency-key" in said.err


async def test_refusals_of_the_api_server_are_one_line(namespace: str, kubeconfig: dict[str, Any]) -> None:
    """An invalid name, a missing namespace, a missing delegation."""
    for arguments in (
        ("delegate", "a", "p", "-n", namespace, "--name", "Not A Name"),
        ("delegate", "a", "p", "-n", "no-such-namespace"),
        ("cancel", "no-such-delegation", "-n", namespace),
    ):
        said = await belay(*arguments, **kubeconfig)
        assert said.is_one_line(), said


def test_definitions_that_are_not_installed() -> None:
    """404 of the type, not of an object: says how to install."""
    for body in ({"message": "the server could not find the requested resource"}, {"message": "404 page not found\n"}):
        error = from_status(404, body, "POST /apis/belay.dev")
        assert "kubectl apply -k manifests/" in explain(error)
    assert "install" not in explain(NotFound('agents.belay.dev "a" not found'))


def test_namespace_is_found_as_kubectl_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag, else the context's, else default."""
    file = tmp_path / "config"
    file.write_text("current-context: c\ncontexts: [{name: c, context: {namespace: mine}}, {name: d, context: {}}]\n")
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert Where().resolved_namespace() == "mine"
    assert Where(context="d").resolved_namespace() == "default"
    assert Where(namespace="given").resolved_namespace() == "given"


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ({}, "Pending"),
        ({"phase": "Queued", "reason": "AgentBusy", "queuePosition": 3}, "Queued (AgentBusy) number 3 in the queue"),
        (
            {"phase": "InProgress", "reason": "Accepted", "progress": {"percent": 4, "message": "hm"}},
            "InProgress (Accepted) 4% hm",
        ),
        ({"phase": "Failed", "reason": "AgentFailed", "message": "a\n\x1b[31mb"}, "Failed (AgentFailed) a  [31mb"),
    ],
)
def test_state_in_one_line(status: Json, line: str) -> None:
    """Without control characters: what an agent wrote must not steer the terminal."""
    assert state_line({"status": status}) == line
    assert printable(line) == line
