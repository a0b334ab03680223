"""`belay agent run`: a command as an agent. Each delegation is one run of it."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from belay_api.delegation import Progress
from belay_api.messages import Cancel
from belay_client.channel import AgentChannel
from belay_client.errors import ChannelError, Refused, ResultTooLarge
from belay_client.executor import Ended, Execution, environment
from belay_client.work import Offer, Work
from belay_kube.clock import Clock

log = structlog.get_logger(__name__)

PROGRESS_SECONDS = 1.0
"""Fewest seconds between two reports of progress; of those in between only the last is told."""
LAST_WORD_SECONDS = 5.0
"""How long a result is tried to be told once the runner is to stop."""


class Stop:
    """The wish to stop, and what caused it. The second one is for at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def listen(self) -> None:
        """Take Ctrl-C, SIGTERM and a closed terminal for the wish to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.ask, number)

    def ask(self, number: signal.Signals | None = None) -> None:
        """Stop; asked again, at once."""
        if self.asked.is_set():
            self.at_once.set()
        self.signal = self.signal or number
        self.asked.set()


class ProgressReporter:
    """Tells the newest progress of one work, not more often than once a second."""

    def __init__(self, work: Work, clock: Clock) -> None:
        self._work = work
        self._clock = clock
        self._newest: Progress | None = None
        self._changed = asyncio.Event()

    def __call__(self, progress: Progress) -> None:
        """There is new progress."""
        self._newest = progress
        self._changed.set()

    async def run(self) -> None:
        """Tell it as it comes, until cancelled or the work is over."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._tell()
            except Refused as error:
                log.warning("progress refused", delegation=self._work.name, error=str(error))
            except ChannelError:
                return
            await self._clock.sleep(PROGRESS_SECONDS)

    async def _tell(self) -> None:
        newest = self._newest
        if newest is not None:
            log.info("progress", delegation=self._work.name, percent=newest.percent, message=newest.message)
            await self._work.progress(newest.percent, newest.message)


@dataclass(frozen=True)
class Runner:
    """Runs `command` for the delegations of one channel, at most `most` at once."""

    channel: AgentChannel
    command: str
    clock: Clock
    stop: Stop
    most: int = 1
    once: bool = False
    show: Callable[[bytes], None] = lambda _: None
    """Gets what the commands print to standard error; must not block."""

    async def run(self) -> None:
        """Work until asked to stop, or after one delegation with `once`. Raises ChannelEnded."""
        workers = [asyncio.create_task(self._worker()) for _ in range(1 if self.once else self.most)]
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            self.stop.asked.set()
            await asyncio.wait(workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
        for worker in workers:
            worker.result()

    async def _worker(self) -> None:
        while not self.stop.asked.is_set():
            offer = await _first(self.stop.asked.wait(), self.channel.next_offer())
            if isinstance(offer, Offer) and await self._handle(offer) and self.once:
                return

    async def _handle(self, offer: Offer) -> bool:
        """Take an offer and run it to its end; False when it could not be had."""
        log.info("offered", delegation=offer.name, attempt=offer.attempt)
        try:
            work = await _first(offer.accept(), self._patience())
        except Refused as error:
            log.warning("offer could not be taken", delegation=offer.name, error=str(error))
            return False
        if work is None:
            log.info("taken by another", delegation=offer.name, attempt=offer.attempt)
            return False
        await self._run(work)
        return True

    async def _run(self, work: Work) -> None:
        reporter = ProgressReporter(work, self.clock)
        told = asyncio.create_task(reporter.run())
        try:
            known = environment(work.dispatch, os.environ)
            execution = await Execution.start(self.command, work.prompt, known, self.clock, reporter, self.show)
        except (OSError, ValueError) as error:
            ended = await self._report(work, f"the command could not be started: {error}")
        else:
            log.info("started", delegation=work.name, attempt=work.attempt)
            ended = await self._follow(work, execution)
        finally:
            told.cancel()
        if work.cancelled.is_set() and not ended:
            await self._acknowledge(work)

    async def _follow(self, work: Work, execution: Execution) -> bool:
        """Wait for the command's end, the server's cancel, or the wish to stop; whether its end was told."""
        ended = False
        try:
            outcome = await _first(execution.wait(), work.cancelled.wait(), self.stop.asked.wait())
            if isinstance(outcome, Ended) and not work.cancelled.is_set():
                ended = await self._report(work, outcome)
            else:
                await _first(execution.end(), self._kill_at_once(execution))
        finally:
            await execution.end(kill_after=0.0)
        return ended

    async def _kill_at_once(self, execution: Execution) -> None:
        await self.stop.at_once.wait()
        await execution.end(kill_after=0.0)

    async def _report(self, work: Work, outcome: Ended | str) -> bool:
        """Tell how it ended; whether the server took it."""
        failure = outcome if isinstance(outcome, str) else outcome.failure()
        text = outcome.text if isinstance(outcome, Ended) else ""
        try:
            await self._unless_stopped(_tell_end(work, failure, text))
        except ChannelError as error:
            log.warning("the end could not be told", delegation=work.name, error=str(error))
            return False
        if work.over:
            log.info("finished", delegation=work.name, attempt=work.attempt, failure=failure)
        return work.over

    async def _acknowledge(self, work: Work) -> None:
        why: Cancel = await work.cancelled.wait()
        log.info("cancelled", delegation=work.name, attempt=work.attempt, reason=why.reason)
        try:
            await self._unless_stopped(work.acknowledge_cancel())
        except ChannelError as error:
            log.warning("the cancel could not be acknowledged", delegation=work.name, error=str(error))

    async def _unless_stopped(self, telling: Awaitable[None]) -> None:
        await _first(telling, self._patience())

    async def _patience(self) -> None:
        await self.stop.asked.wait()
        await self.clock.sleep(LAST_WORD_SECONDS)


async def run_until_stopped(runner: Runner) -> None:
    """Attach and work, until asked to stop; not attached yet, there is nothing to end. Raises ChannelError."""
    serving = asyncio.create_task(_serve(runner))
    asked = asyncio.create_task(runner.stop.asked.wait())
    try:
        await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not runner.channel.attached:
            serving.cancel()
        await asyncio.wait({serving})
    finally:
        asked.cancel()
        serving.cancel()
    if not serving.cancelled():
        serving.result()


async def _serve(runner: Runner) -> None:
    async with runner.channel:
        await runner.run()


async def _tell_end(work: Work, failure: str | None, text: str) -> None:
    if failure is not None:
        await work.fail(failure)
        return
    try:
        await work.complete(text)
    except ResultTooLarge as error:
        await work.fail(str(error))


async def _first(*waits: Awaitable[Any]) -> Any:
    """What comes first; the others are cancelled, and have ended, when this returns."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return next(task for task in tasks if task in done).result()
