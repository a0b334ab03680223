"""`belay approve` and `belay deny` on a real API server, as the administrator and as people with fewer rights."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from accounts import SERVICE_ACCOUNTS, grant, username
from belay_api.meta import GROUP
from belay_dev.controlplane import ControlPlane
from belay_kube.client import PERMISSION_REQUESTS, Json, Kube
from client.belay_command import Said, belay
from crds_cases import permission

ADMIN = "belay-admin"
READ = {"apiGroups": [GROUP], "resources": ["permissionrequests"], "verbs": ["get"]}
DECIDE = {"apiGroups": [GROUP], "resources": ["permissionrequests"], "verbs": ["patch"]}
Run = Callable[..., Awaitable[Said]]


@pytest.fixture
def run(installed: ControlPlane, namespace: str) -> Run:
    """Runs a command of the administrator in the test's namespace."""

    async def run_belay(*arguments: str, **environment: str) -> Said:
        given: dict[str, Any] = {"KUBECONFIG": str(installed.kubeconfig), **environment}
        return await belay(*arguments, "-n", namespace, **given)

    return run_belay


@pytest.fixture
async def asked(gateway_kube: Kube, namespace: str) -> Json:
    """A request `p` of agent `a`."""
    body = permission("p", description="remove the\x1b[31m files", inputPreview="rm -rf build")
    return await gateway_kube.create(PERMISSION_REQUESTS, namespace, body)


async def decision(kube: Kube, namespace: str) -> Any:
    """What stands decided on `p`."""
    return (await kube.get(PERMISSION_REQUESTS, namespace, "p"))["spec"].get("decision")


@pytest.mark.parametrize(("command", "behavior", "word"), [("approve", "Allow", "allowed"), ("deny", "Deny", "denied")])
async def test_decides_in_ones_own_name(
    run: Run, asked: Json, admin_kube: Kube, namespace: str, command: str, behavior: str, word: str
) -> None:
    """Signed by the caller, with the reason; the line says what was decided, without the agent's control characters."""
    said = await run(command, "p", "--reason", "because")
    assert (said.code, said.err) == (0, ""), said
    assert said.out == f"permissionrequest.{GROUP}/p {word}: Bash for agent a, remove the [31m files: rm -rf build\n"
    assert await decision(admin_kube, namespace) == {"behavior": behavior, "reason": "because", "decidedBy": ADMIN}


async def test_the_same_again_is_fine(run: Run, asked: Json, admin_kube: Kube, namespace: str) -> None:
    """Nothing changes, and the line says who decided."""
    await run("approve", "p")
    said = await run("approve", "p", "--reason", "later thought")
    assert (said.code, said.err) == (0, "")
    assert f"p was allowed before, by {ADMIN}" in said.out
    assert await decision(admin_kube, namespace) == {"behavior": "Allow", "decidedBy": ADMIN}


async def test_otherwise_decided(run: Run, asked: Json) -> None:
    """Says by whom and why, and that it is final."""
    await run("deny", "p", "--reason", "too risky")
    said = await run("approve", "p")
    assert said.is_one_line(), said
    assert f"p was denied by {ADMIN} (too risky) already: a decision is final" in said.err


async def test_two_at_once(run: Run, asked: Json, admin_kube: Kube, namespace: str) -> None:
    """One decides; the other is told that it was too late, not that the API server refused a field."""
    both = await asyncio.gather(run("approve", "p"), run("deny", "p"))
    assert sorted(said.code for said in both) == [0, 1]
    (late,) = (said for said in both if said.code)
    assert late.is_one_line(), late
    assert "already: a decision is final" in late.err


async def test_expired(run: Run, asked: Json, operator_kube: Kube) -> None:
    """Says why nobody asks any more."""
    status = {"phase": "Expired", "reason": "Resolved", "message": "the agent says that it was answered elsewhere"}
    await operator_kube.patch_status(PERMISSION_REQUESTS, asked, status)
    said = await run("approve", "p")
    assert said.is_one_line(), said
    assert "p has expired: the agent says that it was answered elsewhere; the agent has to ask again" in said.err


@pytest.mark.parametrize(
    ("rules", "says"),
    [([READ, DECIDE], None), ([READ], "to decide takes the right to patch permissionrequests"), ([], "not allowed")],
    ids=["may decide", "may look", "may nothing"],
)
async def test_rights(
    run: Run,
    asked: Json,
    installed: ControlPlane,
    admin_kube: Kube,
    namespace: str,
    tmp_path: Path,
    rules: list[Json],
    says: str | None,
) -> None:
    """Who may patch may decide, under the name the API server knows them by; others are told what they lack."""
    await admin_kube.create(SERVICE_ACCOUNTS, namespace, {"metadata": {"name": "pat"}})
    await grant(admin_kube, namespace, username(namespace, "pat"), "pat", rules)
    file = installed.service_account_kubeconfig(namespace, "pat", tmp_path / "kubeconfig")
    said = await run("approve", "p", KUBECONFIG=str(file))
    if says is None:
        assert said.code == 0, said
        assert (await decision(admin_kube, namespace))["decidedBy"] == username(namespace, "pat")
        return
    assert said.is_one_line(), said
    assert says in said.err
    assert await decision(admin_kube, namespace) is None


async def test_request_that_is_not_there(run: Run, namespace: str) -> None:
    """Says what isn't there, where, and how to see what is."""
    said = await run("approve", "nope")
    assert said.is_one_line(), said
    assert f"no permission request nope in namespace {namespace}; `kubectl get bperm" in said.err


async def test_neither_text_hides_the_other(run: Run, gateway_kube: Kube, namespace: str) -> None:
    """However long the agent makes the description, what it describes is shown too."""
    body = permission("p", description="harmless " * 100, inputPreview="rm -rf build")
    await gateway_kube.create(PERMISSION_REQUESTS, namespace, body)
    said = await run("approve", "p")
    assert said.out.endswith("…: rm -rf build\n"), said


async def test_bad_input(run: Run) -> None:
    """No name, a flag that isn't there: one line each."""
    for arguments, says in (
        (("deny",), "name"),
        (("approve", "none", "--unknown"), "--unknown"),
    ):
        said = await run(*arguments)
        assert said.is_one_line(), said
        assert says in said.err


async def test_a_reason_that_is_too_long(run: Run, asked: Json, admin_kube: Kube, namespace: str) -> None:
    """Refused before anything is written, with the flag's name."""
    said = await run("deny", "p", "--reason", "x" * 1025)
    assert said.is_one_line(), said
    assert (said.code, "--reason" in said.err) == (2, True)
    assert await decision(admin_kube, namespace) is None
