"""The main job on the real thing: every process with its own account, agents as people run them."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2e.conftest import Belay, holds

OPERATOR = "system:serviceaccount:belay:belay-operator"
GATEWAY = "system:serviceaccount:belay:belay-gateway"
WRITES = {"create", "update", "patch", "delete"}


def group_gone(pgid: int) -> bool:
    """Whether no process of the group is left."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return True
    return False


def group_in(belay: Belay, file: Path) -> int:
    """The group of a command that writes `$$` to `file` as its first deed."""
    belay.until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def requests(belay: Belay) -> Iterator[dict[str, Any]]:
    """Every request the API server answered, from its audit log."""
    for path in sorted(belay.stack.control_plane.audit_log.parent.glob("audit*.log")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry["stage"] == "ResponseComplete" and "objectRef" in entry:
                yield entry


def test_free_slot_costs_four_writes(belay: Belay) -> None:
    """A delegation that finds a free slot is written four times: create, Dispatched, InProgress, Completed."""
    agent = belay.agent("writer", "tr a-z A-Z")
    done = belay.run("delegate", "writer", "hello", "--name", "four-writes", "--wait")
    assert (done.returncode, done.stdout.strip()) == (0, "HELLO"), done.stderr
    writes = [
        (e["verb"], e["objectRef"].get("subresource", ""), e["user"]["username"])
        for e in requests(belay)
        if e["objectRef"].get("resource") == "delegations"
        and e["objectRef"].get("name") == "four-writes"
        and e["verb"] in WRITES
        and e["responseStatus"]["code"] < 300
    ]
    assert [(verb, sub) for verb, sub, _ in writes] == [("create", "")] + [("patch", "status")] * 3
    assert [user for _, _, user in writes[1:]] == [OPERATOR, GATEWAY, GATEWAY]
    agent.stop()


def test_processes_use_their_own_accounts_and_nothing_is_refused(belay: Belay) -> None:
    """Operator and gateway act as their ServiceAccounts, and their roles allow all that they ask for."""
    agent = belay.agent("allowed", "cat")
    assert belay.run("delegate", "allowed", "x", "--wait").returncode == 0
    agent.stop()
    belay.until(lambda: not belay.status("agent", "allowed").get("routable"))
    mine = [e for e in requests(belay) if e["user"]["username"] in (OPERATOR, GATEWAY)]
    refused = {(e["user"]["username"], e["verb"], e["requestURI"]) for e in mine if e["responseStatus"]["code"] == 403}
    assert {e["user"]["username"] for e in mine} == {OPERATOR, GATEWAY}
    assert not refused


def test_sweep_reports_to_its_resource(belay: Belay) -> None:
    """`kubectl get delegationsweepers` shows the first sweep, which runs at the start."""
    kubectl = belay.stack.control_plane.kubectl

    def swept() -> object:
        found = json.loads(kubectl("get", "bsweep", "default", "-n", "belay", "-o", "json"))
        return (found.get("status") or {}).get("lastSweep", {}).get("startedTime")

    belay.until(swept)


def test_G1_killed_agent_is_cancelled_with_the_reason(belay: Belay) -> None:
    """An agent killed with -9 in the middle of its work: after the grace the work is Cancelled, and says why."""
    agent = belay.agent("doomed", "echo ::progress 10 begun; cat > /dev/null; sleep 600")
    belay.run("delegate", "doomed", "hold on", "--name", "held")
    belay.until(lambda: (belay.status("delegation", "held").get("progress") or {}).get("percent") == 10, agent)
    agent.kill()
    status = belay.until_phase("held", "Cancelled")
    assert status["reason"] == "AgentOffline"
    assert "doomed" in status["message"]
    assert holds(status, "Finished")
    belay.until(lambda: belay.status("agent", "doomed")["activeDelegations"] == 0)


def test_S11_beating_agent_fails_at_its_deadline_and_is_told(belay: Belay) -> None:
    """Work that beats for ever is Failed at its deadline, its process group is ended, and that is acknowledged."""
    marker, pid = belay.folder / "alive", belay.folder / "wedged.pid"
    agent = belay.agent(
        "wedged", f"echo $$ > {pid}; while :; do date >> {marker}; echo ::progress 1 on; sleep 0.2; done"
    )
    belay.run("delegate", "wedged", "for ever", "--name", "overdue", "--deadline", "3s")
    status = belay.until_phase("overdue", "Failed", agent)
    assert (status["reason"], status["message"]) == ("DeadlineExceeded", "deadline exceeded by sweeper")
    belay.until(lambda: holds(belay.status("delegation", "overdue"), "CancelAcknowledged"), agent)
    assert group_gone(group_in(belay, pid))
    size = marker.stat().st_size
    assert belay.run("delegate", "wedged", "again", "--name", "next", "--deadline", "1s", "--wait").returncode == 1
    belay.until(lambda: marker.stat().st_size > size, agent)
    agent.stop()


def test_failed_command_says_why(belay: Belay) -> None:
    """A nonzero exit is Failed, with the exit code and the end of what the command said on standard error."""
    agent = belay.agent("clumsy", "echo 'no such chapter' >&2; exit 7")
    done = belay.run("delegate", "clumsy", "x", "--name", "failing", "--wait")
    status = belay.status("delegation", "failing")
    assert done.returncode == 1
    assert (status["phase"], status["reason"]) == ("Failed", "AgentFailed")
    assert "no such chapter" in status["message"]
    assert "7" in status["message"]
    agent.stop()


def test_cancel_ends_the_process_and_is_acknowledged(belay: Belay) -> None:
    """`belay cancel` frees the slot at once, and the proof follows when the process group is really gone."""
    pid = belay.folder / "patient.pid"
    agent = belay.agent("patient", f"echo $$ > {pid}; echo ::progress 5 waiting; sleep 600 & wait")
    belay.run("delegate", "patient", "x", "--name", "unwanted")
    belay.until_phase("unwanted", "InProgress", agent)
    pgid = group_in(belay, pid)
    assert not group_gone(pgid)
    assert belay.run("cancel", "unwanted").returncode == 0
    status = belay.until_phase("unwanted", "Cancelled", agent)
    belay.until(lambda: holds(belay.status("delegation", "unwanted"), "CancelAcknowledged"), agent)
    assert group_gone(pgid)
    assert holds(status, "CancelRequested")
    agent.stop()


def test_delegation_waits_for_agent_that_comes_later(belay: Belay) -> None:
    """References come in any order: work for a missing agent is Pending, and runs once the agent is there."""
    belay.run("delegate", "latecomer", "hello", "--name", "early")
    assert belay.until_phase("early", "Pending")["reason"] == "AgentNotFound"
    agent = belay.agent("latecomer", "cat")
    assert belay.until_phase("early", "Completed", agent)["result"] == {"text": "hello"}
    agent.stop()


def test_G2_gateway_restart_keeps_work(belay: Belay) -> None:
    """A gateway stopped with SIGTERM tells its sockets to reconnect; work goes on when they do."""
    done = belay.folder / "finish"
    agent = belay.agent("survivor", f"echo ::progress 1 on; until test -e {done}; do sleep 0.1; done; echo kept")
    belay.run("delegate", "survivor", "x", "--name", "kept")
    belay.until_phase("kept", "InProgress", agent)
    belay.stack.restart_gateway()
    belay.until(lambda: belay.status("agent", "survivor").get("routable"), agent)
    done.touch()
    status = belay.until_phase("kept", "Completed", agent)
    assert (status["result"], status["attempt"]) == ({"text": "kept"}, 1)
    agent.stop()


def test_killed_gateway_keeps_work_and_result(belay: Belay) -> None:
    """A gateway killed with -9 while a command runs: the agent resumes at the next one, and the result counts."""
    done = belay.folder / "finish-killed"
    agent = belay.agent("outliver", f"echo ::progress 1 on; until test -e {done}; do sleep 0.1; done; echo kept")
    belay.run("delegate", "outliver", "x", "--name", "outlived")
    belay.until(lambda: (belay.status("delegation", "outlived").get("progress") or {}).get("percent") == 1, agent)
    os.kill(belay.stack.pid("belay-gateway"), signal.SIGKILL)
    belay.stack.restart_gateway()
    belay.until(lambda: agent.log.read_text().count("attached ") == 2, agent)
    done.touch()
    status = belay.until_phase("outlived", "Completed", agent)
    assert (status["result"], status["attempt"]) == ({"text": "kept"}, 1)
    agent.stop()
