"""The transaction of a half-step: one create of a turn, whose name nobody else can have (L16, L18).

An answer was paid for, so it is tried to be written for a while. What was tried may be there, whatever came back.
"""

import structlog

from belay_api.session_words import turn_left_over
from belay_api.sessionturn import SessionTurnSpec
from belay_kube.client import Json
from belay_kube.clock import Clock
from belay_kube.errors import Forbidden, Permanent, Temporary
from belay_operator.drain.asking import CutShort
from belay_operator.drain.claims import Claim, Claims
from belay_operator.drain.history import is_of
from belay_operator.drain.store import Store

log = structlog.get_logger(__name__)

_TRIES = 6


class _LeftOver(Temporary):
    """An earlier session of that name was deleted, and its turn isn't yet."""


class Writing:
    """Writes turns."""

    def __init__(self, store: Store, claims: Claims, clock: Clock) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock

    async def left_behind(self, claim: Claim) -> Json | None:
        """The specification of the turn that a holder before this one made and did not settle, if there is one. Raises
        KubeError."""
        if claim.before.claim is None:
            return None
        found = await self._store.turn(claim.session.ref, claim.session.turns + 1)
        if found is None or not is_of(found, claim.session):
            return None
        claim.is_settling = True
        return dict(found["spec"])

    async def write(self, claim: Claim, turn: SessionTurnSpec) -> Json:
        """Make a turn; its specification as it is there. Raises CutShort when the claim is lost, Permanent when the
        turn is refused, or isn't there after the last try, Temporary when that isn't known."""
        for again in reversed(range(_TRIES)):
            if claim.lost.is_set():
                raise CutShort
            claim.is_settling = True
            try:
                return await self._made(claim, turn)
            except Temporary as error:
                if not again:
                    return await self._in_the_end(claim, turn, error)
                await self._clock.sleep(2.0 ** (_TRIES - 1 - again))
            except Permanent:
                # Refused, so it isn't there: the session may be given back.
                claim.is_settling = False
                raise
        raise AssertionError("the last try returns or raises")

    async def _in_the_end(self, claim: Claim, turn: SessionTurnSpec, error: Temporary) -> Json:
        """What is there after the last try. Nothing: asked for again and again it would be paid for each time, so it
        counts as refused. (A try that lands later still is found by who makes the turn next.)"""
        found = await self._store.turn(claim.session.ref, turn.sequence)
        if found is not None and is_of(found, claim.session):
            return await self._there(claim, turn)
        claim.is_settling = False
        raise Forbidden(error.message, said=error.message) from error

    async def _made(self, claim: Claim, turn: SessionTurnSpec) -> Json:
        """Another may have been first, or an earlier try of our own, of which no word came back: then that turn is the
        one to settle, by whoever holds the claim."""
        session = claim.session
        made = await self._store.add_turn(session, turn.wire())
        if made is not None:
            return dict(made["spec"])
        log.info("another was first with this turn", session=str(session.ref), sequence=turn.sequence)
        return await self._there(claim, turn)

    async def _there(self, claim: Claim, turn: SessionTurnSpec) -> Json:
        if not await self._claims.is_held(claim):
            raise CutShort
        session = claim.session
        found = await self._store.turn(session.ref, turn.sequence)
        if found is None:
            raise Temporary(f"SessionTurn {turn.sequence} of {session.ref} was there and is gone: tried again")
        if not is_of(found, session):
            raise _LeftOver(turn_left_over(found["metadata"]["name"]))
        return dict(found["spec"])
