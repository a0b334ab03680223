"""One answer of a model, asked for as often as it takes (L12), unless the round is cut short (L17)."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from belay_api.session_words import waits_for_model
from belay_kube.clock import Clock
from belay_operator.decisions.rounds import MOST_ATTEMPTS, wait_before
from belay_operator.drain.claims import Claim
from belay_operator.drain.llm.base import Answer, Passing, Prompt, Provider
from belay_operator.drain.pool import Slot
from belay_operator.metrics import Metrics

log = structlog.get_logger(__name__)

T = TypeVar("T")


class CutShort(Exception):
    """The round is over before its answer: it was interrupted, or the claim is somebody else's."""


class Interrupt:
    """Asked for once, by whoever sees that nobody wants the answer any more."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Cut the round short."""
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether it is to be cut short."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Return once it is."""
        await self._asked.wait()


class Asking:
    """Calls providers."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics

    async def answer(
        self, provider: Provider, prompt: Prompt, claim: Claim, slot: Slot, interrupt: Interrupt
    ) -> Answer:
        """The model's answer; between two attempts the slot is left to others. Raises LlmError, CutShort."""
        attempt = 1
        while True:
            try:
                return await unless_cut(self._once(provider, prompt, claim), claim, interrupt)
            except Passing as error:
                seconds = wait_before(attempt, error.retry_after, random.random())  # noqa: S311
                self._metrics.model_retries.labels(error.reason).inc()
                if seconds is None:
                    raise
                attempt += 1
                claim.note(waits_for_model(error.message, attempt, MOST_ATTEMPTS, seconds))
                log.warning("will ask again", session=str(claim.session.ref), seconds=seconds, error=error.message)
            slot.leave()
            await unless_cut(self._clock.sleep(seconds), claim, interrupt)
            await unless_cut(slot.take(), claim, interrupt)

    async def _once(self, provider: Provider, prompt: Prompt, claim: Claim) -> Answer:
        started = self._clock.monotonic()
        claim.note("")
        try:
            return await provider.answer(prompt, claim.hear)
        finally:
            self._metrics.model_seconds.observe(self._clock.monotonic() - started)


async def unless_cut(step: Coroutine[Any, Any, T], claim: Claim, interrupt: Interrupt) -> T:
    """What `step` returns. Raises CutShort when the round is over before it is; `step` is cancelled then."""
    return await unless(step, claim.lost, interrupt)


async def unless(step: Coroutine[Any, Any, T], *events: asyncio.Event | Interrupt) -> T:
    """What `step` returns. Raises CutShort when one of `events` is there before; `step` is cancelled then."""
    task = asyncio.ensure_future(step)
    cuts = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait({task, *cuts}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CutShort
        return task.result()
    finally:
        for each in (task, *cuts):
            each.cancel()
        await asyncio.wait({task, *cuts})
