"""Nothing outlives its parent: not after Ctrl-C, a failing test, SIGTERM, nor SIGKILL.

Each child is registered with a small guard process before it becomes the program it is to run, so there is no
moment at which it could be left behind. See guard_process for what the guard does when the parent is gone.
"""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from belay_dev import guard_process
from belay_dev.errors import GuardError
from belay_dev.process import Process

CLOSE_SECONDS = 2 * (guard_process.TERM_GRACE_SECONDS + guard_process.KILL_GRACE_SECONDS)

# The child's standard input is, at first, the guard's pipe: it registers itself there and only then becomes the
# program. Held by the child too, the pipe cannot end between the fork and that line, even if the parent is killed.
REGISTER_THEN_EXEC = """printf '{"pid": %d}\\n' "$$" >&0 && exec "$@" </dev/null"""


class Guard:
    """Starts processes and owns folders that end with this process at the latest.

    Raises:
        GuardError: the guard process did not start.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: list[Process] = []
        self._folders: list[Path] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard_process.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            start_new_session=True, cwd="/",
        )  # fmt: skip
        self._pipe = cast(IO[bytes], self._guard.stdin)
        with cast(IO[bytes], self._guard.stdout) as answer:
            if answer.readline() != b"ready\n":
                raise GuardError(f"the guard process did not start: exit code {self._guard.wait()}")

    @property
    def pid(self) -> int:
        """The pid of the guard process."""
        return self._guard.pid

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program in its own process group; what it prints is appended to `log`, its input is empty.

        Raises:
            FileNotFoundError: there is no such program.
        """
        program = shutil.which(argv[0])
        if program is None:
            raise FileNotFoundError(f"no such program: {argv[0]}")
        with log.open("ab") as out:
            popen = subprocess.Popen(
                ["/bin/sh", "-c", REGISTER_THEN_EXEC, "sh", program, *argv[1:]],
                stdin=self._pipe, stdout=out, stderr=out, env=env, cwd=cwd, start_new_session=True,
            )  # fmt: skip
        process = Process(name or Path(program).name, popen, log)
        self._processes.append(process)
        return process

    def remove_at_end(self, path: Path) -> None:
        """Have this folder removed when this process ends or the guard is closed.

        Raises:
            GuardError: the guard process is gone.
        """
        line = json.dumps({"remove": str(path.absolute())}).encode() + b"\n"
        try:
            with self._lock:
                self._pipe.write(line)
        except (BrokenPipeError, ValueError) as error:
            raise GuardError("the guard process is gone") from error
        self._folders.append(path)

    def folder(self, prefix: str, inside: Path | None = None) -> Path:
        """Make a new private folder (in the system's temporary one unless told) that is removed at the end."""
        path = (inside or Path(tempfile.gettempdir())) / f"{prefix}{secrets.token_hex(6)}"
        self.remove_at_end(path)  # registered first: there is no moment at which it could be left behind
        path.mkdir(mode=0o700)
        return path

    def close(self) -> None:
        """End every process that still runs and remove every folder; returns when that is done."""
        if not self._pipe.closed:
            self._pipe.close()
        try:
            self._guard.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        for process in self._processes:
            process.kill()
        guard_process.remove(self._folders)  # nothing is left of them, unless the guard was killed
        self._processes.clear()
        self._folders.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
