"""A process group: signalled as one, gone only when its last process is, and ended even if this process is killed."""

import asyncio
import os
import signal
from contextlib import suppress

from belay_kube.clock import Clock

KILL_AFTER_SECONDS = 10.0
_LOOK_SECONDS = 0.02

# Waits for a word; if its pipe ends without one, the process that started it was killed: it ends the group.
_GUARD = """
read -r word && exit
kill -s TERM -- "-$1"
for second in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 -- "-$1" || exit 0; sleep 1; done
kill -s KILL -- "-$1"
"""


class ProcessGroup:
    """The group led by `leader`, whose own end must be told with `leader_ended` (somebody else waits for it)."""

    def __init__(self, leader: int, clock: Clock) -> None:
        self._id = leader
        self._clock = clock
        self._leader_ended = False
        self._gone = False
        self._guard: asyncio.subprocess.Process | None = None

    async def guard(self) -> None:
        """From now on the group ends with this process, however that ends."""
        self._guard = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            _GUARD,
            "sh",
            str(self._id),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    def leader_ended(self) -> None:
        """The leader was waited for; its number stays taken while others of the group live."""
        self._leader_ended = True

    def gone(self) -> bool:
        """Whether no process of the group is left."""
        if self._gone or not self._leader_ended:
            return self._gone
        with suppress(ChildProcessError):  # orphans come to this process where it is the container's first
            while os.waitpid(-self._id, os.WNOHANG)[0]:
                pass
        self._gone = not self.signal(0)
        return self._gone

    def signal(self, number: int) -> bool:
        """Send a signal to all of it; False when there is nobody. 0 only looks."""
        if self._gone:
            return False  # the number may be somebody else's by now
        try:
            os.killpg(self._id, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # somebody is there, under another account
        return True

    async def end(self, kill_after: float = KILL_AFTER_SECONDS) -> None:
        """TERM, after `kill_after` seconds KILL; returns when the last process is gone."""
        if not self.gone():
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # a stopped process would never see it
        deadline = self._clock.monotonic() + kill_after
        while not self.gone():
            if self._clock.monotonic() >= deadline:
                self.signal(signal.SIGKILL)
            await self._clock.sleep(_LOOK_SECONDS)
        await self._release_guard()

    async def _release_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            guard.stdin.write(b"done\n")
            guard.stdin.close()
            await guard.wait()
