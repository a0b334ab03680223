"""Fault 4: an agent's process is frozen (SIGSTOP), for less and for more than the staleness of 45 s.

The agent is `belay agent run` as a process of its own; the gateway is in this process, on a clock that the test moves.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from belay_dev.guard import Guard
from belay_dev.process import Process
from belay_dev.stack import clean_environment
from belay_kube.client import Kube
from belay_kube.clock import FakeClock, SystemClock
from faults.invariants import NOTHING, Excused, History, broken, recorded
from gateway.stage import Running, Stage, running
from waiting import eventually


@pytest.fixture
async def still_gateway(gateway_kube: Kube) -> AsyncIterator[Running]:
    """A gateway whose time passes only when the test moves it."""
    async with running(gateway_kube, FakeClock()) as started:
        yield started


@pytest.fixture
async def history(stage: Stage) -> AsyncIterator[History]:
    """What becomes of the work."""
    async with recorded(stage.admin, stage.namespace) as recording:
        yield recording


class Frozen:
    """A `belay agent run` that works on `d` until the file `finish` is there; it may be frozen and thawed."""

    def __init__(self, stage: Stage, process: Process, folder: Path) -> None:
        self._stage = stage
        self._process = process
        self.finish = folder / "finish"

    @classmethod
    async def started(cls, stage: Stage, gateway: Running, guard: Guard, folder: Path) -> "Frozen":
        """Attached as session `s` of agent `a`, and at work."""
        token = folder / "token"
        token.write_text(await stage.person("alice"))
        await stage.agent("a", "alice")
        await stage.offered("d", "a")
        command = [sys.executable, "-m", "belay_client.cli", "agent", "run", "a", "--namespace", stage.namespace]
        command += ["--session-id", "s", "--exec", f"until test -e {folder}/finish; do sleep 0.05; done; echo late"]
        where = {"BELAY_GATEWAY": gateway.url, "BELAY_TOKEN_FILE": str(token)}
        environment = {**clean_environment(), **where, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = guard.spawn(command, log=folder / "agent.log", name="agent", env=environment)
        await stage.becomes("d", lambda status: status.get("phase") == "InProgress")
        return cls(stage, process, folder)

    def freeze(self) -> None:
        """From now on it neither hears nor says anything."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if nothing had been."""
        os.kill(self._process.pid, signal.SIGCONT)

    async def attached(self, times: int) -> None:
        """Wait until it attached so many times."""
        try:
            await eventually(lambda: self._process.log.read_text().count("attached ") >= times)
        except AssertionError:
            raise AssertionError(self._process.tail()) from None


async def _token(stage: Stage) -> str:
    row = await stage.row_is("a", "s", "Live")
    return str(row["token"])


async def _broken(stage: Stage, history: History, excused: Excused = NOTHING) -> list[str]:
    return await broken(stage.admin, stage.namespace, history, stage.plane.audit_log, SystemClock(), excused)


async def test_P9_fault_4_frozen_for_38_s_it_is_alive(
    stage: Stage, still_gateway: Running, guard: Guard, history: History, tmp_path: Path
) -> None:
    """Nothing is lost: the same lease, the same attempt, and the result counts."""
    agent = await Frozen.started(stage, still_gateway, guard, tmp_path)
    before = await _token(stage)
    agent.freeze()
    await still_gateway.pass_time(38)
    assert await _token(stage) == before
    agent.thaw()
    agent.finish.touch()
    done = await stage.becomes("d", lambda status: status.get("phase") == "Completed")
    assert (done["result"], done["attempt"], await _token(stage)) == ({"text": "late"}, 1, before)
    assert await _broken(stage, history) == []


async def test_P9_fault_4_frozen_for_46_s_it_is_dropped_and_its_late_frames_are_refused(
    stage: Stage, still_gateway: Running, guard: Guard, history: History, tmp_path: Path
) -> None:
    """Its work was cancelled when it thaws: what it has to say about it changes nothing, and it may attach again."""
    agent = await Frozen.started(stage, still_gateway, guard, tmp_path)
    before = await _token(stage)
    agent.freeze()
    await still_gateway.pass_time(46)
    await stage.row_is("a", "s", "Disconnected", "Silent")
    ended = await stage.cancel("d")
    agent.finish.touch()
    agent.thaw()
    await agent.attached(2)
    assert await _token(stage) != before
    told = await stage.becomes("d", lambda status: stage.condition(status, "CancelAcknowledged") == "True")
    assert {key: told.get(key) for key in ("phase", "reason", "result")} == {
        "phase": "Cancelled",
        "reason": ended["status"]["reason"],
        "result": None,
    }
    assert [line for line in await _broken(stage, history, Excused({"d"})) if "I2" in line] == []
