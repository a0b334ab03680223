"""The guard's own process: when its parent is gone, whatever the reason, it ends and removes what was registered.

The parent holds the other end of standard input; the kernel closes it however the parent dies, SIGKILL included.
Until then one JSON object a line registers something:

    {"pid": 41}                       end this process and its group
    {"pid": 41, "started": "8812"}    the same, but only if it began then
    {"remove": "/some/folder"}        remove this folder, after all processes are gone

A process is known by its pid and its start time, so a recycled pid is never ended. This file is run by its path and
imports nothing but the standard library: it must not depend on how the parent found its modules.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

TERM_GRACE_SECONDS = 3.0
KILL_GRACE_SECONDS = 5.0
TICK_SECONDS = 0.05

Registered = dict[int, str]
"""Start time by pid."""


def started(pid: int) -> str | None:
    """When the process began, in the kernel's own words; None when it is gone or only a zombie."""
    return _started_from_proc(pid) if Path("/proc/self/stat").exists() else _started_from_ps(pid)


def _started_from_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before may itself hold spaces and parentheses
    threads_left = int(fields[17]) > 1  # of a process killed just now: its first thread is a zombie, others still end
    return None if fields[0] in "ZX" and not threads_left else fields[19]


def _started_from_ps(pid: int) -> str | None:
    asked = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    shown = asked.stdout.split(maxsplit=1)
    return None if len(shown) < 2 or shown[0].startswith("Z") else shown[1].strip()


def read_registrations(lines: Iterable[bytes]) -> tuple[Registered, list[Path]]:
    """Read lines until the parent is gone.

    Returns:
        The start time of each registered process by its pid, and the folders to remove.
    """
    processes: Registered = {}
    folders: list[Path] = []
    for line in lines:
        entry = json.loads(line)
        if "remove" in entry:
            folders.append(Path(entry["remove"]))
        elif began := entry.get("started") or started(entry["pid"]):
            processes[entry["pid"]] = began
    return processes, folders


def end(processes: Registered) -> None:
    """Ask each living process and its group to end, and force those that have not within the grace."""
    asked = _signal(_living(processes), signal.SIGTERM)
    _wait_for_end(asked, TERM_GRACE_SECONDS)
    forced = _signal(asked, signal.SIGKILL)
    _wait_for_end(forced, KILL_GRACE_SECONDS)


def _living(processes: Registered) -> Registered:
    return {pid: began for pid, began in processes.items() if started(pid) == began}


def _wait_for_end(processes: Registered, seconds: float) -> None:
    for _ in range(round(seconds / TICK_SECONDS)):
        if not _living(processes):
            return
        threading.Event().wait(TICK_SECONDS)


def _signal(processes: Registered, number: signal.Signals) -> Registered:
    """Signal each process, with its group if it leads one; returns those that were still there to get it."""
    return {pid: began for pid, began in processes.items() if _signal_one(pid, began, number)}


def _signal_one(pid: int, began: str, number: signal.Signals) -> bool:
    # A leader that ended may leave members behind; its pid stays reserved as their group's, so None is still ours.
    if started(pid) not in (None, began):
        return False
    try:
        leads_group = os.getsid(pid) == pid or os.getpgid(pid) == pid
    except ProcessLookupError:
        leads_group = True
    try:
        if leads_group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # PermissionError: macOS, a group of nothing but zombies
        return False
    return True


def remove(folders: Iterable[Path]) -> None:
    """Remove each folder, again for a while if something still writes there."""
    for folder in folders:
        for _ in range(round(KILL_GRACE_SECONDS / TICK_SECONDS)):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            threading.Event().wait(TICK_SECONDS)


def main() -> None:
    """Say that we stand, wait for the parent's end, clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    processes, folders = read_registrations(sys.stdin.buffer)
    end(processes)
    remove(folders)


if __name__ == "__main__":
    main()
