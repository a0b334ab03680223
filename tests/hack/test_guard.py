"""Nothing outlives its parent. All processes here are real."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from belay_dev import guard_process
from belay_dev.errors import GuardError
from belay_dev.guard import Guard

Eventually = Callable[[Callable[[], object]], None]

PARENT = """
import json, sys
from pathlib import Path
from belay_dev.guard import Guard

log = Path(sys.argv[1])
guard = Guard()
child = guard.spawn(["/bin/sh", "-c", sys.argv[2]], log=log)
folder = guard.folder("belay-test-")
(folder / "inside").mkdir()
print(json.dumps({"child": child.pid, "guard": guard.pid, "folder": str(folder)}), flush=True)
sys.stdin.read()
"""

# Prints once its trap is set, and once for the process it starts in turn.
STUBBORN = "trap '' TERM; sleep 600 & echo grandchild $!; while :; do wait; done"
OBEDIENT = "sleep 600 & echo grandchild $!; wait"


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard that is closed at the end of the test."""
    with Guard() as open_guard:
        yield open_guard


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the test's own, that no guard started."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def gone(pid: int) -> bool:
    """Whether there is no living process of this pid."""
    return guard_process.started(pid) is None


def run_guard(*registrations: dict[str, object]) -> None:
    """Run the guard process as if its parent had registered this and died."""
    lines = "".join(json.dumps(each) + "\n" for each in registrations).encode()
    subprocess.run([sys.executable, guard_process.__file__], input=lines, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("number", "child"),
    [
        pytest.param(signal.SIGKILL, OBEDIENT, id="SIGKILL"),
        pytest.param(signal.SIGTERM, OBEDIENT, id="SIGTERM"),
        pytest.param(signal.SIGINT, OBEDIENT, id="Ctrl-C"),
        pytest.param(signal.SIGHUP, OBEDIENT, id="closed terminal"),
        pytest.param(signal.SIGKILL, STUBBORN, id="SIGKILL, its child ignores SIGTERM"),
    ],
)
def test_ended_parent_leaves_nothing(
    number: signal.Signals, child: str, tmp_path: Path, eventually: Eventually
) -> None:
    """However the parent ends, its child, that one's child, the guard and the folder are gone."""
    log = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(log), child],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as parent:  # fmt: skip
        assert parent.stdout
        told = json.loads(parent.stdout.readline())
        eventually(lambda: "grandchild" in log.read_text())
        grandchild = int(log.read_text().split()[1])
        assert not gone(told["child"])
        assert not gone(grandchild)
        parent.send_signal(number)
    eventually(lambda: gone(told["guard"]))
    assert gone(told["child"])
    assert gone(grandchild)
    assert not Path(told["folder"]).exists()


def test_recycled_pid_is_spared(sleeper: "subprocess.Popen[bytes]") -> None:
    """A process that has the pid of a registered one, but began at another time, is left alone."""
    run_guard({"pid": sleeper.pid, "started": "1"})
    assert sleeper.poll() is None


def test_registered_pid_is_ended(sleeper: "subprocess.Popen[bytes]") -> None:
    """The same process is ended when its start time is the registered one."""
    run_guard({"pid": sleeper.pid, "started": guard_process.started(sleeper.pid)})
    assert sleeper.wait(10) == -signal.SIGTERM


def test_pid_that_is_already_gone(sleeper: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    """What ended on its own before does not keep the rest from being cleaned up."""
    sleeper.kill()
    sleeper.wait()
    folder = tmp_path / "folder"
    folder.mkdir()
    run_guard({"pid": sleeper.pid}, {"remove": str(folder)}, {"remove": str(tmp_path / "never made")})
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_guard_stays_until_its_parent_is_gone(number: signal.Signals, guard: Guard) -> None:
    """A signal to the guard, as to everything at a shutdown, does not end it before its work is done."""
    folder = guard.folder("belay-test-")
    os.kill(guard.pid, number)
    guard.close()
    assert not folder.exists()


def test_guard_holds_nothing_of_its_parent(guard: Guard, tmp_path: Path) -> None:
    """The guard does not keep a pipe of its parent's open, so who reads that pipe sees its end."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    with Guard():
        os.close(write)
        assert os.read(read, 1) == b""
    os.close(read)


def test_close_ends_processes_and_removes_folders(guard: Guard, tmp_path: Path) -> None:
    """Closing does at once what the parent's end would do, and twice is fine."""
    child = guard.spawn(["sleep", "600"], log=tmp_path / "log")
    folder = guard.folder("belay-test-", inside=tmp_path)
    assert child.alive
    assert folder.is_dir()
    guard.close()
    guard.close()
    assert child.exit_code == -signal.SIGTERM
    assert not folder.exists()


def test_child_leads_its_own_group(guard: Guard, tmp_path: Path) -> None:
    """The terminal's Ctrl-C, sent to the parent's group, does not reach the child."""
    child = guard.spawn(["sleep", "600"], log=tmp_path / "log")
    assert os.getpgid(child.pid) == child.pid


def test_output_input_and_exit_code(guard: Guard, tmp_path: Path) -> None:
    """What a child prints is in its log, its input is empty, its exit code is told."""
    script = "cat; echo $GREETING; echo second 1>&2; exit 7"
    child = guard.spawn(["/bin/sh", "-c", script], log=tmp_path / "log", env={"GREETING": "hello"}, cwd=tmp_path)
    assert child.wait(10)
    assert child.exit_code == 7
    assert child.tail() == "hello\nsecond"
    assert child.tail(1) == "second"


def test_stop_forces_after_the_grace(guard: Guard, tmp_path: Path, eventually: Eventually) -> None:
    """A child that ignores the request to end is killed."""
    child = guard.spawn(["/bin/sh", "-c", STUBBORN], log=tmp_path / "log")
    eventually(lambda: child.printed("grandchild"))
    child.stop(grace=0.1)
    assert child.exit_code == -signal.SIGKILL


def test_missing_program(guard: Guard, tmp_path: Path) -> None:
    """A program that does not exist is an error here, not a child that ends at once."""
    with pytest.raises(FileNotFoundError, match="no such program: belay-nonesuch"):
        guard.spawn(["belay-nonesuch"], log=tmp_path / "log")


def test_without_its_guard_nothing_starts(guard: Guard, tmp_path: Path, eventually: Eventually) -> None:
    """If the guard itself was killed, a child that it could not clean up is not started; the parent still can close."""
    folder = guard.folder("belay-test-")
    os.kill(guard.pid, signal.SIGKILL)
    eventually(lambda: gone(guard.pid))
    child = guard.spawn(["/bin/sh", "-c", "echo ran"], log=tmp_path / "log")
    assert child.wait(10)
    assert not child.printed("ran")
    with pytest.raises(GuardError, match="the guard process is gone"):
        guard.folder("belay-test-")
    guard.close()
    assert not folder.exists()
