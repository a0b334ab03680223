"""Fetches official releases where there is no Go to build with; nothing is kept that its checksum does not match."""

import hashlib
import http.client
import platform
import shutil
import tarfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from belay_dev import versions
from belay_dev.errors import BinariesError
from belay_dev.tools import Tool

TIMEOUT_SECONDS = 60.0
INSTEAD = "Install Go (https://go.dev/dl), or point KUBEBUILDER_ASSETS to a folder that has the programs."
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

Opener = Callable[[str], IO[bytes]]


@dataclass(frozen=True)
class Release:
    """One published file, the file with its checksum, and, for an archive, where the program is inside."""

    url: str
    checksum_url: str
    member: str | None = None

    @property
    def filename(self) -> str:
        return self.url.rpartition("/")[2]


def open_url(url: str) -> IO[bytes]:
    """Open a URL for reading; times out after a minute of silence."""
    stream: IO[bytes] = urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)  # noqa: S310  (each is https, below)
    return stream


def release(tool: Tool, system: str, machine: str) -> Release:
    """Where this program is published for a system ("linux", "darwin") and machine (as `uname -m` says it).

    Raises:
        BinariesError: it is not published for that machine.
    """
    arch = ARCHITECTURES.get(machine.lower())
    servers = tool in (Tool.APISERVER, Tool.CONTROLLER_MANAGER)
    if arch is None or system not in ("linux", "darwin") or (servers and system != "linux"):
        raise BinariesError(f"{tool} is not published for {system} on {machine}. {INSTEAD}")
    if tool is Tool.ETCD:
        base = f"https://github.com/etcd-io/etcd/releases/download/v{versions.ETCD}"
        stem = f"etcd-v{versions.ETCD}-{system}-{arch}"
        suffix = "tar.gz" if system == "linux" else "zip"
        return Release(f"{base}/{stem}.{suffix}", f"{base}/SHA256SUMS", f"{stem}/etcd")
    if tool is Tool.NATS:
        base = f"https://github.com/nats-io/nats-server/releases/download/v{versions.NATS}"
        stem = f"nats-server-v{versions.NATS}-{system}-{arch}"
        return Release(f"{base}/{stem}.tar.gz", f"{base}/SHA256SUMS", f"{stem}/nats-server")
    if tool is Tool.HELM_UNITTEST:
        base = f"https://github.com/helm-unittest/helm-unittest/releases/download/v{versions.HELM_UNITTEST}"
        named = f"{base}/helm-unittest-{system}-{arch}-{versions.HELM_UNITTEST}.tgz"
        return Release(named, f"{base}/helm-unittest-checksum.sha", "untt")
    if tool is Tool.KUBECONFORM:
        base = f"https://github.com/yannh/kubeconform/releases/download/v{versions.KUBECONFORM}"
        return Release(f"{base}/kubeconform-{system}-{arch}.tar.gz", f"{base}/CHECKSUMS", "kubeconform")
    if tool is Tool.HELM:
        url = f"https://get.helm.sh/helm-v{versions.HELM}-{system}-{arch}.tar.gz"
        return Release(url, f"{url}.sha256sum", f"{system}-{arch}/helm")
    url = f"https://dl.k8s.io/v{versions.KUBERNETES}/bin/{system}/{arch}/{tool}"
    return Release(url, f"{url}.sha256")


def fetch(
    tool: Tool, into: Path, *, opener: Opener = open_url, system: str | None = None, machine: str | None = None
) -> None:
    """Put the program into a folder under its own name, its checksum verified.

    Raises:
        BinariesError: it is not published for this machine, cannot be fetched, or its checksum does not match.
    """
    wanted = release(tool, (system or platform.system()).lower(), machine or platform.machine())
    fetched = into / f"{wanted.filename}.download"
    try:
        expected = _expected(wanted, opener)
        with opener(wanted.url) as source, fetched.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise BinariesError(
            f"{tool} v{tool.version} could not be fetched from {wanted.url}: {error}. {INSTEAD}"
        ) from error
    with fetched.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != expected:
        raise BinariesError(f"{wanted.url} has the SHA-256 {got}, but {expected or 'none'} is published for it.")
    _unpack(fetched, wanted.member, into / tool)


def _expected(wanted: Release, opener: Opener) -> str:
    """The published checksum: the file holds it alone, or beside the name of each of many files."""
    with opener(wanted.checksum_url) as source:
        lines = source.read(1 << 20).decode(errors="replace").splitlines()
    for words in map(str.split, lines):
        if len(words) == 1 or (len(words) == 2 and words[1].lstrip("*") == wanted.filename):
            return words[0].lower()
    return ""


def _unpack(fetched: Path, member: str | None, target: Path) -> None:
    """Take the one program out of the archive; nothing else in it is written anywhere."""
    if member is None:
        fetched.replace(target)
        return
    try:
        with target.open("wb") as out:
            if zipfile.is_zipfile(fetched):
                with zipfile.ZipFile(fetched) as archive, archive.open(member) as inside:
                    shutil.copyfileobj(inside, out)
            else:
                with tarfile.open(fetched) as tar:
                    found = tar.extractfile(member)
                    if found is None:
                        raise KeyError(member)
                    with found:
                        shutil.copyfileobj(found, out)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise BinariesError(f"{fetched.name} does not hold {member}: {error}") from error
