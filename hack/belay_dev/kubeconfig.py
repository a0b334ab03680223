"""Writes kubeconfig files (as JSON, which is YAML), readable by their owner only and replaced in one step."""

import base64
import json
import os
from pathlib import Path

from belay_dev.certs import Pair


def with_certificate(path: Path, url: str, ca: Path, pair: Pair) -> Path:
    """A kubeconfig that holds a client certificate and its key."""
    user = {"client-certificate-data": _data(pair.cert), "client-key-data": _data(pair.key)}
    return _write_config(path, url, ca, user)


def with_token_file(path: Path, url: str, ca: Path, token_file: Path, namespace: str) -> Path:
    """A kubeconfig that names the file of a token, so that the token can be replaced while in use."""
    return _write_config(path, url, ca, {"tokenFile": str(token_file.absolute())}, namespace)


def write_private(path: Path, content: str) -> Path:
    """Write a file that only its owner may read, replacing it in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.touch(mode=0o600)
    beside.write_text(content)
    return beside.replace(path)


def _write_config(path: Path, url: str, ca: Path, user: dict[str, str], namespace: str = "default") -> Path:
    name = "belay-dev"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": _data(ca)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
    }
    return write_private(path, json.dumps(config, indent=2))


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
