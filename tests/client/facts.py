"""Facts about processes and files that nobody announces: looked at until they are so."""

import asyncio
from collections.abc import Callable
from pathlib import Path


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds; pytest's timeout ends a test in which it never does."""
    while not holds():  # noqa: ASYNC110  other processes set no event of ours
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def pids(file: Path, count: int) -> list[int]:
    """The numbers that a command's processes wrote into `file`, once all are there."""
    await until(lambda: len(_words(file)) >= count)
    return [int(pid) for pid in _words(file)]


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []
