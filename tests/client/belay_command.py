"""The real `belay` command as a process, with an environment of its own."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass

_OURS = ("BELAY_", "KUBE")


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    def is_one_line(self) -> bool:
        """Whether it complained as it should: one line, with its name, no traceback."""
        lines = self.err.splitlines()
        return self.code != 0 and len(lines) == 1 and lines[0].startswith("belay: ") and "Traceback" not in self.err


async def start(*arguments: str, **environment: str) -> Process:
    """Start it, on pipes."""
    return await start_on(PIPE, PIPE, *arguments, **environment)


async def start_on(stdin: int, stdout: int, /, *arguments: str, **environment: str) -> Process:
    """Start it on descriptors of the caller's."""
    known = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
    known |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": "/nonexistent", "COLUMNS": "200"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "belay_client.cli",
        *arguments,
        stdin=stdin,
        stdout=stdout,
        stderr=PIPE,
        env=known | environment,
    )


async def belay(*arguments: str, stdin: bytes = b"", **environment: str) -> Said:
    """Run it to its end; one that a failing test leaves behind is killed, by its own id."""
    return await ended(await start(*arguments, **environment), stdin)


async def ended(process: Process, stdin: bytes = b"") -> Said:
    """Wait for its end."""
    try:
        out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
    return Said(process.returncode or 0, out.decode(), err.decode())
