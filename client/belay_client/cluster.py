"""The cluster of a command: connected as kubectl would, its namespace, and errors that say what to do."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from belay_client.errors import ClientError
from belay_client.naming import namespace_name
from belay_kube.client import Kube, connect
from belay_kube.errors import Forbidden, KubeError, NotFound, Permanent, Unauthorized

INSTALL = "install Belay: kubectl apply -k manifests/"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NO_SUCH_TYPE = ("could not find the requested resource", "404 page not found")


@dataclass(frozen=True)
class Where:
    """Which cluster and namespace a command is for; what is None is found as kubectl finds it."""

    namespace: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None

    def resolved_namespace(self) -> str:
        """The namespace: the one given, the context's, the pod's, else `default`. Raises UsageError."""
        return namespace_name(self.namespace or self._context_namespace() or _pod_namespace() or "default")

    def _context_namespace(self) -> str | None:
        for path in _kubeconfigs(self.kubeconfig):
            document = _yaml(path)
            chosen = self.context or document.get("current-context")
            for context in document.get("contexts") or []:
                if isinstance(context, dict) and chosen and context.get("name") == chosen:
                    return (context.get("context") or {}).get("namespace")
        return None


@asynccontextmanager
async def cluster(where: Where) -> AsyncIterator[Kube]:
    """A connection for one command. Raises ClientError with one sentence for every KubeError."""
    try:
        kube = await _connect(where)
        try:
            yield kube
        finally:
            await kube.close()
    except KubeError as error:
        raise ClientError(explain(error)) from error


def explain(error: KubeError) -> str:
    """What was wrong and what to do, in one sentence."""
    if is_not_installed(error):
        return f"this cluster does not know Belay's resources: {INSTALL}"
    if isinstance(error, Unauthorized):
        return f"the API server does not accept your credentials ({error.message}): check your kubeconfig"
    if isinstance(error, Forbidden):
        return f"not allowed: {error.message}"
    return error.message


def is_not_installed(error: KubeError) -> bool:
    """Whether it is the resource type that isn't there, not the object."""
    return isinstance(error, NotFound) and any(text in error.message for text in _NO_SUCH_TYPE)


async def _connect(where: Where) -> Kube:
    files = _kubeconfigs(where.kubeconfig)
    if files and not any(file.is_file() for file in files):
        raise Permanent(f"there is no kubeconfig at {files[0]}: set KUBECONFIG, or pass --kubeconfig")
    try:
        return await connect(where.kubeconfig, where.context)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Permanent(
            f"the kubeconfig can't be understood ({error!r}): check it with `kubectl config view`"
        ) from error


def _kubeconfigs(named: Path | None) -> list[Path]:
    if named is not None:
        return [named]
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    return listed or ([] if in_pod else [Path.home() / ".kube" / "config"])


def _yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return {}  # whoever connects says what is wrong with it
    return document if isinstance(document, dict) else {}


def _pod_namespace() -> str | None:
    if "KUBERNETES_SERVICE_HOST" not in os.environ or not _POD_NAMESPACE.exists():
        return None
    return _POD_NAMESPACE.read_text().strip()
