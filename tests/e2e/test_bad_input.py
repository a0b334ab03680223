"""What goes wrong before anything runs: one line that says what and what to do, exit code not 0, nothing left."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from belay_api import schema
from belay_dev import certs, kubeconfig
from belay_dev.controlplane import ControlPlane
from belay_dev.stack import clean_environment
from chart import definitions
from e2e.conftest import Belay
from rights.record import Record

TOKEN = "nonsense-that-nobody-issued"
PROCESSES = {
    "operator": ["belay_operator.main", "--health-port", "0"],
    "gateway": ["belay_gateway.main", "--port", "0"],
}


@pytest.fixture(scope="module")
def bare(record: Record) -> Iterator[ControlPlane]:
    """A control plane without Belay."""
    with ControlPlane() as started, record.kept(started):
        yield started


@pytest.fixture
def older(bare: ControlPlane) -> Iterator[ControlPlane]:
    """The same with the definitions of a version that had no conversations."""
    kept = [text for name, text in schema.files().items() if "session" not in name and "message" not in name]
    bare.kubectl("apply", "-f", "-", input="\n---\n".join(kept))
    bare.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    yield bare
    definitions.remove(bare)


def reaching(
    plane: ControlPlane,
    folder: Path,
    *,
    url: str | None = None,
    authority: Path | None = None,
    token: str | None = TOKEN,
    name: str | None = None,
) -> Path:
    """A kubeconfig that leads to `plane` but for what is given."""
    server = {"server": url or plane.url, "certificate-authority": str(authority or plane.ca_file)}
    cluster = {**server, **({"tls-server-name": name} if name else {})}
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token} if token else {}}],
    }
    return kubeconfig.write_private(folder / "config", json.dumps(document))


def start(process: str, config: Path | None, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run operator or gateway to its end."""
    module, *flags = PROCESSES[process]
    entry = f"import sys; from {module} import main; sys.exit(main())"
    command = [sys.executable, "-c", entry, *(["--kubeconfig", str(config)] if config else []), *flags]
    surrounding = {**clean_environment(), **environment}
    return subprocess.run(command, env=surrounding, capture_output=True, text=True, timeout=60, check=False)


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    """What it says last; asserts that it failed, and without a traceback."""
    assert done.returncode not in (0, None), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("process", PROCESSES)
class TestProcess:
    """Operator and gateway at their start."""

    def test_nobody_listens(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """The address is named, and that the connection is refused."""
        line = last_line(start(process, reaching(bare, tmp_path, url="https://127.0.0.1:9")))
        assert "https://127.0.0.1:9 can't be reached: connection refused: see that it runs" in line

    def test_in_json_it_is_said_in_json(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """Every line is an object: the settings first, which may be at fault, then what is."""
        done = start(process, reaching(bare, tmp_path, url="https://127.0.0.1:9"), BELAY_LOG_FORMAT="json")
        said = json.loads(last_line(done))
        assert (said["level"], said["process"]) == ("error", f"belay-{process}")
        assert "https://127.0.0.1:9 can't be reached: connection refused" in said["event"]
        assert json.loads(done.stderr.splitlines()[0])["event"] == "settings"

    def test_name_that_is_not_resolved(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """The name is."""
        line = last_line(start(process, reaching(bare, tmp_path, url="https://nowhere.invalid:6443")))
        assert "the name nowhere.invalid is not resolved" in line
        assert "`server` in the kubeconfig" in line

    def test_address_that_is_none(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """It is no riddle."""
        line = last_line(start(process, reaching(bare, tmp_path, url="not an address")))
        assert "not an address can't be reached: that is no http or https address" in line

    def test_plain_http(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """What the server says of it is told."""
        line = last_line(start(process, reaching(bare, tmp_path, url=bare.url.replace("https:", "http:"))))
        assert "HTTP request to an HTTPS server" in line

    def test_certificate_of_another_authority(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """The certificate is at fault, and where its authority is told."""
        other = certs.ensure(tmp_path / "pki").ca
        line = last_line(start(process, reaching(bare, tmp_path, authority=other)))
        assert f"{bare.url} can't be reached: its certificate is not trusted" in line
        assert "`certificate-authority` in the kubeconfig must be the authority of this API server" in line

    def test_certificate_for_another_name(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """Both names are told."""
        config = reaching(bare, tmp_path, name="elsewhere.example")
        assert "Hostname mismatch, certificate is not valid for 'elsewhere.example'" in last_line(
            start(process, config)
        )

    def test_authority_that_is_none(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """A file that holds no certificate is told, and which kubeconfig names it."""
        (tmp_path / "nonsense").write_text("nonsense")
        line = last_line(start(process, reaching(bare, tmp_path, authority=tmp_path / "nonsense")))
        assert f"{tmp_path / 'config'} has no usable certificate: certificate-authority" in line

    def test_refused_token(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """The token is at fault, at which server, and it isn't shown."""
        line = last_line(start(process, reaching(bare, tmp_path)))
        assert f"the API server at {bare.url} doesn't accept the token (Unauthorized): it has expired" in line
        assert TOKEN not in line

    def test_no_credentials(self, process: str, bare: ControlPlane, tmp_path: Path) -> None:
        """Whoever shows none is told."""
        line = last_line(start(process, reaching(bare, tmp_path, token=None)))
        assert "doesn't accept the client certificate, if there is one" in line

    def test_pod_without_its_account(self, process: str, tmp_path: Path) -> None:
        """In a pod no kubeconfig is to blame."""
        done = start(
            process, None, KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT="1", HOME=str(tmp_path)
        )
        assert "in the pod (Service token file does not exist.): mount its ServiceAccount" in last_line(done)

    def test_definitions_not_installed(self, process: str, bare: ControlPlane) -> None:
        """What is missing where, and what to apply."""
        line = last_line(start(process, bare.kubeconfig))
        assert f"the resources of belay.dev aren't installed at {bare.url}: kubectl apply -k manifests/" in line

    def test_definitions_of_an_older_version(self, process: str, older: ControlPlane) -> None:
        """Those that are missing are named, and no others."""
        line = last_line(start(process, older.kubeconfig))
        assert ": agentsessions" in line
        assert "sessionturns of belay.dev aren't installed" in line
        assert "agents," not in line

    def test_missing_permission(self, process: str, belay: Belay, tmp_path: Path) -> None:
        """Verbs and resources, whose account, and which roles hold them."""
        config = belay.stack.control_plane.service_account_kubeconfig("default", "default", tmp_path / "config")
        line = last_line(start(process, config))
        assert "missing permission: " in line
        assert "watch agents (belay.dev), " in line
        assert "patch delegations/status (belay.dev)" in line
        assert f"to system:serviceaccount:default:default: the chart's roles belay-{process} hold them" in line

    def test_missing_permission_in_a_namespace(self, process: str, belay: Belay, tmp_path: Path) -> None:
        """Where it works in some namespaces only, each is named with what is missing there."""
        config = belay.stack.control_plane.service_account_kubeconfig("default", "default", tmp_path / "config")
        line = last_line(start(process, config, BELAY_WATCH_NAMESPACES="team-a", BELAY_NAMESPACE="default"))
        assert "watch agents (belay.dev) in default, " in line
        assert "watch agents (belay.dev) in team-a, " in line

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
