"""`belay cancel`, `retry` and `why` on a real API server; the phases are written by the accounts that may."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from accounts import SERVICE_ACCOUNTS, bind, username
from belay_api.meta import GROUP
from belay_api.names import subscription_name
from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, DELEGATIONS, SUBSCRIPTIONS, Json, Kube
from client.belay_command import Said, belay, ended, start
from crds_cases import agent, delegation, in_phase, row
from waiting import eventually

Run = Callable[..., Awaitable[Said]]
Kubes = dict[str, Kube]
HELD = {"sessionId": "1", "attempt": 1}
AT = "2026-01-02T03:04:05.000000Z"


@pytest.fixture
def kubes(admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube) -> Kubes:
    """Clients by who they are."""
    return {"admin": admin_kube, "operator": operator_kube, "gateway": gateway_kube}


@pytest.fixture
def environment(installed: ControlPlane, namespace: str) -> dict[str, Any]:
    """The administrator's."""
    return {"KUBECONFIG": str(installed.kubeconfig)}


@pytest.fixture
def run(environment: dict[str, Any], namespace: str) -> Run:
    """Runs a command of the administrator in the test's namespace."""

    async def run_belay(*arguments: str, **more: Any) -> Said:
        return await belay(*arguments, "-n", namespace, **{**environment, **more})

    return run_belay


def true(*kinds: str) -> list[Json]:
    """Conditions that hold."""
    return [
        {"type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}
        for kind in kinds
    ]


async def cancelled(kubes: Kubes, namespace: str, name: str = "inprogress", **status: Any) -> Json:
    """What the operator makes of work that is to be cancelled."""
    obj = await kubes["admin"].get(DELEGATIONS, namespace, name)
    end = {"phase": "Cancelled", "reason": "Cancelled", "completionTime": AT, "message": "cancelled as asked"}
    return await kubes["operator"].patch_status(
        DELEGATIONS, obj, {**end, "conditions": true("Finished", "CancelRequested"), **status}
    )


async def asked(kube: Kube, namespace: str, name: str) -> None:
    """Wait until the cancel was asked for."""

    async def wanted() -> bool:
        found: str = (await kube.get(DELEGATIONS, namespace, name))["spec"]["desiredState"]
        return found == "Cancelled"

    await eventually(wanted)


# --- cancel ---


@pytest.mark.parametrize("flags", [(), ("--cascade=true",), ("--cascade=false",)], ids=str)
async def test_D9_cancel_asks_and_spares(kubes: Kubes, namespace: str, run: Run, flags: tuple[str, ...]) -> None:
    """desiredState, and with --cascade=false the annotation in the same write."""
    made = await in_phase(kubes, namespace, "Queued")
    said = await run("cancel", "queued", *flags)
    spared = "--cascade=false" in flags
    words = ", without those that are part of it" if spared else ""
    assert (said.code, said.out, said.err) == (0, f"delegation.{GROUP}/queued is to be cancelled{words}\n", "")
    after = await kubes["admin"].get(DELEGATIONS, namespace, "queued")
    assert after["spec"]["desiredState"] == "Cancelled"
    expected = {f"{GROUP}/cancel-cascade": "false"} if spared else None
    assert after["metadata"].get("annotations") == expected
    assert after["metadata"]["generation"] == made["metadata"]["generation"] + 1


@pytest.mark.parametrize(
    ("phase", "code", "says"),
    [
        ("Completed", 5, "had ended before: it is Completed"),
        ("Failed", 5, "it is Failed"),
        ("Cancelled", 0, "is cancelled"),
    ],
)
async def test_D9_cancel_of_what_is_over(
    kubes: Kubes, namespace: str, run: Run, phase: str, code: int, says: str
) -> None:
    """Says how it ended, with and without --wait; nothing is written."""
    made = await in_phase(kubes, namespace, phase)
    for flags in ((), ("--wait",)):
        said = await run("cancel", phase.lower(), *flags)
        assert said.code == code, said
        assert says in said.out
    after = await kubes["admin"].get(DELEGATIONS, namespace, phase.lower())
    assert after["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_D9_cancel_waits_for_the_proof(kubes: Kubes, namespace: str, environment: dict[str, Any]) -> None:
    """Each step is told as it comes, and that the session isn't there; over when it has said that it stopped."""
    obj = await in_phase(kubes, namespace, "InProgress")
    await kubes["gateway"].patch_status(DELEGATIONS, obj, HELD)
    process = await start("cancel", "inprogress", "--wait", "-n", namespace, **environment)
    finished = asyncio.create_task(ended(process))
    await asked(kubes["admin"], namespace, "inprogress")
    obj = await cancelled(kubes, namespace)
    obj = await kubes["gateway"].patch_status(
        DELEGATIONS, obj, {"conditions": true("Finished", "CancelRequested", "CancelDelivered")}
    )
    assert not finished.done()
    kinds = ("Finished", "CancelRequested", "CancelDelivered", "CancelAcknowledged")
    await kubes["gateway"].patch_status(DELEGATIONS, obj, {"conditions": true(*kinds)})
    said = await finished
    assert (said.code, said.err) == (0, ""), said
    lines = [line for line in said.out.splitlines() if "not attached" not in line]
    assert lines == [
        f"delegation.{GROUP}/inprogress is to be cancelled",
        "requested",
        "delivered",
        "acknowledged",
        "inprogress is cancelled, and session 1 has stopped working on it",
    ]


@pytest.mark.parametrize("attached", [True, False])
async def test_D9_cancel_without_an_answer_ends_at_the_timeout(
    kubes: Kubes, namespace: str, run: Run, attached: bool
) -> None:
    """Exit code 6, what stands, and whether the session is there to be told."""
    obj = await in_phase(kubes, namespace, "InProgress")
    await kubes["gateway"].patch_status(DELEGATIONS, obj, HELD)
    if attached:
        lease = await kubes["gateway"].create(SUBSCRIPTIONS, namespace, row(subscription_name("a", "1")))
        await kubes["gateway"].patch_status(SUBSCRIPTIONS, lease, {"phase": "Live", "token": "t", "user": "u"})
    await cancelled(kubes, namespace)
    said = await run("cancel", "inprogress", "--wait", "--timeout", "1s")
    assert (said.code, "no word that it stopped within 1s; the cancel stands" in said.err) == (6, True), said
    assert ("session 1 of agent a is not attached: it is told when it returns" in said.out) is not attached
    without = await run("cancel", "inprogress")
    assert (without.code, "has not yet said that it stopped" in without.out) == (0, True)


async def test_D9_cancel_of_work_that_was_never_sent_needs_no_answer(
    kubes: Kubes, namespace: str, environment: dict[str, Any]
) -> None:
    """Nobody held it: over at once."""
    await in_phase(kubes, namespace, "Queued")
    process = await start("cancel", "queued", "--wait", "-n", namespace, **environment)
    finished = asyncio.create_task(ended(process))
    await asked(kubes["admin"], namespace, "queued")
    await cancelled(kubes, namespace, "queued")
    said = await finished
    assert (said.code, said.out.splitlines()[-1]) == (0, "queued is cancelled; nothing was working on it"), said


async def test_D9_cancel_of_what_is_deleted_meanwhile(
    kubes: Kubes, namespace: str, environment: dict[str, Any]
) -> None:
    """Exit code 4."""
    await in_phase(kubes, namespace, "Dispatched")
    process = await start("cancel", "dispatched", "--wait", "-n", namespace, **environment)
    finished = asyncio.create_task(ended(process))
    await asked(kubes["admin"], namespace, "dispatched")
    await kubes["admin"].delete(DELEGATIONS, namespace, "dispatched")
    said = await finished
    assert (said.code, "was deleted" in said.err) == (4, True), said


# --- retry ---


async def test_S12_retry_of_stuck_work_raises_retry_attempt(kubes: Kubes, namespace: str, run: Run) -> None:
    """Once, until the operator has acted on it; the name stays."""
    obj = await in_phase(kubes, namespace, "Stuck")
    for _ in range(2):
        said = await run("retry", "stuck")
        assert (said.code, said.out) == (0, "stuck\n"), said
        obj = await kubes["admin"].get(DELEGATIONS, namespace, "stuck")
        assert obj["spec"]["retryAttempt"] == 1
    assert "is to be retried already" in said.err
    await kubes["operator"].patch_status(DELEGATIONS, obj, {"observedRetryAttempt": 1})
    await run("retry", "stuck")
    assert (await kubes["admin"].get(DELEGATIONS, namespace, "stuck"))["spec"]["retryAttempt"] == 2


@pytest.mark.parametrize("phase", ["Failed", "Cancelled"])
async def test_S12_retry_of_what_is_over_makes_a_new_one(kubes: Kubes, namespace: str, run: Run, phase: str) -> None:
    """It refers to the old one, which stays as it is; the retry of the retry counts on; not two at once."""
    name = phase.lower()
    await in_phase(kubes, namespace, phase, priority=7, deadlineSeconds=90)
    first = await run("retry", name)
    assert (first.code, first.out, first.err) == (0, f"{name}-retry-1\n", ""), first
    made = await kubes["admin"].get(DELEGATIONS, namespace, f"{name}-retry-1")
    spec = {key: value for key, value in made["spec"].items() if key in ("retryOf", "priority", "deadlineSeconds")}
    assert spec == {"retryOf": name, "priority": 7, "deadlineSeconds": 90}
    assert made["spec"]["desiredState"] == "Running"
    second = await run("retry", name)
    assert second.is_one_line(), second
    assert f"{name}-retry-1 retries it already" in second.err
    await kubes["operator"].patch_status(DELEGATIONS, made, {"phase": "Failed", "reason": "DeadlineExceeded"})
    third = await run("retry", f"{name}-retry-1", "-o", "name")
    assert third.out == f"delegation.{GROUP}/{name}-retry-2\n", third
    after = await kubes["admin"].get(DELEGATIONS, namespace, f"{name}-retry-2")
    assert after["spec"]["retryOf"] == f"{name}-retry-1"
    assert (await kubes["admin"].get(DELEGATIONS, namespace, name))["status"]["phase"] == phase


@pytest.mark.parametrize("phase", ["Pending", "Queued", "Dispatched", "InProgress", "Completed"])
async def test_S12_what_cannot_be_retried_is_refused(kubes: Kubes, namespace: str, run: Run, phase: str) -> None:
    """With a sentence that says where it stands; nothing is made."""
    await in_phase(kubes, namespace, phase)
    said = await run("retry", phase.lower())
    assert said.is_one_line(), said
    assert f"{phase.lower()} is {phase}: " in said.err
    assert len((await kubes["admin"].list(DELEGATIONS, namespace))["items"]) == 1


async def test_S12_retry_says_when_the_old_one_may_still_run(kubes: Kubes, namespace: str, run: Run) -> None:
    """A cancel that was not acknowledged; and a parent that is over is left out."""
    parent = await in_phase(kubes, namespace, "Failed")
    obj = await in_phase(kubes, namespace, "InProgress", parentRef={"name": parent["metadata"]["name"]})
    await kubes["gateway"].patch_status(DELEGATIONS, obj, HELD)
    await cancelled(kubes, namespace)
    said = await run("retry", "inprogress", "-o", "json")
    assert said.code == 0, said
    assert "parentRef" not in json.loads(said.out)["spec"]
    assert "session 1 has not yet said that it stopped inprogress" in said.err
    assert "failed, of which it was a part, is Failed" in said.err


# --- why ---


async def test_D4_why_counts_the_whole_queue(kubes: Kubes, namespace: str, run: Run) -> None:
    """Its place by the operator's order, what holds the slot, sessions of the agent."""
    admin, operator, gateway = kubes["admin"], kubes["operator"], kubes["gateway"]
    await admin.create(AGENTS, namespace, agent("a"))
    lease = await gateway.create(SUBSCRIPTIONS, namespace, row("a-1"))
    await gateway.patch_status(SUBSCRIPTIONS, lease, {"phase": "Live", "token": "t", "user": "u"})
    await in_phase(kubes, namespace, "InProgress")
    for number in range(12):
        made = await admin.create(DELEGATIONS, namespace, delegation(f"q{number:02}"))
        waits = {"phase": "Queued", "reason": "AgentBusy", "queuedTime": f"2026-01-02T03:04:{number:02}.000000Z"}
        await operator.patch_status(DELEGATIONS, made, waits)
    other = await admin.create(DELEGATIONS, namespace, delegation("done"))
    await operator.patch_status(DELEGATIONS, other, {"phase": "Failed", "reason": "DeadlineExceeded"})
    said = await run("why", "q11")
    assert said.code == 0, said
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0].startswith("q11 is Queued (AgentBusy) since ")
    assert "queue number 12 of 12, by priority, then by waiting time" in lines
    assert "slots 1 of 1 in use: inprogress (InProgress)" in lines
    assert "sessions 1 attached: 1" in lines
    shown = json.loads((await run("why", "q11", "-o", "json")).out)
    assert (shown["queue"], shown["heldBy"], shown["phase"]) == ({"position": 12, "of": 12}, ["inprogress"], "Queued")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("why", "none"), "not found"),
        (("retry", "none"), "not found"),
        (("cancel", "none"), "not found"),
        (("cancel",), "name"),
        (("cancel", "x", "--timeout", "5s"), "--timeout goes with --wait"),
        (("cancel", "x", "--wait", "--timeout", "soon"), "90s"),
        (("cancel", "x", "--cascade=maybe"), "--cascade"),
        (("why", "x", "-o", "yaml"), "--output"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_bad_input(run: Run, arguments: tuple[str, ...], says: str) -> None:
    """One line that helps."""
    said = await run(*arguments)
    assert said.is_one_line(), said
    assert says in said.err


async def test_D9_the_roles_that_people_have_are_enough(
    kubes: Kubes, installed: ControlPlane, namespace: str, run: Run, tmp_path: Path
) -> None:
    """Who holds belay-view may ask why and see the tree, and no more; with belay-edit also cancel and retry."""
    admin = kubes["admin"]
    await in_phase(kubes, namespace, "Queued")
    await in_phase(kubes, namespace, "Failed")
    await admin.create(SERVICE_ACCOUNTS, namespace, {"metadata": {"name": "pat"}})
    user = username(namespace, "pat")
    await bind(admin, namespace, user, "ClusterRole", "belay-view")
    file = str(installed.service_account_kubeconfig(namespace, "pat", tmp_path / "kubeconfig"))
    for command in ("why", "tree"):

        async def looked(command: str = command) -> bool:
            return (await run(command, "queued", KUBECONFIG=file)).code == 0

        await eventually(looked)
    for command, name in (("cancel", "queued"), ("retry", "failed")):
        refused = await run(command, name, KUBECONFIG=file)
        assert refused.is_one_line(), refused
        assert "not allowed" in refused.err
    await bind(admin, namespace, user, "ClusterRole", "belay-edit")
    for command, name in (("cancel", "queued"), ("retry", "failed")):

        async def done(command: str = command, name: str = name) -> bool:
            return (await run(command, name, KUBECONFIG=file)).code == 0

        await eventually(done)
