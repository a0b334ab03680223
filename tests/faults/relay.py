"""Operators as processes, one after the other, each ended by a SIGKILL."""

import asyncio
import sys
from pathlib import Path

from belay_dev.guard import Guard
from belay_dev.process import Process
from belay_dev.stack import clean_environment
from faults.operating import World

SHORT = {"BELAY_GRACE_SECONDS": "2", "BELAY_LEASE_SECONDS": "2"}


class Relay:
    """Operators as processes, one after the other."""

    def __init__(self, guard: Guard, kubeconfig: Path, folder: Path) -> None:
        self._guard = guard
        self._kubeconfig = kubeconfig
        self._folder = folder
        self._operator: Process | None = None
        self.killed = 0

    def next(self) -> None:
        """Kill the operator that runs, with SIGKILL, and start another."""
        if self._operator:
            self._operator.kill()
            self.killed += 1
        entry = "import sys; from belay_operator.main import main; sys.exit(main())"
        command = [sys.executable, "-c", entry, "--kubeconfig", str(self._kubeconfig), "--health-port", "0"]
        log = self._folder / f"operator-{self.killed}.log"
        self._operator = self._guard.spawn(command, log=log, name="operator", env={**clean_environment(), **SHORT})

    def end(self) -> None:
        """Kill the last."""
        if self._operator:
            self._operator.kill()


async def renewing(world: World) -> None:
    """Renew what gateways hold, for ever: they do so by the clock, and the operators' processes have the real one."""
    while True:
        await world.renew()
        await asyncio.sleep(1)
