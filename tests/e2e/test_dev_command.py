"""`belay dev` and `belay demo` as people start and end them: nothing is left behind, whatever ends them."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from belay_dev import binaries
from belay_dev.clock import Deadline, pause
from belay_dev.layout import Layout
from belay_dev.stack import clean_environment
from belay_dev.tools import Tool
from e2e.conftest import BELAY
from rights.record import Record

SECONDS = 60.0


StartDev = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_dev() -> Iterator[StartDev]:
    """Starts `belay dev --json` with more flags, as often as it is called."""
    started: list[subprocess.Popen[str]] = []

    def start(*flags: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*BELAY, "dev", "--json", "--grace", "5", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def dev(start_dev: StartDev) -> "subprocess.Popen[str]":
    """A started `belay dev --json`."""
    return start_dev()


def kubectl(kubeconfig: object, *args: str, body: str | None = None) -> str:
    """What kubectl prints, as a person with the printed kubeconfig runs it."""
    command = [str(binaries.ensure([Tool.KUBECTL])[Tool.KUBECTL]), "--kubeconfig", str(kubeconfig), *args]
    return subprocess.run(command, input=body, capture_output=True, text=True, timeout=SECONDS, check=True).stdout


def ready_line(process: "subprocess.Popen[str]") -> dict[str, object]:
    """The one line it prints when ready."""
    assert process.stdout
    line: dict[str, object] = json.loads(process.stdout.readline())
    return line


def alive(pid: int) -> bool:
    """Whether a process with this pid runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until_gone(pids: list[int]) -> None:
    """Wait until none of them runs."""
    deadline = Deadline(SECONDS)
    while any(alive(pid) for pid in pids):
        assert not deadline.passed, [pid for pid in pids if alive(pid)]
        pause(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_dev_says_when_ready_and_leaves_nothing(dev: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """One line of JSON when ready; after Ctrl-C, SIGTERM or SIGKILL no process and no state is left."""
    line = ready_line(dev)
    pids, kubeconfig = line["pids"], line["kubeconfig"]
    assert isinstance(pids, dict)
    assert isinstance(kubeconfig, str)
    assert {"etcd", "kube-apiserver", "kube-controller-manager", "belay-operator", "belay-gateway"} <= pids.keys()
    assert all(alive(pid) for pid in pids.values())
    assert str(line["gateway"]).startswith("http://127.0.0.1:")
    dev.send_signal(number)
    code = dev.wait(SECONDS)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    until_gone(list(pids.values()))
    deadline = Deadline(SECONDS)
    while os.path.exists(kubeconfig):
        assert not deadline.passed, kubeconfig
        pause(0.05)


def test_dev_keeps_its_state_in_a_data_dir(start_dev: StartDev, tmp_path: Path, record: Record) -> None:
    """Stopped with SIGTERM and started again with the same --data-dir: what was created is still there."""
    agent = {"apiVersion": "belay.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "kept"}, "spec": {}}
    folder = str(tmp_path / "state")
    first = start_dev("--data-dir", folder)
    kubectl(ready_line(first)["kubeconfig"], "apply", "-f", "-", body=json.dumps(agent))
    first.send_signal(signal.SIGTERM)
    assert first.wait(SECONDS) == 0
    second = start_dev("--data-dir", folder)
    assert kubectl(ready_line(second)["kubeconfig"], "get", "agents", "-o", "name") == "agent.belay.dev/kept\n"
    second.send_signal(signal.SIGTERM)
    assert second.wait(SECONDS) == 0
    record.read(Layout(Path(folder)).audit_log)


def test_dev_on_a_port_in_use_is_one_line() -> None:
    """A port in use: one line that says which and what to do, exit code 1, nothing left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*BELAY, "dev", "--json", "--port", str(port)],
            env=clean_environment(), capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_shows_the_main_job() -> None:
    """`belay demo` ends with exit 0, after work completed, orphaned and overdue was shown."""
    done = subprocess.run(
        [*BELAY, "demo"], env=clean_environment(), capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for fact in ("index-files is Completed", "climb is Cancelled", "dream is Failed", "has really stopped"):
        assert fact in done.stdout
