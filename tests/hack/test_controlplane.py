"""The control plane is the real thing, is safe, and leaves nothing behind. No fakes here."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from socket import create_server
from typing import Any
from urllib.parse import urlsplit

import pytest

from belay_dev import certs, guard_process
from belay_dev.controlplane import ControlPlane
from belay_dev.errors import ControlPlaneError
from belay_dev.layout import Ports

Eventually = Callable[[Callable[[], object]], None]

RUN_UNTIL_KILLED = """
import json, sys
from belay_dev.controlplane import ControlPlane

with ControlPlane() as started:
    print(json.dumps({"pids": started.pids, "folder": str(started.data_dir)}), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test, with the service account `agent`, which may do nothing."""
    name = request.node.originalname.replace("_", "-")[:60]
    control_plane.kubectl("create", "namespace", name)
    control_plane.kubectl("create", "serviceaccount", "agent", "--namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def get(url: str, ca: Path, token: str = "") -> int:
    """The status of a GET of this URL, the server's certificate verified as strictly as Python 3.13 does."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    parts = urlsplit(url)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with closing(HTTPSConnection(parts.netloc, context=context, timeout=10)) as connection:
        connection.request("GET", parts.path, headers=headers)
        return connection.getresponse().status


def review(control_plane: ControlPlane, token: str, audiences: list[str]) -> dict[str, Any]:
    """What a TokenReview says of a token."""
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences},
    }
    answer = control_plane.kubectl("create", "--filename=-", "--output=json", input=json.dumps(asked))
    status: dict[str, Any] = json.loads(answer)["status"]
    return status


def gone(pid: int) -> bool:
    """Whether there is no living process of this pid."""
    return guard_process.started(pid) is None


def test_rbac_is_on(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """A service account without a role is forbidden, and allowed once it has one."""
    kubeconfig = control_plane.service_account_kubeconfig(namespace, "agent", tmp_path / "agent.kubeconfig")
    as_agent = ["get", "configmaps", f"--kubeconfig={kubeconfig}"]
    with pytest.raises(ControlPlaneError, match=r"Forbidden.*serviceaccount:.*:agent.* cannot list"):
        control_plane.kubectl(*as_agent)
    subject = f"--serviceaccount={namespace}:agent"
    control_plane.kubectl("create", "rolebinding", "view", "--clusterrole=view", subject, "--namespace", namespace)
    assert "kube-root-ca.crt" in control_plane.kubectl(*as_agent)


def test_token_is_in_a_private_file_that_can_be_renewed(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """The kubeconfig names the token's file; writing it again puts another token there."""
    path = control_plane.service_account_kubeconfig(namespace, "agent", tmp_path / "agent.kubeconfig")
    user = json.loads(path.read_text())["users"][0]["user"]
    token_file = Path(user["tokenFile"])
    before = token_file.read_text()
    assert (token_file.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o600, 0o600)
    assert before not in path.read_text()
    control_plane.service_account_kubeconfig(namespace, "agent", path, expiration_seconds=7200)
    assert token_file.read_text() != before


async def test_kubeconfig_fits_the_python_client(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """The asynchronous client logs in with either kind of kubeconfig."""
    from kubernetes.aio import client, config

    agents = control_plane.service_account_kubeconfig(namespace, "agent", tmp_path / "agent.kubeconfig")
    for kubeconfig, user in [(agents, f"system:serviceaccount:{namespace}:agent"),
                             (control_plane.kubeconfig, "belay-admin")]:  # fmt: skip
        configuration = client.Configuration()
        await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        async with client.ApiClient(configuration) as api:
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            answer = await client.AuthenticationV1Api(api).create_self_subject_review(body)
            assert answer.status.user_info.username == user


def test_tokens_are_for_their_audience(control_plane: ControlPlane, namespace: str) -> None:
    """A token for one audience is good for that one only; without one it is for the API server."""
    token = control_plane.service_account_token(namespace, "agent", audiences=["belay"])
    accepted = review(control_plane, token, ["belay"])
    assert accepted["authenticated"]
    assert accepted["user"]["username"] == f"system:serviceaccount:{namespace}:agent"
    assert not review(control_plane, token, ["another"]).get("authenticated")
    assert get(f"{control_plane.url}/api", control_plane.ca_file, token) == 401
    own = control_plane.service_account_token(namespace, "agent")
    assert get(f"{control_plane.url}/api", control_plane.ca_file, own) == 200


def test_token_of_nobody_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    """There is no token for a service account that does not exist."""
    with pytest.raises(ControlPlaneError, match=r'serviceaccounts "nobody" not found'):
        control_plane.service_account_token(namespace, "nobody")


def test_nobody_is_anonymous(control_plane: ControlPlane) -> None:
    """Without a credential there is an answer about health, and about nothing else."""
    statuses = {path: get(control_plane.url + path, control_plane.ca_file) for path in ("/readyz", "/api", "/version")}
    assert statuses == {"/readyz": 200, "/api": 401, "/version": 401}


def test_certificate_is_verified(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A client that trusts another CA refuses the server."""
    other = certs.ensure(tmp_path / "pki")
    with pytest.raises(ssl.SSLCertVerificationError):
        get(f"{control_plane.url}/readyz", other.ca)


@pytest.mark.parametrize("name", ["etcd", "kube-apiserver", "kube-controller-manager"])
def test_logs_and_pids(control_plane: ControlPlane, name: str) -> None:
    """Each process runs in a group of its own and has a log that others cannot reach."""
    pid = control_plane.pids[name]
    assert os.getpgid(pid) == pid
    assert (control_plane.data_dir / "logs" / f"{name}.log").is_file()
    assert control_plane.data_dir.stat().st_mode & 0o777 == 0o700
    assert all(key.stat().st_mode & 0o777 == 0o600 for key in (control_plane.data_dir / "pki").glob("*.key"))


def test_etcd_wants_a_certificate(control_plane: ControlPlane) -> None:
    """Whoever has no certificate of ours gets nothing from etcd, though it is on loopback."""
    listens = next(each for each in arguments(control_plane.pids["etcd"]) if "--listen-client-urls" in each)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        get(f"{listens.partition('=')[2]}/version", control_plane.ca_file)


def arguments(pid: int) -> list[str]:
    """The command line of a process, as ps shows it."""
    return subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], check=True, capture_output=True, text=True
    ).stdout.split()


def test_namespaces_can_be_deleted_fully(control_plane: ControlPlane, namespace: str) -> None:
    """The controllers work: a namespace goes with all it held."""
    control_plane.kubectl("create", "configmap", "held", "--namespace", namespace)
    control_plane.kubectl("delete", "namespace", namespace, "--wait", "--timeout=60s")
    with pytest.raises(ControlPlaneError, match="NotFound"):
        control_plane.kubectl("get", "namespace", namespace)


def test_dependents_are_collected(control_plane: ControlPlane, namespace: str) -> None:
    """The garbage collector works: what is owned goes with its owner."""
    control_plane.kubectl("create", "configmap", "owner", "--namespace", namespace)
    uid = control_plane.kubectl(
        "get", "configmap", "owner", "--namespace", namespace, "--output=jsonpath={.metadata.uid}"
    )
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    metadata = {"name": "owned", "namespace": namespace, "ownerReferences": [owner]}
    control_plane.kubectl(
        "create", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    )
    control_plane.kubectl("delete", "configmap", "owner", "--namespace", namespace)
    control_plane.kubectl("wait", "--for=delete", "configmap/owned", "--namespace", namespace, "--timeout=60s")


def test_audit_log_has_the_requests(control_plane: ControlPlane, namespace: str, eventually: Eventually) -> None:
    """Each request is in the log with who, what and the answer, reads as well, but not with its content."""
    control_plane.kubectl("create", "configmap", "audited", "--namespace", namespace, "--from-literal=key=do-not-log")
    control_plane.kubectl("get", "configmap", "audited", "--namespace", namespace)

    def seen() -> bool:
        entries = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines() if namespace in line]
        verbs = {
            entry["verb"]: (entry["user"]["username"], entry["responseStatus"]["code"], entry["level"])
            for entry in entries
            if entry["objectRef"].get("resource") == "configmaps" and entry["user"]["username"] == "belay-admin"
        }
        return verbs == {"create": ("belay-admin", 201, "Metadata"), "get": ("belay-admin", 200, "Metadata")}

    eventually(seen)
    assert "do-not-log" not in control_plane.audit_log.read_text()


def test_kubectl_tells_why_it_failed(control_plane: ControlPlane) -> None:
    """A failing command is an error that holds what kubectl said; one without end is ended."""
    with pytest.raises(ControlPlaneError, match=r"kubectl get nonesuch failed: .*doesn't have a resource type"):
        control_plane.kubectl("get", "nonesuch")
    with pytest.raises(ControlPlaneError, match="did not end within 1 s"):
        control_plane.kubectl("get", "namespaces", "--watch", timeout=1)


def test_kept_folder(tmp_path: Path, eventually: Eventually) -> None:
    """The API server goes down and comes back; a kept folder has all its state and certificates at the next start."""
    kept = tmp_path / "state"
    with ControlPlane(kept, audit=False) as first:
        url, ca = first.url, first.ca_file.read_bytes()
        first.kubectl("create", "namespace", "before")
        token = first.service_account_token("default", "default")
        for kill in (False, True):
            first.stop_apiserver(kill=kill)
            assert "kube-apiserver" not in first.pids
            with pytest.raises(ConnectionRefusedError):
                get(f"{url}/readyz", first.ca_file)
            first.start_apiserver()
            with pytest.raises(ControlPlaneError, match="already started"):
                first.start_apiserver()
            assert first.url == url
            assert get(f"{url}/readyz", first.ca_file) == 200
        os.kill(first.pids["kube-apiserver"], signal.SIGKILL)
        eventually(lambda: gone(first.pids["kube-apiserver"]))
        first.start_apiserver()
        first.restart_apiserver()
        first.kubectl("create", "namespace", "after")
        first.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace=after", "--timeout=60s")
        with pytest.raises(ControlPlaneError, match="another control plane uses"):
            ControlPlane(kept).start()
        assert not first.audit_log.exists()
    with ControlPlane(kept) as second:
        assert second.data_dir == kept
        assert second.ca_file.read_bytes() == ca
        assert {"namespace/before", "namespace/after"} <= set(second.kubectl("get", "ns", "--output=name").split())
        assert get(f"{second.url}/api", second.ca_file, token) == 200
    assert (kept / "etcd").is_dir()


def test_stop_leaves_nothing_and_may_start_again() -> None:
    """After a stop no process and no folder is left, even when all began with a port that was already taken."""
    free = Ports.free()
    with create_server(("127.0.0.1", 0)) as holder:
        taken = Ports(holder.getsockname()[1], free.controller_manager, free.etcd, free.etcd_peer)
        choices = [taken, Ports.free()]
        plane = ControlPlane(choose_ports=lambda: choices.pop(0)).start()
    pids, folder = plane.pids, plane.data_dir
    assert choices == []
    assert len(pids) == 3
    with pytest.raises(ControlPlaneError, match="already started"):
        plane.start()
    plane.stop()
    plane.stop()
    assert all(map(gone, pids.values()))
    assert not folder.exists()
    with pytest.raises(ControlPlaneError, match="is not started"):
        plane.kubectl("get", "namespaces")


def test_ports_that_stay_taken(tmp_path: Path) -> None:
    """After some tries the error names the process, its exit code and its last words; nothing is left running."""
    with create_server(("127.0.0.1", 0)) as holder:
        free = Ports.free()
        taken = Ports(free.apiserver, free.controller_manager, holder.getsockname()[1], free.etcd_peer)
        with pytest.raises(ControlPlaneError, match=r"(?s)etcd ended with exit code 1 .*address already in use"):
            ControlPlane(tmp_path / "state", choose_ports=lambda: taken).start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_ended_parent_leaves_no_control_plane(number: signal.Signals, eventually: Eventually) -> None:
    """However the process that runs it ends, no etcd, no API server and no folder is left."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN_UNTIL_KILLED],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as parent:  # fmt: skip
        assert parent.stdout
        told = json.loads(parent.stdout.readline())
        assert not any(map(gone, told["pids"].values()))
        parent.send_signal(number)
    eventually(lambda: all(map(gone, told["pids"].values())) and not Path(told["folder"]).exists())
