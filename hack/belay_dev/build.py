"""Builds one program with Go from its pinned module; the build ends with us, however we end."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from belay_dev import versions
from belay_dev.clock import Stopwatch
from belay_dev.errors import BinariesError
from belay_dev.guard import Guard
from belay_dev.tools import Say, Tool

TICK_SECONDS = 15.0
GO_VERSION_SECONDS = 60.0
LONGEST = {Tool.APISERVER: "about 5 min once, then cached"}
OTHERS = "about 1 min once, then cached"
STRIPPED = "-s -w"
KUBERNETES_FLAGS = " ".join([
    STRIPPED,
    f"-X k8s.io/component-base/version.gitVersion=v{versions.KUBERNETES}",
    f"-X k8s.io/component-base/version.gitMajor={versions.KUBERNETES.split('.')[0]}",
    f"-X k8s.io/component-base/version.gitMinor={versions.KUBERNETES.split('.')[1]}",
    f"-X k8s.io/client-go/pkg/version.gitVersion=v{versions.KUBERNETES}",
])  # fmt: skip
OWN_MODULES = {
    Tool.ETCD: ("etcd", "go.etcd.io/etcd/server/v3"),
    Tool.NATS: ("nats", "github.com/nats-io/nats-server/v2"),
    Tool.HELM_UNITTEST: ("helm-unittest", "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"),
    Tool.KUBECONFORM: ("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
}
"""Folder of the Go module and package of the program, where it isn't Kubernetes' own."""
HELM_FLAGS = f"{STRIPPED} -X helm.sh/helm/v4/internal/version.version=v{versions.HELM}"


def modules() -> Path:
    """The folder of the Go modules: inside the installed package, or beside it in a checkout.

    Raises:
        BinariesError: it is in neither.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "controlplane_modules", package.parent / "controlplane"):
        if (folder / "kubernetes" / "go.mod").is_file():
            return folder
    raise BinariesError(f"the Go modules of the control plane are neither in {package} nor beside it")


def command(tool: Tool, into: Path, go: str) -> list[str]:
    """The command that builds this program into a folder, under the program's own name."""
    if tool is Tool.HELM:
        return [go, "install", "-trimpath", "-ldflags", HELM_FLAGS, f"helm.sh/helm/v4/cmd/helm@v{versions.HELM}"]
    package, flags = f"k8s.io/kubernetes/cmd/{tool}", KUBERNETES_FLAGS
    if tool in OWN_MODULES:
        package, flags = OWN_MODULES[tool][1], STRIPPED
    return [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(into / tool), package]


def build(tool: Tool, into: Path, go: str, env: Mapping[str, str], guard: Guard, say: Say) -> None:
    """Build one program into a folder, saying every now and then that it goes on.

    Raises:
        BinariesError: the build failed; holds the last lines it printed.
    """
    folder = modules() / OWN_MODULES.get(tool, ("kubernetes", ""))[0]
    env = _environment(env, into)
    what = f"{tool} v{tool.version}"
    say(f"building {what} with {_go_version(go, folder, env)} ({LONGEST.get(tool, OTHERS)}) …")
    watch = Stopwatch()
    process = guard.spawn(command(tool, into, go), log=into / "build.log", env=env, cwd=folder)
    try:
        while not process.wait(TICK_SECONDS):
            say(f"still building {what}, {watch.seconds:.0f} s so far …")
    finally:
        process.stop()
    if process.exit_code != 0 or not (into / tool).is_file():
        raise BinariesError(f"building {what} failed with exit code {process.exit_code}:\n{process.tail(20)}")
    say(f"built {what} in {watch.seconds:.0f} s")


def _environment(env: Mapping[str, str], into: Path) -> dict[str, str]:
    """For this machine whatever else is being cross-compiled, and independent of a Go workspace around us."""
    kept = {name: value for name, value in env.items() if name not in ("GOOS", "GOARCH")}
    return kept | {"CGO_ENABLED": "0", "GOWORK": "off", "GOBIN": str(into)}


def _go_version(go: str, folder: Path, env: Mapping[str, str]) -> str:
    try:
        asked = subprocess.run(
            [go, "env", "GOVERSION"],
            cwd=folder, env=env, capture_output=True, text=True, timeout=GO_VERSION_SECONDS, check=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BinariesError(f"{os.fspath(go)} does not run: {error}") from error
    except subprocess.CalledProcessError as error:
        raise BinariesError(f"{os.fspath(go)} does not work here:\n{error.stderr.strip()}") from error
    return asked.stdout.strip() or "go"
