"""Programs are found or made once, and never taken for finished when they are not. Go is played by a script."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from belay_dev import binaries, build, download, guard_process
from belay_dev.errors import BinariesError
from belay_dev.tools import Tool

Eventually = Callable[[Callable[[], object]], None]
Env = dict[str, str]

# A stand-in for go: `build … -o FILE package` notes the call, then does what the test wants with FILE.
FAKE_GO = """#!/bin/sh
[ "$1" = env ] && { echo go1.0-fake; exit; }
echo "$*" >>"$CALLS"
out="$GOBIN/helm"
while [ $# -gt 1 ]; do [ "$1" = -o ] && out="$2"; shift; done
"""
WRITES = 'printf whole >"$out"'
WRITES_HALF_AND_FAILS = 'printf half >"$out"; echo the disk is full >&2; exit 3'
WRITES_HALF_AND_WAITS = 'printf half >"$out"; chmod +x "$out"; echo $$ >"$GATE"; sleep 600'
WAITS_FOR_THE_GATE = 'cat "$GATE"; printf whole >"$out"'

ENSURE = """
import sys
from belay_dev import binaries
from belay_dev.tools import Tool
print(binaries.ensure([Tool.ETCD])[Tool.ETCD], flush=True)
"""


@pytest.fixture
def env(tmp_path: Path) -> Env:
    """An environment with an empty cache, no Go, and the paths the stand-in writes to."""
    (tmp_path / "bin").mkdir()
    os.mkfifo(tmp_path / "gate")
    return {
        "PATH": str(tmp_path / "bin"),
        "BELAY_CACHE_DIR": str(tmp_path / "cache"),
        "CALLS": str(tmp_path / "calls"),
        "GATE": str(tmp_path / "gate"),
    }


def install(program: Path, script: str) -> Path:
    """Write an executable script."""
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(script)
    program.chmod(0o755)
    return program


def install_go(env: Env, behaviour: str) -> None:
    """Make the stand-in for Go the first on PATH; it needs the system's own tools beside it."""
    folder = Path(env["PATH"].split(":")[0])
    install(folder / "go", FAKE_GO + behaviour + "\n")
    env["PATH"] = f"{folder}:/usr/bin:/bin"


def calls(env: Env) -> list[str]:
    """How the stand-in was called to build something."""
    return Path(env["CALLS"]).read_text().splitlines() if Path(env["CALLS"]).exists() else []


def leftovers(env: Env, tool: Tool = Tool.ETCD) -> list[str]:
    """What is in the cache beside its lock."""
    return sorted(each.name for each in binaries.cache_folder(env, tool).iterdir() if each.name != ".lock")


def ensure(tool: Tool, env: Env, **options: Callable[[Tool, Path], None]) -> Path:
    """Find or make one program, quietly."""
    return binaries.ensure([tool], env=env, say=lambda _: None, **options)[tool]


def refuse(tool: Tool, into: Path) -> None:
    """In place of a download that no test here may start."""
    raise AssertionError(f"{tool} must not be downloaded")


@pytest.mark.parametrize("tool", list(Tool))
def test_built_once_then_cached(tool: Tool, env: Env) -> None:
    """A missing program is built into the cache and found there from then on."""
    install_go(env, WRITES)
    made = ensure(tool, env, fetch=refuse)
    assert made == binaries.cache_folder(env, tool) / tool
    assert made.read_text() == "whole"
    assert ensure(tool, env, fetch=refuse) == made
    assert len(calls(env)) == 1
    assert leftovers(env, tool) == [tool]


def test_assets_win(env: Env, tmp_path: Path) -> None:
    """What KUBEBUILDER_ASSETS has is taken from there; the rest is not given up."""
    install_go(env, WRITES)
    ensure(Tool.ETCD, env)
    ensure(Tool.KUBECTL, env)
    ours = install(tmp_path / "assets" / "etcd", "")
    env["KUBEBUILDER_ASSETS"] = str(tmp_path / "assets")
    assert ensure(Tool.ETCD, env) == ours
    assert ensure(Tool.KUBECTL, env) == binaries.cache_folder(env) / "kubectl"


def test_assets_that_are_not_there(env: Env, tmp_path: Path) -> None:
    """A wrong KUBEBUILDER_ASSETS is said, not passed over in silence."""
    install_go(env, WRITES)
    said: list[str] = []
    env["KUBEBUILDER_ASSETS"] = str(tmp_path / "nowhere")
    binaries.ensure([Tool.ETCD], env=env, say=said.append)
    assert "which is no folder" in said[0]


def test_failed_build_is_told_and_not_kept(env: Env) -> None:
    """A failing build is one clear error with what Go said, and the half-written file is not taken for a program."""
    install_go(env, WRITES_HALF_AND_FAILS)
    with pytest.raises(BinariesError, match=r"building etcd v3\.6\.8 failed with exit code 3:\nthe disk is full"):
        ensure(Tool.ETCD, env)
    assert leftovers(env) == []
    install_go(env, WRITES)
    assert ensure(Tool.ETCD, env).read_text() == "whole"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_interrupted_build_is_not_taken_for_finished(number: signal.Signals, env: Env, eventually: Eventually) -> None:
    """When we are ended in the middle, Go ends too, and the next run builds anew."""
    install_go(env, WRITES_HALF_AND_WAITS)
    with subprocess.Popen([sys.executable, "-c", ENSURE], env=env, stderr=subprocess.DEVNULL) as interrupted:
        go = int(Path(env["GATE"]).read_text())
        interrupted.send_signal(number)
    eventually(lambda: guard_process.started(go) is None)
    eventually(lambda: leftovers(env) == [])
    install_go(env, WRITES)
    assert ensure(Tool.ETCD, env).read_text() == "whole"


def test_parallel_runs_build_once(env: Env) -> None:
    """Two runs at the same time build once; the second says that it waits, then takes what the first made."""
    install_go(env, WAITS_FOR_THE_GATE)
    run = partial(subprocess.Popen, [sys.executable, "-c", ENSURE], env=env, text=True, stdout=-1, stderr=-1)
    with run() as first:
        assert first.stderr
        assert "building etcd" in first.stderr.readline()
        with run() as second:
            assert second.stderr
            assert "waiting for another run" in second.stderr.readline()
            Path(env["GATE"]).write_text("go on")
            assert second.communicate()[0] == first.communicate()[0]
            assert (first.returncode, second.returncode) == (0, 0)
    assert len(calls(env)) == 1


def test_unfinished_work_of_a_dead_machine_is_swept(env: Env) -> None:
    """What a run left that nothing could clean up after is removed by the next one."""
    install_go(env, WRITES)
    (binaries.cache_folder(env) / ".making-old").mkdir(parents=True)
    ensure(Tool.ETCD, env)
    assert leftovers(env) == ["etcd"]


def test_cache_that_cannot_be_written(env: Env, tmp_path: Path) -> None:
    """An unusable cache is one clear error that names the way out."""
    (tmp_path / "file").touch()
    env["BELAY_CACHE_DIR"] = str(tmp_path / "file")
    with pytest.raises(BinariesError, match=r"cannot be written .* set BELAY_CACHE_DIR to another"):
        ensure(Tool.ETCD, env)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param({"BELAY_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a", id="ours first"),
        pytest.param({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/belay", id="then XDG's"),
        pytest.param({"HOME": "/c"}, "/c/.cache/belay", id="then the home's"),
    ],
)
def test_cache_folder(env: Env, expected: str) -> None:
    """The cache is where the environment says, and apart for each set of versions."""
    assert binaries.cache_folder(env) == Path(expected) / "controlplane" / "1.36.3-3.6.8-4.3.1"
    assert binaries.cache_folder(env, Tool.NATS) == Path(expected) / "nats-server" / "2.15.2"


def test_kubectl_on_path_where_there_is_no_go(env: Env) -> None:
    """Without Go, a kubectl that is already there will do."""
    kubectl = install(Path(env["PATH"]) / "kubectl", "")
    assert ensure(Tool.KUBECTL, env, fetch=refuse) == kubectl


def test_modules_are_found() -> None:
    """The pinned modules are where the build expects them."""
    for folder, _ in build.OWN_MODULES.values():
        assert (build.modules() / folder / "go.mod").is_file()


class Mirror(ThreadingHTTPServer):
    """A web server on loopback that stands for all official sites; `files` holds what it serves by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), MirrorHandler)

    def open(self, url: str) -> IO[bytes]:
        """Open the same path here."""
        stream: IO[bytes] = urlopen(f"http://127.0.0.1:{self.server_port}{urlsplit(url).path}", timeout=10)
        return stream

    def publish(self, release: download.Release, content: bytes, checksum: str | None = None) -> None:
        """Serve a release, as an archive where it is one, with its own checksum unless told another."""
        packed = pack(release, content) if release.member else content
        digest = hashlib.sha256(packed).hexdigest() if checksum is None else checksum
        listed = f"{'0' * 64}  other.tar.gz\n{digest}  {release.filename}\n" if release.member else digest
        self.files[urlsplit(release.url).path] = packed
        self.files[urlsplit(release.checksum_url).path] = listed.encode()


class MirrorHandler(BaseHTTPRequestHandler):
    """Serves the mirror's files."""

    server: Mirror

    def do_GET(self) -> None:
        """Answer with the file, or 404."""
        content = self.server.files.get(self.path)
        self.send_response(200 if content is not None else 404)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (named by the base class)
        """Say nothing."""


def pack(release: download.Release, content: bytes) -> bytes:
    """An archive of the release's kind that holds the program."""
    packed = io.BytesIO()
    assert release.member
    if release.filename.endswith(".zip"):
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(release.member, content)
    else:
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            member = tarfile.TarInfo(release.member)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """A running mirror."""
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch_for(mirror: Mirror, system: str = "linux", machine: str = "x86_64") -> Callable[[Tool, Path], None]:
    """A download from the mirror, for this kind of machine."""
    return partial(download.fetch, opener=mirror.open, system=system, machine=machine)


@pytest.mark.parametrize(
    ("tool", "system", "machine"),
    [
        *[(tool, "linux", machine) for tool in Tool for machine in ("x86_64", "aarch64")],
        *[(tool, "darwin", "arm64") for tool in (Tool.ETCD, Tool.KUBECTL, Tool.HELM)],
    ],
)
def test_download_where_there_is_no_go(tool: Tool, system: str, machine: str, env: Env, mirror: Mirror) -> None:
    """Without Go the official release is fetched, checked, unpacked and made executable."""
    mirror.publish(download.release(tool, system, machine), b"released")
    made = ensure(tool, env, fetch=fetch_for(mirror, system, machine))
    assert made.read_bytes() == b"released"
    assert os.access(made, os.X_OK)
    assert leftovers(env, tool) == [tool]


@pytest.mark.parametrize("checksum", ["0" * 64, ""], ids=["another", "none"])
@pytest.mark.parametrize("tool", [Tool.ETCD, Tool.APISERVER])
def test_wrong_checksum(tool: Tool, checksum: str, env: Env, mirror: Mirror) -> None:
    """A download that is not what was published is refused and not kept."""
    mirror.publish(download.release(tool, "linux", "x86_64"), b"tampered with", checksum)
    with pytest.raises(BinariesError, match=r"has the SHA-256 .* is published for it"):
        ensure(tool, env, fetch=fetch_for(mirror))
    assert leftovers(env) == []


def test_failing_download(env: Env, mirror: Mirror) -> None:
    """Neither Go nor a download: one clear error that says what to install."""
    with pytest.raises(BinariesError, match=r"helm v4\.3\.1 could not be fetched from https://.*404.*Install Go"):
        ensure(Tool.HELM, env, fetch=fetch_for(mirror))


def test_archive_without_the_program(env: Env, mirror: Mirror) -> None:
    """An archive that lacks the program is an error, not an empty program."""
    wanted = download.release(Tool.ETCD, "linux", "x86_64")
    mirror.publish(download.Release(wanted.url, wanted.checksum_url, "etcd-other/README"), b"text")
    with pytest.raises(BinariesError, match="does not hold etcd-v3"):
        ensure(Tool.ETCD, env, fetch=fetch_for(mirror))


@pytest.mark.parametrize(
    ("tool", "system", "machine"),
    [(Tool.APISERVER, "darwin", "arm64"), (Tool.ETCD, "linux", "riscv64"), (Tool.HELM, "windows", "amd64")],
)
def test_unpublished_machine(tool: Tool, system: str, machine: str) -> None:
    """A machine for which nothing is published is told what to do instead."""
    with pytest.raises(BinariesError, match=f"{tool} is not published for {system} on {machine}. Install Go"):
        download.release(tool, system, machine)


def test_all_urls_are_https() -> None:
    """Nothing is ever fetched in the clear."""
    releases = [download.release(tool, "linux", "x86_64") for tool in Tool]
    assert all(url.startswith("https://") for each in releases for url in (each.url, each.checksum_url))
