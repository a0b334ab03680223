"""Read, decide, write, and again when somebody wrote in between: the one way this process writes Delegations."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from belay_api.frames import ErrorCode
from belay_api.names import Ref
from belay_gateway.hints import Hints
from belay_gateway.metrics import Metrics
from belay_gateway.verdicts import Change, Refusal, Verdict
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import Conflict, Forbidden, Invalid, KubeError, NotFound, Permanent, Temporary, TooLarge

Decide = Callable[[Json], Verdict]
May = Callable[[], Awaitable[Refusal | None]]
"""Asked before each write; raises KubeError."""
Wrote = Callable[[Json], Any]
"""Told how the object stands after a write."""
_CONFLICTS = 8
_PAUSE_SECONDS = 0.5
_PAUSES = 5


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
    ) -> Verdict:
        """Carry `decide` out; what it says about the latest state counts. `patient` waits out a short outage, `live`
        reads in any case.

        Returns a Refusal, not an error, for everything the API server may answer.
        """
        failures = conflicts = 0
        while True:
            try:
                tried = None if live else await self._on_a_hint(ref, what, decide, may)
                live = True
                return tried or await self._once(ref, what, decide, may)
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

    async def _on_a_hint(self, ref: Ref, what: str, decide: Decide, may: May | None) -> Verdict | None:
        """The write, if what was seen last still stands; else nothing has happened."""
        hint = self._hints.newest(ref)
        verdict = decide(hint) if hint else None
        if hint is None or not isinstance(verdict, Change):
            return None
        try:
            return await self._write(hint, verdict, what, may)
        except (Conflict, Permanent):
            self._metrics.hints.labels("stale").inc()
            self._hints.forget(ref)
            return None

    async def _once(self, ref: Ref, what: str, decide: Decide, may: May | None) -> Verdict:
        delegation = await self._kube.get(DELEGATIONS, ref.namespace, ref.name)
        verdict = decide(delegation)
        return await self._write(delegation, verdict, what, may) if isinstance(verdict, Change) else verdict

    async def _write(self, delegation: Json, change: Change, what: str, may: May | None) -> Verdict:
        if may and (refused := await may()):
            return refused
        self._hints.wrote(await self._kube.patch_status(DELEGATIONS, delegation, change.status))
        self._metrics.writes.labels(what).inc()
        return change


def refusal_of(error: KubeError) -> Refusal:
    """What a peer is told of an answer of the API server."""
    match error:
        case NotFound():
            return Refusal(ErrorCode.NOT_FOUND, "there is no such delegation (any more): stop working on it")
        case TooLarge():
            return Refusal(ErrorCode.TOO_LARGE, "too large to be stored: reply with a uri instead")
        case Forbidden():
            return Refusal(ErrorCode.FORBIDDEN, f"the gateway may not write this: {error.message}"[:500])
        case Invalid():
            return Refusal(ErrorCode.INVALID, error.message[:500])
        case _:
            return Refusal(ErrorCode.UNAVAILABLE, f"the API server can't be reached, try again: {error.message}"[:500])
