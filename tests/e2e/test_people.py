"""What a person sees on the real thing: why work waits, that a cancel stopped it, retries, families (D4, D9, S12)."""

import json
import os
import signal

from belay_dev.process import Process
from e2e.conftest import Belay, holds
from e2e.test_main_path import group_gone, group_in

PROOF = ("CancelRequested", "CancelDelivered", "CancelAcknowledged")


def working(belay: Belay, agent: Process, name: str) -> None:
    """Wait until a delegation is in progress."""
    belay.until_phase(name, "InProgress", agent)


def lines(text: str) -> list[str]:
    """Lines with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_D4_why_shows_the_place_and_what_holds_the_slot(belay: Belay) -> None:
    """Eleven wait for one slot: the last is told its place beyond the ten of the status, and who goes before it."""
    finish = belay.folder / "why.finish"
    agent = belay.agent("popular", f"cat; until test -e {finish}; do sleep 0.1; done")
    belay.run("delegate", "popular", "x", "--name", "why-holder")
    working(belay, agent, "why-holder")
    kubectl = belay.stack.control_plane.kubectl
    for number in range(11):
        body = {
            "apiVersion": "belay.dev/v1alpha1",
            "kind": "Delegation",
            "metadata": {"name": f"why-{number:02}"},
            "spec": {"agentRef": {"name": "popular"}, "task": {"prompt": "x"}},
        }
        kubectl("create", "-f", "-", input=json.dumps(body))
        belay.until_phase(f"why-{number:02}", "Queued", agent)
    said = belay.run("why", "why-10")
    assert said.returncode == 0, said.stderr
    told = lines(said.stdout)
    assert told[0].startswith("why-10 is Queued (AgentBusy) since ")
    assert "queue number 11 of 11, by priority, then by waiting time" in told
    assert any(line.startswith("slots 1 of 1 in use: why-holder (InProgress") for line in told), told
    assert any(line.startswith("sessions 1 attached: ") for line in told), told
    kubectl("patch", "delegation", "why-10", "--type=merge", "-p", '{"spec":{"priority":5}}')
    first = json.loads(belay.run("why", "why-10", "-o", "json").stdout)
    assert first["queue"] == {"position": 1, "of": 11}
    finish.touch()
    belay.until_phase("why-00", "Completed", agent)
    assert belay.status("delegation", "why-10")["phase"] == "Completed"
    agent.stop()


def test_D9_cancel_waits_until_the_process_is_dead(belay: Belay) -> None:
    """`belay cancel --wait` tells each step; at its end the process group is gone and all three conditions are True."""
    pid = belay.folder / "cancelled.pid"
    agent = belay.agent("obedient", f"echo $$ > {pid}; sleep 600 & wait")
    belay.run("delegate", "obedient", "x", "--name", "proven")
    working(belay, agent, "proven")
    pgid = group_in(belay, pid)
    said = belay.run("cancel", "proven", "--wait")
    assert said.returncode == 0, said.stderr
    assert group_gone(pgid)
    told = said.stdout.splitlines()
    assert told[0].endswith("proven is to be cancelled")
    assert [line.split(":")[0] for line in told[1:4]] == ["requested", "delivered", "acknowledged"]
    assert "has stopped working on it" in told[4]
    for condition in PROOF:
        met = belay.stack.control_plane.kubectl("wait", f"--for=condition={condition}", "dlg/proven", "--timeout=0")
        assert "condition met" in met
    assert "cancel acknowledged" in "\n".join(lines(belay.run("why", "proven").stdout))
    agent.stop()


def test_D9_agent_that_is_away_is_told_when_it_returns(belay: Belay) -> None:
    """Its session is gone when the cancel comes: `belay why` says whose answer is owed; back again, it gives it."""
    command, flags, spec = "sleep 600", ("--session-id", "s1"), {"onAgentLost": "Wait"}
    agent = belay.agent("absent", command, *flags, spec=spec)
    belay.run("delegate", "absent", "x", "--name", "unheard")
    working(belay, agent, "unheard")
    agent.kill()
    belay.until(lambda: not belay.status("agent", "absent").get("routable"))
    said = belay.run("cancel", "unheard", "--wait", "--timeout", "2s")
    assert (said.returncode, "the cancel stands" in said.stderr) == (6, True), said
    assert "session s1 of agent absent is not attached: it is told when it returns" in said.stdout
    status = belay.status("delegation", "unheard")
    assert (status["phase"], *(holds(status, condition) for condition in PROOF)) == ("Cancelled", True, False, False)
    assert "cancel not acknowledged: session s1 is not attached" in lines(belay.run("why", "unheard").stdout)
    back = belay.agent("absent", command, *flags, spec=spec)
    again = belay.run("cancel", "unheard", "--wait")
    assert (again.returncode, "session s1 has stopped working on it" in again.stdout) == (0, True), again
    belay.until(lambda: all(holds(belay.status("delegation", "unheard"), condition) for condition in PROOF), back)
    back.stop()


def test_S12_stuck_work_is_retried_by_a_person(belay: Belay) -> None:
    """`belay retry` makes the next attempt of Stuck work; of what was cancelled, a new delegation that refers to it."""
    agent = belay.agent("silent", "sleep 600")
    belay.run("delegate", "silent", "x", "--name", "hushed")
    working(belay, agent, "hushed")
    kubectl = belay.stack.control_plane.kubectl
    refused = belay.run("retry", "hushed")
    assert (refused.returncode, "hushed is InProgress" in refused.stderr) == (1, True), refused
    ended = belay.run("cancel", "hushed", "--wait")
    assert ended.returncode == 0, ended
    made = belay.run("retry", "hushed")
    assert (made.returncode, made.stdout) == (0, "hushed-retry-1\n"), made
    working(belay, agent, "hushed-retry-1")
    assert belay.get("delegation", "hushed-retry-1")["spec"]["retryOf"] == "hushed"
    belay.run("cancel", "hushed-retry-1", "--wait")
    body = {
        "apiVersion": "belay.dev/v1alpha1",
        "kind": "Delegation",
        "metadata": {"name": "frozen"},
        "spec": {"agentRef": {"name": "silent"}, "task": {"prompt": "x"}, "stuckThresholdSeconds": 2},
    }
    kubectl("create", "-f", "-", input=json.dumps(body))
    working(belay, agent, "frozen")
    belay.until(lambda: belay.status("delegation", "frozen").get("lastHeartbeatTime"), agent)
    os.kill(agent.pid, signal.SIGSTOP)
    belay.until_phase("frozen", "Stuck")
    assert "belay retry frozen makes the next attempt" in belay.run("why", "frozen").stdout
    asked = belay.run("retry", "frozen")
    assert (asked.returncode, asked.stdout) == (0, "frozen\n"), asked
    belay.until(lambda: belay.status("delegation", "frozen").get("attempt") == 2)
    assert belay.status("delegation", "frozen")["observedRetryAttempt"] == 1
    agent.kill()


def test_D9_tree_and_cascade(belay: Belay) -> None:
    """`belay tree` shows the family; `--cascade=false` ends the parent alone, without it the parts go too."""
    kubectl = belay.stack.control_plane.kubectl
    for name, parent in (("tree-top", None), ("tree-mid", "tree-top"), ("tree-leaf", "tree-mid")):
        spec = {"agentRef": {"name": f"nobody-{name}"}, "task": {"prompt": "x"}}
        if parent:
            spec["parentRef"] = {"name": parent}
        body = {"apiVersion": "belay.dev/v1alpha1", "kind": "Delegation", "metadata": {"name": name}, "spec": spec}
        kubectl("create", "-f", "-", input=json.dumps(body))
        belay.until_phase(name, "Pending")
    told = [line.strip("└─ ").split("  ")[0] for line in belay.run("tree", "tree-mid").stdout.splitlines()]
    assert told == ["tree-top", "tree-mid", "tree-leaf"]
    spared = belay.run("cancel", "tree-top", "--cascade=false", "--wait")
    assert (spared.returncode, "nothing was working on it" in spared.stdout) == (0, True), spared
    assert belay.run("cancel", "tree-mid", "--wait").returncode == 0
    assert belay.until_phase("tree-leaf", "Cancelled")["reason"] == "ParentCancelled"
    assert "ended by the cancel of its parent" in "\n".join(lines(belay.run("why", "tree-leaf").stdout))
