"""Commands as real processes: what goes in, what comes out, and that nothing of them is left."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from belay_api.delegation import Progress
from belay_api.messages import Dispatch
from belay_client import UsageError
from belay_client.command import check_command, first_word
from belay_client.executor import Ended, Execution, environment
from belay_kube.clock import SystemClock
from client.facts import alive, pids, until


async def start(command: str, prompt: str = "", **known: Any) -> Execution:
    return await Execution.start(command, prompt, dict(os.environ) | known, SystemClock())


async def run(command: str, prompt: str = "", **known: Any) -> Ended:
    return await (await start(command, prompt, **known)).wait()


async def test_prompt_in_result_out() -> None:
    """Standard input to standard output."""
    assert await run("tr a-z A-Z", "hello\n") == Ended(0, "HELLO", False, "")


async def test_prompt_that_nobody_reads() -> None:
    """A large prompt to a command that doesn't care is no failure."""
    assert (await run("echo done", "x" * 65536)).text == "done"


async def test_progress_is_told_and_not_part_of_the_result() -> None:
    """Lines `::progress` leave the result as they come."""
    told: list[Progress] = []
    execution = await Execution.start(
        "echo '::progress 40 half'; echo result", "", os.environ, SystemClock(), told.append
    )
    assert (await execution.wait()).text == "result"
    assert told == [Progress(percent=40, message="half")]


@pytest.mark.parametrize(
    ("command", "failure"),
    [
        ("exit 0", None),
        ("echo why >&2; exit 3", "the command exited with code 3: why"),
        ("exit 3", "the command exited with code 3"),
        ("kill -KILL $$", "the command was ended by SIGKILL"),
        ("head -c 65537 /dev/zero | tr '\\0' x", "the command printed more than 64 KiB: write the result elsewhere"),
        ("head -c 40000 /dev/zero | tr '\\0' '\\377'", "the command printed more than 64 KiB"),
        ("head -c 65536 /dev/zero | tr '\\0' x; echo", None),
        ("head -c 30000000 /dev/zero", "the command printed more than 64 KiB"),
    ],
)
async def test_what_counts_as_failure(command: str, failure: str | None) -> None:
    """A code, a signal, or more than a result may hold, as text that it becomes."""
    said = (await run(command)).failure()
    assert said == failure if failure is None else (said or "").startswith(failure)


async def test_only_the_end_of_standard_error_is_kept() -> None:
    """Bad bytes in it are replaced."""
    ended = await run("seq 10000 >&2; printf '\\377' >&2; exit 1")
    assert len(ended.errors) == 2000
    assert ended.errors.endswith("10000\n�")


async def test_processes_left_in_the_background_are_ended(tmp_path: Path) -> None:
    """The result is there, and so is nobody who held the pipes open."""
    ended = await run(f"sleep 1000 & echo $! > {tmp_path}/pids; echo result")
    assert ended.text == "result"
    assert not alive((await pids(tmp_path / "pids", 1))[0])


async def test_end_reaches_grandchildren(tmp_path: Path) -> None:
    """TERM goes to the whole group, and `end` returns when all of it is gone."""
    execution = await start(
        f"sh -c 'sleep 1000 & echo $$ $! >> {tmp_path}/pids; wait' & echo $$ >> {tmp_path}/pids; wait"
    )
    started = await pids(tmp_path / "pids", 3)
    await execution.end()
    assert not any(alive(pid) for pid in started)


async def test_end_kills_what_ignores_term(tmp_path: Path) -> None:
    """A grandchild that ignores TERM is killed after the grace, and only then is it gone."""
    script = tmp_path / "stubborn"
    script.write_text(f"trap '' TERM; echo $$ >> {tmp_path}/pids; while :; do sleep 1; done")
    execution = await start(f"sh {script} & wait")
    (pid,) = await pids(tmp_path / "pids", 1)
    ending = asyncio.create_task(execution.end(kill_after=0.3))
    await until(lambda: execution._group._leader_ended)
    assert alive(pid)
    assert not ending.done()
    await ending
    assert not alive(pid)


async def test_stopped_processes_are_ended_too(tmp_path: Path) -> None:
    """A process that was suspended sees its TERM."""
    execution = await start(f"echo $$ > {tmp_path}/pids; exec sleep 1000")
    (pid,) = await pids(tmp_path / "pids", 1)
    os.kill(pid, signal.SIGSTOP)
    await execution.end()
    assert not alive(pid)


async def test_group_ends_when_the_runner_is_killed(tmp_path: Path) -> None:
    """SIGKILL gives the runner no chance to clean up: the guard does it."""
    script = f"""
import asyncio, os
from belay_client.executor import Execution
from belay_kube.clock import SystemClock
async def main():
    execution = await Execution.start("sleep 1000 & echo $$ $! > {tmp_path}/pids; wait", "", os.environ, SystemClock())
    await execution.wait()
asyncio.run(main())
"""
    runner = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    started = await pids(tmp_path / "pids", 2)
    runner.kill()
    await runner.wait()
    await until(lambda: not any(alive(pid) for pid in started))


def test_environment_tells_of_the_delegation() -> None:
    """Names are made fit for a shell; the runner's own token stays with it."""
    dispatch = Dispatch(
        name="d",
        namespace="ns",
        agent="ns/a",
        attempt=2,
        prompt="p",
        stuck_threshold_seconds=600,
        inputs={"repo-url": "x", "größe": "1"},
        deadline="2026-01-02T03:04:05.5Z",
    )
    assert environment(dispatch, {"HOME": "/h", "BELAY_TOKEN": "secret"}) == {
        "HOME": "/h",
        "BELAY_DELEGATION": "d",
        "BELAY_NAMESPACE": "ns",
        "BELAY_AGENT": "a",
        "BELAY_ATTEMPT": "2",
        "BELAY_DEADLINE": "2026-01-02T03:04:05Z",
        "BELAY_INPUT_REPO_URL": "x",
        "BELAY_INPUT_GR_SSE": "1",
    }


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("cat -", "cat"),
        ("A=1 B='x y' cat", "cat"),
        ("cat|tr a b", "cat"),
        ("'my tool' x", "my tool"),
        ("(cd /; ls)", None),
        ("$TOOL x", None),
        ("f() { cat; }; f", None),
        ("2>/dev/null cat", None),
        ("A=1", None),
        ("if true; then cat; fi", "if"),
    ],
)
def test_first_word(command: str, word: str | None) -> None:
    """The program's name, where it can be known without running the shell."""
    assert first_word(command) == word


@pytest.mark.parametrize(
    "command", ["cat", "if true; then cat; fi", "exec cat", ". /dev/null", "! false", "f() { cat; }; f", "{ cat; }"]
)
def test_commands_that_can_be_run(command: str) -> None:
    """Programs, builtins and keywords."""
    check_command(command)


@pytest.mark.parametrize(
    "command", ["", "  ", "no-such-tool-xyz --flag", "./nowhere", "cat 'unclosed", "if true", "cat |", "a\0b"]
)
def test_commands_that_cannot(command: str) -> None:
    """One line that says what is wrong with --exec."""
    with pytest.raises(UsageError, match="--exec") as caught:
        check_command(command)
    assert "\n" not in str(caught.value)
