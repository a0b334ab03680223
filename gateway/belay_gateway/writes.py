"""Read, decide, write, and again when somebody wrote in between: the one way this process writes Delegations."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from belay_api.messages import ErrorCode
from belay_api.names import Ref
from belay_gateway.hints import Hints
from belay_gateway.metrics import Metrics
from belay_gateway.verdicts import Change, Refusal, Verdict
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import (
    Conflict,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    Permanent,
    Temporary,
    TooLarge,
    lacks_right,
)

log = structlog.get_logger(__name__)

Decide = Callable[[Json], Verdict]
May = Callable[[], Awaitable[Refusal | None]]
"""Asked before each write; raises KubeError."""
Wrote = Callable[[Json], Any]
"""Told how the object stands after a write."""
_CONFLICTS = 8
_PAUSE_SECONDS = 0.5
_PAUSES = 5


@dataclass(frozen=True)
class _Task:
    ref: Ref
    what: str
    decide: Decide
    may: May | None
    wrote: Wrote


class Writes:
    """Writes to Delegations, each carrying the resourceVersion it was decided on. Only a write may be decided on what
    was seen before; whatever else is the answer rests on a live read."""

    def __init__(self, kube: Kube, clock: Clock, hints: Hints, metrics: Metrics) -> None:
        self._kube = kube
        self._clock = clock
        self._hints = hints
        self._metrics = metrics

    async def settle(
        self,
        ref: Ref,
        what: str,
        decide: Decide,
        *,
        patient: bool = False,
        live: bool = False,
        may: May | None = None,
        wrote: Wrote = lambda _: None,
    ) -> Verdict:
        """Carry `decide` out; what it says about the latest state counts. `patient` waits out a short outage, `live`
        reads in any case.

        Returns a Refusal, not an error, for everything the API server may answer.
        """
        task = _Task(ref, what, decide, may, wrote)
        failures = conflicts = 0
        while True:
            try:
                tried = None if live else await self._on_a_hint(task)
                live = True
                return tried or await self._once(task)
            except Conflict:
                conflicts += 1
                self._metrics.conflicts.labels("delegations").inc()
                if conflicts >= _CONFLICTS:
                    return Refusal(ErrorCode.UNAVAILABLE, "it changes too often just now: try again")
            except Temporary as error:
                failures += 1
                if not patient or failures > _PAUSES:
                    return refusal_of(error)
                await self._clock.sleep(error.delay or _PAUSE_SECONDS * 2**failures)
            except KubeError as error:
                return refusal_of(error)

    async def _on_a_hint(self, task: _Task) -> Verdict | None:
        """The write, if what was seen last still stands; else nothing has happened."""
        hint = self._hints.newest(task.ref)
        verdict = task.decide(hint) if hint else None
        if hint is None or not isinstance(verdict, Change):
            return None
        try:
            return await self._write(hint, verdict, task)
        except (Conflict, Permanent):
            self._metrics.hints.labels("stale").inc()
            self._hints.forget(task.ref)
            return None

    async def _once(self, task: _Task) -> Verdict:
        delegation = await self._kube.get(DELEGATIONS, task.ref.namespace, task.ref.name)
        verdict = task.decide(delegation)
        return await self._write(delegation, verdict, task) if isinstance(verdict, Change) else verdict

    async def _write(self, delegation: Json, change: Change, task: _Task) -> Verdict:
        if task.may and (refused := await task.may()):
            return refused
        written = await self._kube.patch_status(DELEGATIONS, delegation, change.status)
        self._hints.wrote(written)
        task.wrote(written)
        self._metrics.writes.labels(task.what).inc()
        return change


def refusal_of(error: KubeError) -> Refusal:
    """What a peer is told of an answer of the API server."""
    match error:
        case NotFound():
            return Refusal(ErrorCode.NOT_FOUND, "there is no such delegation (any more): stop working on it")
        case TooLarge():
            return Refusal(ErrorCode.TOO_LARGE, "too large to be stored: reply with a uri instead")
        case Forbidden() if not lacks_right(error):
            return Refusal(ErrorCode.FORBIDDEN, f"this may not be written: {error.said}"[:500])
        case Invalid():
            return Refusal(ErrorCode.INVALID, error.said[:500])
        case Temporary():
            said = f": {error.said}" if error.said else ""
            return Refusal(ErrorCode.UNAVAILABLE, f"the API server can't be reached, try again{said}"[:500])
        case _:
            # Its own rights or credentials: neither the peer's fault nor anything to tell it of.
            log.error("the API server refused the gateway", error=error.message[:300])
            return Refusal(ErrorCode.UNAVAILABLE, "the gateway can't do this just now: try again, or tell who runs it")
