"""One half-step of a session: claim, pick, ask the model, create the turn, settle it, release (DESIGN.md section 5).

claim ─▶ a turn that was left behind? ─yes─▶ settle
  │ no
  ▼
prompts nobody waits for, or an interrupt? ─▶ Interrupted ─▶ settle
  │ no
  ▼
pick ─nothing─▶ release as it was
  │
  ▼
ask ─answer─▶ Answered ─▶ settle
  └─failure─▶ Bounced | Parked ─▶ settle    or release as it was, with the error (L9 to L11)
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from belay_api.conditions import ConditionType, set_condition
from belay_api.names import Ref
from belay_api.reasons import SessionReason
from belay_api.sessionturn import SessionTurnSpec
from belay_kube.client import Json
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, Permanent, Temporary
from belay_operator.decisions import conversation, picking, rounds, turns
from belay_operator.decisions.interrupts import interrupt_wanted
from belay_operator.decisions.landing import error_wire
from belay_operator.decisions.picking import Picked
from belay_operator.decisions.turns import Span
from belay_operator.drain.answering import Answering
from belay_operator.drain.asking import CutShort, Interrupt
from belay_operator.drain.claims import Claim, Claims
from belay_operator.drain.llm.base import LlmError, Unauthenticated, Unready
from belay_operator.drain.pool import Slot
from belay_operator.drain.settling import Settling
from belay_operator.drain.store import Store
from belay_operator.observe.mailbox_records import Mail, SessionRecord
from belay_operator.observe.mailboxes import Mailboxes

log = structlog.get_logger(__name__)

_TURN_TRIES = 6
"""How often an answer that was paid for is tried to be written."""


class RoundFailed(Exception):
    """No answer came and the mail is as it was (L10, L11); `error` says why, `back` how often."""

    def __init__(self, error: LlmError, back: rounds.Back) -> None:
        super().__init__(error.message)
        self.error = error
        self.back = back


@dataclass(frozen=True)
class Parts:
    """What half-steps work with."""

    store: Store
    claims: Claims
    mailboxes: Mailboxes
    answering: Answering
    settling: Settling
    clock: Clock


class HalfStep:
    """One attempt to get one session one turn further; made for one run.

    Args:
        parts: what it works with.
        lost: delegations, by name, whose end was not ours: nobody waits for an answer to their prompts.
        pickable: whether the prompt of a delegation, by name, may be read.
        may_ask: whether the model may be asked; else only what was left behind is finished.
    """

    def __init__(
        self, parts: Parts, lost: frozenset[str], pickable: Callable[[str], bool], *, may_ask: bool = True
    ) -> None:
        self._parts = parts
        self._lost = lost
        self._pickable = pickable
        self._may_ask = may_ask
        self._claim: Claim | None = None
        self.interrupt = Interrupt()
        self.answering: frozenset[str] = frozenset()
        """The delegations that the answer is for."""
        self.concern: frozenset[str] = frozenset()
        """The same; empty when it is for somebody else, too."""

    @property
    def progress(self) -> str:
        """The end of the answer as it grows."""
        return self._claim.progress if self._claim else ""

    def learn(self, lost: frozenset[str]) -> None:
        """These have ended by now."""
        self._lost = lost

    async def run(self, session: SessionRecord, slot: Slot) -> bool:
        """Go one half-step; False when there was none to go. Raises KubeError, RoundFailed."""
        claim = self._claim = await self._parts.claims.take(session)
        if claim is None:
            return False
        async with self._parts.claims.kept(claim):
            turn = await self._guarded(claim, slot)
            slot.leave()
            if turn is None:
                return False
            return await self._parts.settling.settle(claim, turn) is not None

    async def _guarded(self, claim: Claim, slot: Slot) -> Json | None:
        """The turn to settle; without one the session is given back as it was."""
        try:
            turn = await self._turn(claim, slot)
        except RoundFailed as failed:
            await self._give_back(claim, self._failure(claim, failed))
            raise
        except KubeError:
            await self._give_back(claim, {})
            raise
        except CutShort:
            return None
        except asyncio.CancelledError:
            # Who drains it next need not wait for the claim to expire.
            await asyncio.shield(self._give_back(claim, {}))
            raise
        if turn is None:
            await self._give_back(claim, {})
        return turn

    # --- the turn ---

    async def _turn(self, claim: Claim, slot: Slot) -> Json | None:
        """The specification of the turn that was made, by whomever; None when there is nothing to do."""
        session = claim.session
        if claim.before.claim is not None:
            left_behind = await self._parts.store.turn(session.ref, session.turns + 1)
            if left_behind:
                claim.is_settling = True
                return dict(left_behind["spec"])
        mail = await self._mail(session)
        made = self._given_up(session, mail) or await self._asked(claim, mail, slot)
        return await self._write(claim, made) if made else None

    async def _mail(self, session: SessionRecord) -> list[Mail]:
        """What waits, with what it says, each in its place."""
        found = []
        for obj in await self._parts.store.mail(session.ref):
            try:
                seen = self._parts.mailboxes.messages.get(Ref(session.ref.namespace, obj["metadata"]["name"]))
                found.append(Mail.read(obj, seen))
            except (KeyError, ValueError, TypeError) as error:
                log.warning("message can't be read and is skipped", session=str(session.ref), error=repr(error))
        return found

    def _given_up(self, session: SessionRecord, mail: Sequence[Mail]) -> SessionTurnSpec | None:
        """What takes mail out that nobody waits for any more (L17); None: somebody does."""
        if self.interrupt.asked or interrupt_wanted(session, self._lost.__contains__):
            return turns.interrupted(session, mail, self._lost, None, self._span())
        dead = turns.abandoned(mail, self._lost)
        return turns.taken_out(session, dead, self._span()) if dead else None

    async def _asked(self, claim: Claim, mail: Sequence[Mail], slot: Slot) -> SessionTurnSpec | None:
        """The answer to the next round, or the return of what can't be answered. Raises RoundFailed when the mail
        stays, CutShort when the claim is lost."""
        session, span = claim.session, self._span()
        picked = picking.pick(session, mail, lambda m: m.delegation is None or self._pickable(m.delegation))
        if not (picked.mail and self._may_ask):
            return None
        self._concerns(session, picked)
        blocks = conversation.user_blocks(picked)
        try:
            answer = await self._parts.answering.answer(claim, blocks, slot, self.interrupt)
        except CutShort:
            if claim.lost.is_set():
                raise
            active = picked.active.record if picked.active else None
            self._parts.claims.refresh(claim)
            return turns.interrupted(claim.session, mail, self._lost, active, self._span(span))
        except LlmError as error:
            verdict = rounds.after_failure(error, picked, session)
            if isinstance(verdict, rounds.Back):
                raise RoundFailed(error, verdict) from error
            return turns.returned(session, verdict, self._span(span))
        taken = await self._parts.answering.taken_ids(session)
        said = rounds.after_answer(session, answer.blocks, session.turns + 1, self._parts.clock.now(), taken=taken)
        return turns.answered(session, picked, blocks, said.blocks, answer, self._span(span))

    def _concerns(self, session: SessionRecord, picked: Picked) -> None:
        active = picked.active.record if picked.active else None
        new = {active.delegation} if active and active.delegation else set()
        self.answering = frozenset({*session.serving, *new})
        self.concern = self.answering if active is None or new else frozenset()

    def _span(self, begun: Span | None = None) -> Span:
        now = self._parts.clock.now()
        return Span(begun.started if begun else now, now)

    async def _write(self, claim: Claim, turn: SessionTurnSpec) -> Json:
        """The transaction. Another may have been first: then that turn is the one to settle (L18)."""
        claim.is_settling = True
        for again in reversed(range(_TURN_TRIES)):
            try:
                return await self._made(claim.session, turn)
            except Temporary:
                if not again:
                    raise
                await self._parts.clock.sleep(2.0 ** (_TURN_TRIES - 1 - again))
            except Permanent:
                # Refused, so it isn't there: the session may be given back.
                claim.is_settling = False
                raise
        raise AssertionError("the last try returns or raises")

    async def _made(self, session: SessionRecord, turn: SessionTurnSpec) -> Json:
        made = await self._parts.store.add_turn(session, turn.wire())
        if made is None:
            log.info("another was first with this turn", session=str(session.ref), sequence=turn.sequence)
            made = await self._parts.store.turn(session.ref, turn.sequence)
        if made is None:
            raise Temporary(f"SessionTurn {turn.sequence} of {session.ref} was there and is gone: tried again")
        return dict(made["spec"])

    # --- no turn ---

    async def _give_back(self, claim: Claim, status: Json) -> None:
        """Put the session back where it was claimed from, unless a turn may be there: then it is finished first."""
        if claim.is_settling or claim.lost.is_set():
            return
        try:
            await self._parts.claims.release(claim, {"phase": str(claim.session.resting), **status})
        except KubeError as error:
            log.warning(
                "session not given back, its claim expires", session=str(claim.session.ref), error=error.message
            )

    def _failure(self, claim: Claim, failed: RoundFailed) -> Json:
        back, now = failed.back, self._parts.clock.now()
        status: Json = {
            "failedMessage": back.failed_message,
            "failedRounds": back.failed_rounds,
            "lastError": error_wire(back.reason, back.message, now),
        }
        if isinstance(failed.error, Unready):
            refused = isinstance(failed.error, Unauthenticated)
            kind = ConditionType.AUTHENTICATION_REQUIRED if refused else ConditionType.BLOCKED
            reason = SessionReason(back.reason)
            status["conditions"] = set_condition(claim.conditions, kind, True, reason, back.message, now)
        return status
