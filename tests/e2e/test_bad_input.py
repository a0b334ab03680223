"""What goes wrong before anything runs: one line that says what and what to do, exit code not 0, nothing left."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from belay_dev import kubeconfig
from belay_dev.controlplane import ControlPlane
from belay_dev.stack import clean_environment
from e2e.conftest import Belay

PROCESSES = {
    "operator": ["belay_operator.main", "--health-port", "0"],
    "gateway": ["belay_gateway.main", "--port", "0"],
}


@pytest.fixture(scope="module")
def bare() -> Iterator[ControlPlane]:
    """A control plane without Belay."""
    with ControlPlane(audit=False) as started:
        yield started


def start(process: str, config: Path) -> "subprocess.CompletedProcess[str]":
    """Run operator or gateway to its end."""
    module, *flags = PROCESSES[process]
    entry = f"import sys; from {module} import main; sys.exit(main())"
    command = [sys.executable, "-c", entry, "--kubeconfig", str(config), *flags]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    """What it says last; asserts that it failed, and without a traceback."""
    assert done.returncode not in (0, None), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("process", PROCESSES)
class TestProcess:
    """Operator and gateway at their start."""

    def test_unreachable_api_server(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """The address is named."""
        token = kubeconfig.write_private(tmp_path / "token", "x")
        config = kubeconfig.with_token_file(tmp_path / "config", "https://127.0.0.1:9", bare.ca_file, token, "default")
        assert "https://127.0.0.1:9" in last_line(start(process, config))

    def test_refused_credentials(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """The token is named as the thing at fault."""
        token = kubeconfig.write_private(tmp_path / "token", "nonsense")
        config = kubeconfig.with_token_file(tmp_path / "config", bare.url, bare.ca_file, token, "default")
        assert "token" in last_line(start(process, config))

    def test_definitions_not_installed(self, process: str, bare: ControlPlane) -> None:
        """What to apply is said."""
        assert "kubectl apply -k manifests/" in last_line(start(process, bare.kubeconfig))

    def test_missing_permission(self, process: str, belay: Belay, tmp_path: Path) -> None:
        """The permission is named."""
        config = belay.stack.control_plane.service_account_kubeconfig("default", "default", tmp_path / "config")
        line = last_line(start(process, config))
        assert "agents" in line
        assert "forbidden" in line.lower()

    def test_no_such_kubeconfig(self, process: str, tmp_path: Path) -> None:
        """The file is named."""
        assert "nowhere" in last_line(start(process, tmp_path / "nowhere"))


def test_agent_that_does_not_exist(belay: Belay) -> None:
    """`belay agent run` for an agent that isn't there says so."""
    done = belay.run("agent", "run", "nobody-here", "--exec", "cat")
    assert "nobody-here" in last_line(done)


def test_missing_token(belay: Belay) -> None:
    """Without a token nothing is tried."""
    done = belay.run("agent", "run", "writer", "--exec", "cat", BELAY_TOKEN_FILE="", BELAY_TOKEN="")
    assert "token" in last_line(done).lower()


def test_refused_token(belay: Belay, tmp_path: Path) -> None:
    """A token nobody issued is refused as such."""
    (tmp_path / "token").write_text("nonsense")
    belay.create_agent("guarded")
    done = belay.run("agent", "run", "guarded", "--exec", "cat", BELAY_TOKEN_FILE=str(tmp_path / "token"))
    assert "does not accept the token" in last_line(done)


def test_command_not_found(belay: Belay) -> None:
    """A command that isn't there is refused before anything attaches."""
    done = belay.run("agent", "run", "writer", "--exec", "no-such-command --flag")
    assert "no-such-command" in last_line(done)


def test_gateway_that_is_not_there(belay: Belay) -> None:
    """A gateway that can't be reached is named."""
    done = belay.run("agent", "run", "writer", "--exec", "cat", BELAY_GATEWAY="http://127.0.0.1:9")
    assert "127.0.0.1:9" in last_line(done)


def test_delegate_without_definitions(belay: Belay, bare: ControlPlane) -> None:
    """`belay delegate` on a cluster without Belay says what to install."""
    done = belay.run("delegate", "writer", "x", KUBECONFIG=str(bare.kubeconfig))
    assert "kubectl apply -k manifests/" in last_line(done)


def test_delegate_without_api_server(belay: Belay, tmp_path: Path) -> None:
    """`belay delegate` without an API server names the address."""
    ca = belay.stack.control_plane.ca_file
    token = kubeconfig.write_private(tmp_path / "token", "x")
    config = kubeconfig.with_token_file(tmp_path / "config", "https://127.0.0.1:9", ca, token, "default")
    assert "https://127.0.0.1:9" in last_line(belay.run("delegate", "writer", "x", KUBECONFIG=str(config)))


def test_oversize_prompt(belay: Belay, tmp_path: Path) -> None:
    """A prompt over 64 KiB is refused with what to do instead, and nothing is made."""
    done = belay.run("delegate", "writer", "é" * 40_000, "--name", "oversize")
    assert "URI" in last_line(done)
    assert belay.get("delegation", "oversize") == {}
