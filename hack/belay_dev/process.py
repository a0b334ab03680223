"""One child process: it leads its own process group, so the terminal's Ctrl-C reaches only the parent."""

import os
import signal
import subprocess
from pathlib import Path


class Process:
    """A running child and the file that holds all it prints."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.log = log
        self._popen = popen

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    @property
    def alive(self) -> bool:
        return self.exit_code is None

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; tells whether it has ended."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace: float = 10.0) -> None:
        """Ask the whole group to end, and force it after `grace` seconds. Does nothing when it has ended."""
        if self.alive:
            self._signal(signal.SIGTERM)
            if not self.wait(grace):
                self.kill()

    def kill(self) -> None:
        """End the whole group at once, with no chance to clean up."""
        if self.alive:
            self._signal(signal.SIGKILL)
            self._popen.wait()

    def tail(self, lines: int = 20) -> str:
        """The last lines it printed."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def printed(self, text: str) -> bool:
        """Whether it has printed this text anywhere."""
        return self.log.exists() and text in self.log.read_text(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except PermissionError:  # macOS answers so for a group that holds nothing but a zombie
            self._popen.poll()
