"""Runs one command for one delegation: prompt in, result and progress out, and never a process left behind."""

import asyncio
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from belay_api.delegation import MAX_TEXT_BYTES, Progress
from belay_api.messages import Dispatch
from belay_api.times import to_wire_seconds
from belay_client.command import SHELL
from belay_client.output import Output, Tail
from belay_client.processgroup import KILL_AFTER_SECONDS, ProcessGroup
from belay_kube.clock import Clock

DRAIN_SECONDS = 2.0
"""How long output is waited for that a process outside of the group keeps open."""
# The command only begins when it is told to, so there is no moment at which it runs and nobody guards it.
_WHEN_TOLD = 'read -r go && exec "$0" -c "$1"'
_GO = b"go\n"
_STDIN, _STDERR = 0, 2


@dataclass(frozen=True)
class Ended:
    """How a command ended: `code` is negative for a signal."""

    code: int
    text: str
    too_large: bool
    errors: str

    def failure(self) -> str | None:
        """Why it can't count as done; None when it can."""
        if self.code != 0:
            how = f"exited with code {self.code}" if self.code > 0 else f"was ended by {_signal_name(-self.code)}"
            return f"the command {how}: {self.errors}" if self.errors else f"the command {how}"
        if self.too_large or len(self.text.encode()) > MAX_TEXT_BYTES:
            return "the command printed more than 64 KiB: write the result elsewhere and print its URI"
        return None


class Execution(asyncio.SubprocessProtocol):
    """A running command, the leader of its own session and process group."""

    def __init__(self, clock: Clock, on_progress: Callable[[Progress], None], show: Callable[[bytes], None]) -> None:
        self._clock = clock
        self._show = show
        self._on_progress = on_progress
        self._output, self._tail = Output(), Tail()
        self._exited = asyncio.Event()
        self._drained = asyncio.Event()
        self._transport: asyncio.SubprocessTransport
        self._group: ProcessGroup

    @classmethod
    async def start(
        cls,
        command: str,
        prompt: str,
        environment: Mapping[str, str],
        clock: Clock,
        on_progress: Callable[[Progress], None] = lambda _: None,
        show: Callable[[bytes], None] = lambda _: None,
    ) -> Self:
        """Start `/bin/sh -c command`; `show` gets its standard error, and must not block.

        Raises OSError or ValueError for an environment no process can have.
        """
        loop = asyncio.get_running_loop()
        transport, self = await loop.subprocess_exec(
            lambda: cls(clock, on_progress, show),
            SHELL,
            "-c",
            _WHEN_TOLD,
            SHELL,
            command,
            env=environment,
            start_new_session=True,
        )
        try:
            await self._group.guard()
        except BaseException:
            self._group.signal(signal.SIGKILL)
            transport.close()
            raise
        stdin = transport.get_pipe_transport(_STDIN)
        if isinstance(stdin, asyncio.WriteTransport):
            stdin.write(_GO + prompt.encode(errors="replace"))
            stdin.close()
        return self

    async def wait(self) -> Ended:
        """Wait for the command's end, then end what it left running."""
        await self._exited.wait()
        await self._group.end()
        await self._drain()
        code = self._transport.get_returncode()
        self._transport.close()
        return Ended(
            code=-signal.SIGKILL if code is None else code,
            text=self._output.text(),
            too_large=self._output.too_large,
            errors=self._tail.text(),
        )

    async def end(self, kill_after: float = KILL_AFTER_SECONDS) -> None:
        """End it: TERM, after `kill_after` seconds KILL; returns when nothing of it is left."""
        await self._group.end(kill_after)
        self._transport.close()

    async def _drain(self) -> None:
        drained = asyncio.create_task(self._drained.wait())
        late = asyncio.create_task(self._clock.sleep(DRAIN_SECONDS))
        await asyncio.wait({drained, late}, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        late.cancel()

    # --- asyncio.SubprocessProtocol --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process was started."""
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101  for the type only
        self._transport = transport
        self._group = ProcessGroup(transport.get_pid() or 0, self._clock)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It printed something; its errors are also shown."""
        if fd == _STDERR:
            self._tail.feed(data)
            self._show(data)
            return
        for progress in self._output.feed(data):
            self._on_progress(progress)

    def process_exited(self) -> None:
        """The leader ended and was waited for."""
        self._group.leader_ended()
        self._exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the protocol's signature
        """The leader ended, and nobody holds its pipes any more."""
        self._drained.set()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def environment(dispatch: Dispatch, inherited: Mapping[str, str]) -> dict[str, str]:
    """The command's environment: the runner's, without its token, and what there is to know of the delegation."""
    known = {key: value for key, value in inherited.items() if key != "BELAY_TOKEN"}
    known |= {
        "BELAY_DELEGATION": dispatch.name,
        "BELAY_NAMESPACE": dispatch.namespace,
        "BELAY_AGENT": dispatch.agent.rpartition("/")[2],
        "BELAY_ATTEMPT": str(dispatch.attempt),
    }
    if dispatch.deadline is not None:
        known["BELAY_DEADLINE"] = to_wire_seconds(dispatch.deadline)
    for name, value in (dispatch.inputs or {}).items():
        known["BELAY_INPUT_" + re.sub(r"[^A-Z0-9_]", "_", name.upper())] = value
    return known
