"""Belay's processes as a node runs them: one that ends by itself is started again, unless the test ended it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from belay_dev.guard import Guard
from belay_dev.process import Process
from belay_dev.stack import clean_environment
from waiting import eventually

_LOOK_SECONDS = 0.1
_BACK_OFF_SECONDS = 1.0
_LONG = 60.0
"""A busy machine takes its time to start a process."""


class Kept:
    """One of Belay's processes, kept running."""

    def __init__(
        self, guard: Guard, name: str, module: str, flags: list[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self._guard = guard
        entry = f"import sys; from {module} import main; sys.exit(main())"
        self._command = [sys.executable, "-c", entry, "--announce", *flags]
        self._environment = {**clean_environment(), **environment}
        self._folder = folder
        self._ended = False
        self.runs: list[Process] = []
        self._start()
        self.task = asyncio.ensure_future(self._keep())

    @property
    def process(self) -> Process:
        """The one that runs, or ran last."""
        return self.runs[-1]

    def announced(self) -> dict[str, str] | None:
        """What the process that runs said when it was ready; None: it didn't yet, or it has ended."""
        if not self.process.alive:
            return None
        lines = self.process.log.read_text(errors="replace").splitlines()
        told: list[dict[str, str]] = [json.loads(line) for line in lines if line.startswith('{"ready"')]
        return told[0] if told else None

    async def ready(self, seconds: float = _LONG) -> dict[str, str]:
        """Wait until it is: a gateway serves, an operator leads."""
        try:
            return await eventually(self.announced, seconds)
        except AssertionError:
            raise AssertionError(f"{self.name}: {self.process.tail()}") from None

    def freeze(self) -> None:
        """From now on it does nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if nothing had been."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and no other run."""
        self._ended = True
        self.process.kill()

    def terminate(self) -> None:
        """SIGTERM, whose effect isn't waited for, and no other run."""
        self._ended = True
        os.kill(self.process.pid, signal.SIGTERM)

    async def stop(self) -> None:
        """SIGTERM, and no other run."""
        self._ended = True
        await asyncio.to_thread(self.process.stop)

    def leave(self) -> None:
        """No other run once it ends."""
        self._ended = True

    async def _keep(self) -> None:
        while not self._ended:
            await asyncio.sleep(_LOOK_SECONDS)
            if not self.process.alive:
                await asyncio.sleep(_BACK_OFF_SECONDS)
                if not self._ended:
                    self._start()

    def _start(self) -> None:
        log = self._folder / f"{self.name}-{len(self.runs)}.log"
        self.runs.append(self._guard.spawn(self._command, log=log, name=self.name, env=self._environment))


class Kubelet:
    """Starts processes, and ends them all at its end."""

    def __init__(self, guard: Guard, folder: Path, environment: Mapping[str, str]) -> None:
        self._guard = guard
        self._folder = folder
        self._environment = dict(environment)
        self._kept: list[Kept] = []

    def operator(self, name: str, kubeconfig: Path, **environment: str) -> Kept:
        """An operator."""
        return self._keep_running(name, "belay_operator.main", kubeconfig, ["--health-port", "0"], environment)

    def gateway(self, name: str, kubeconfig: Path, **environment: str) -> Kept:
        """A gateway; started again it has another address."""
        return self._keep_running(name, "belay_gateway.main", kubeconfig, ["--port", "0"], environment)

    def _keep_running(
        self, name: str, module: str, kubeconfig: Path, flags: list[str], environment: Mapping[str, str]
    ) -> Kept:
        more = {**self._environment, **environment}
        made = Kept(self._guard, name, module, ["--kubeconfig", str(kubeconfig), *flags], more, self._folder)
        self._kept.append(made)
        return made

    async def end(self) -> None:
        """End all."""
        for kept in self._kept:
            await kept.stop()
            kept.task.cancel()
            await asyncio.wait({kept.task})


@asynccontextmanager
async def kubelet(guard: Guard, folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Kubelet]:
    """One that ends what it started."""
    made = Kubelet(guard, folder, environment)
    try:
        yield made
    finally:
        await made.end()
