"""Read, decide, write, and again when somebody wrote in between: the one way this process writes Delegations."""

from collections.abc import Callable

from belay_api.frames import ErrorCode
from belay_api.names import Ref
from belay_gateway.metrics import Metrics
from belay_gateway.verdicts import Change, Refusal, Verdict
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import Conflict, Forbidden, Invalid, KubeError, NotFound, Temporary, TooLarge

Decide = Callable[[Json], Verdict]
_CONFLICTS = 8
_PAUSE_SECONDS = 0.5
_PAUSES = 5


class Writes:
    """Writes to Delegations, each decided on a live read and carrying its resourceVersion."""

    def __init__(self, kube: Kube, clock: Clock, metrics: Metrics) -> None:
        self._kube = kube
        self._clock = clock
        self._metrics = metrics

    async def settle(self, ref: Ref, what: str, decide: Decide, *, patient: bool = False) -> Verdict:
        """Carry `decide` out; what it says about the latest state counts. `patient` waits out a short outage.

        Returns a Refusal, not an error, for everything the API server may answer.
        """
        failures = conflicts = 0
        while True:
            try:
                return await self._once(ref, what, decide)
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

    async def _once(self, ref: Ref, what: str, decide: Decide) -> Verdict:
        delegation = await self._kube.get(DELEGATIONS, ref.namespace, ref.name)
        verdict = decide(delegation)
        if isinstance(verdict, Change):
            await self._kube.patch_status(DELEGATIONS, delegation, verdict.status)
            self._metrics.writes.labels(what).inc()
        return verdict


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
