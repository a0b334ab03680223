"""Finds the control plane's programs, or makes them once.

Order of choice: the folder in KUBEBUILDER_ASSETS, then our cache, then a build from the pinned Go modules, and only
where there is no Go at all a kubectl from PATH and the official releases. A program enters the cache by a rename,
finished; a file lock keeps two runs from making the same one.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from belay_dev import build, download, versions
from belay_dev.errors import BinariesError
from belay_dev.guard import Guard
from belay_dev.tools import AHEAD, CONTROL_PLANE, Say, Tool, tell

MAKING = ".making-"

Fetch = Callable[[Tool, Path], None]
"""Puts a finished program into a folder, under its own name."""


@dataclass(frozen=True)
class Binaries:
    """Where each program is."""

    paths: Mapping[Tool, Path]

    def __getitem__(self, tool: Tool) -> Path:
        return self.paths[tool]


def cache_folder(env: Mapping[str, str], tool: Tool = Tool.APISERVER) -> Path:
    """Where a program of exactly the pinned version is kept; one that isn't made ahead has a folder of its own."""
    cache_home = Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or Path.home()) / ".cache")
    base = Path(env.get("BELAY_CACHE_DIR") or cache_home / "belay")
    if tool not in AHEAD:
        return base.absolute() / tool / tool.version
    return base.absolute() / "controlplane" / f"{versions.KUBERNETES}-{versions.ETCD}-{versions.HELM}"


def ensure(
    tools: Sequence[Tool] = CONTROL_PLANE,
    *,
    env: Mapping[str, str] | None = None,
    say: Say = tell,
    fetch: Fetch = download.fetch,
) -> Binaries:
    """Find each of these programs, making what is missing; the first time that takes some minutes.

    Args:
        env: in place of the process' environment.
        say: gets each line of progress.
        fetch: gets an official release, where there is no Go.

    Raises:
        BinariesError: a program could neither be found nor made.
    """
    env = os.environ if env is None else env
    assets = _assets(env, say)
    found = {tool: path for tool in tools if (path := _found_in([*assets, cache_folder(env, tool)], tool))}
    missing = [tool for tool in tools if tool not in found]
    for folder in dict.fromkeys(cache_folder(env, tool) for tool in missing):
        found |= _make([tool for tool in missing if cache_folder(env, tool) == folder], folder, env, say, fetch)
    return Binaries(found)


def _assets(env: Mapping[str, str], say: Say) -> list[Path]:
    named = env.get("KUBEBUILDER_ASSETS")
    if not named:
        return []
    folder = Path(named).absolute()
    if not folder.is_dir():
        say(f"KUBEBUILDER_ASSETS names {folder}, which is no folder; going on without it")
    return [folder]


def _found_in(places: Sequence[Path], tool: Tool) -> Path | None:
    return next((place / tool for place in places if os.access(place / tool, os.X_OK)), None)


def _make(missing: Sequence[Tool], folder: Path, env: Mapping[str, str], say: Say, fetch: Fetch) -> dict[Tool, Path]:
    go = shutil.which("go", path=env.get("PATH", os.defpath))
    made: dict[Tool, Path] = {}
    with _locked(folder, say), Guard() as guard:
        for unfinished in folder.glob(f"{MAKING}*"):  # nobody else is making anything now
            shutil.rmtree(unfinished, ignore_errors=True)
        for tool in missing:
            if os.access(folder / tool, os.X_OK):  # another run made it while we waited
                made[tool] = folder / tool
            elif go:
                made[tool] = _put(tool, folder, guard, lambda t, into: build.build(t, into, go, env, guard, say))
            elif tool is Tool.KUBECTL and (kubectl := shutil.which("kubectl", path=env.get("PATH", os.defpath))):
                made[tool] = Path(kubectl).absolute()
            else:
                say(f"downloading {tool} v{tool.version}, as there is no Go to build it")
                made[tool] = _put(tool, folder, guard, fetch)
    return made


def _put(tool: Tool, folder: Path, guard: Guard, make: Fetch) -> Path:
    """Make the program in a folder of its own and move it in place when it is finished."""
    making = guard.folder(MAKING, inside=folder)
    make(tool, making)
    program = making / tool
    program.chmod(0o755)
    program.replace(folder / tool)
    shutil.rmtree(making)
    return folder / tool


@contextmanager
def _locked(folder: Path, say: Say) -> Iterator[None]:
    """Be the only run that makes programs in this folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise BinariesError(
            f"the cache {folder} cannot be written ({error}); set BELAY_CACHE_DIR to another"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that makes programs in {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Make what is missing of the programs named, else of all that is made ahead; print where each is."""
    try:
        made = ensure([Tool(name) for name in sys.argv[1:]] or AHEAD)
    except BinariesError as error:
        sys.exit(f"belay: {error}")
    for tool, path in made.paths.items():
        print(f"{tool}\t{path}")


if __name__ == "__main__":
    main()
