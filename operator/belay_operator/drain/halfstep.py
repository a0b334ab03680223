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

from belay_api.reasons import SessionReason
from belay_api.session_words import not_stored, unexpected
from belay_api.sessionturn import Block, SessionTurnSpec
from belay_kube.client import Json
from belay_kube.clock import Clock
from belay_kube.errors import Forbidden, KubeError, Permanent, Unauthorized
from belay_operator.decisions import conversation, picking, rounds, turns
from belay_operator.decisions.interrupts import interrupt_wanted
from belay_operator.decisions.picking import Picked
from belay_operator.decisions.turns import Span
from belay_operator.drain.answering import Answering
from belay_operator.drain.asking import CutShort, Interrupt, unless
from belay_operator.drain.claims import Claim, Claims
from belay_operator.drain.llm.base import Answer, LlmError, Rejected, Unready
from belay_operator.drain.pool import Slot
from belay_operator.drain.roundfailed import RoundFailed, kept
from belay_operator.drain.settling import Settling
from belay_operator.drain.store import Store
from belay_operator.drain.writing import Writing
from belay_operator.observe.mailbox_records import Mail, MessageRecord, SessionRecord
from belay_operator.observe.mailboxes import Mailboxes

log = structlog.get_logger(__name__)

_READ_AT_ONCE = 16


@dataclass(frozen=True)
class Parts:
    """What half-steps work with."""

    store: Store
    claims: Claims
    mailboxes: Mailboxes
    answering: Answering
    settling: Settling
    writing: Writing
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
        self._refusal: Unready | None = None
        self._gone = asyncio.Event()
        self.interrupt = Interrupt()
        self._began_cut = False
        """Whether it was begun for an interrupt: then no message is under way."""
        self.answering: frozenset[str] = frozenset()
        """The delegations that the answer is for."""
        self.concern: frozenset[str] = frozenset()
        """The same; empty when it is for somebody else, too."""

    @property
    def asks(self) -> bool:
        """Whether it may come to ask the model, for which it needs a place in the pool."""
        return self._may_ask and not self.interrupt.asked

    @property
    def progress(self) -> str:
        """The end of the answer as it grows."""
        return self._claim.progress if self._claim else ""

    def learn(self, lost: frozenset[str]) -> None:
        """These have ended by now."""
        self._lost = lost

    def let_go(self) -> None:
        """The session is gone."""
        self._gone.set()
        if self._claim:
            self._claim.lost.set()

    async def has_place(self, slot: Slot) -> bool:
        """Take a place in the pool; False when that was no use any more before there was one."""
        try:
            await unless(slot.take(), self._gone, self.interrupt)
        except CutShort:
            return False
        return True

    async def run(self, session: SessionRecord, slot: Slot) -> bool:
        """Go one half-step; False when there was none to go. Raises KubeError, RoundFailed."""
        self._began_cut = self.interrupt.asked
        claim = self._claim = await self._parts.claims.take(session)
        if claim is None:
            return False
        if self._gone.is_set():
            claim.lost.set()
        async with self._parts.claims.kept(claim):
            turn = await self._guarded(claim, slot)
            slot.leave()
            went = turn is not None and await self._parts.settling.settle(claim, turn) is not None
        if self._refusal:
            raise RoundFailed(self._refusal, rested_on=claim.rests_on)
        return went

    async def _guarded(self, claim: Claim, slot: Slot) -> Json | None:
        """The turn to settle; without one the session is given back as it was."""
        try:
            turn = await self._turn(claim, slot)
        except RoundFailed as failed:
            turn = await self._give_back(claim, failed.told(claim.conditions, self._parts.clock.now()))
            if turn is None:
                raise
        except CutShort:
            return None
        except asyncio.CancelledError:
            # Who drains it next need not wait for the claim to expire.
            await asyncio.shield(self._try_to_give_back(claim))
            raise
        except Exception:
            await self._try_to_give_back(claim)
            raise
        return turn if turn is not None else await self._give_back(claim, {})

    # --- the turn ---

    async def _turn(self, claim: Claim, slot: Slot) -> Json | None:
        """The specification of the turn that was made, by whomever; None when there is nothing to do."""
        left_behind = await self._parts.writing.left_behind(claim)
        if left_behind:
            return left_behind
        session = claim.session
        mail = await self._mail(session)
        given_up = self._given_up(claim, mail)
        if given_up:
            slot.leave()
            return await self._parts.writing.write(claim, given_up)
        picked = picking.pick(session, mail, self._may_be_read)
        return await self._round(claim, mail, picked, slot) if picked.mail and self._may_ask else None

    async def _mail(self, session: SessionRecord) -> list[Mail]:
        """What a round may be made of, with what it says, by live reads; each in its place."""
        seen = picking.candidates(session, self._waiting(session), self._may_be_read)
        found: list[Mail] = []
        for start in range(0, len(seen), _READ_AT_ONCE):
            some = seen[start : start + _READ_AT_ONCE]
            objects = await asyncio.gather(*(self._parts.store.message(record.ref) for record in some))
            found += (Mail.read(obj, record) for obj, record in zip(objects, some, strict=True) if obj)
        return found

    def _waiting(self, session: SessionRecord) -> list[MessageRecord]:
        return self._parts.mailboxes.mail_of(session.ref)

    def _may_be_read(self, message: MessageRecord) -> bool:
        return message.delegation is None or self._pickable(message.delegation)

    def _given_up(self, claim: Claim, mail: Sequence[Mail]) -> SessionTurnSpec | None:
        """What takes mail out that nobody waits for any more (L17); None: somebody does."""
        session = claim.session
        dead = turns.abandoned(self._waiting(session), self._lost)
        if self.interrupt.asked or interrupt_wanted(session, self._lost.__contains__):
            active = self._about_to_be_read(session, mail)
            self._parts.claims.refresh(claim)
            return turns.interrupted(claim.session, mail, dead, self._lost, active, self._span())
        return turns.taken_out(session, dead, self._span()) if dead else None

    def _about_to_be_read(self, session: SessionRecord, mail: Sequence[Mail]) -> MessageRecord | None:
        """The message that an interrupt is about which came after the claim: to who asked, its round has begun."""
        if self._began_cut or not self.interrupt.asked:
            return None
        picked = picking.pick(session, mail, self._may_be_read)
        return picked.active.record if picked.active else None

    async def _round(self, claim: Claim, mail: Sequence[Mail], picked: Picked, slot: Slot) -> Json:
        """The turn that answers a round, or returns what can't be answered. Raises RoundFailed when the mail stays,
        CutShort when the claim is lost."""
        begun = self._span()
        self._concerns(claim.session, picked)
        blocks = conversation.user_blocks(picked)
        try:
            answer = await self._answer(claim, blocks, slot)
        except CutShort:
            if claim.lost.is_set():
                raise
            active = picked.active.record if picked.active else None
            self._parts.claims.refresh(claim)
            dead = turns.abandoned(self._waiting(claim.session), self._lost)
            made = turns.interrupted(claim.session, mail, dead, self._lost, active, self._span(begun))
            return await self._parts.writing.write(claim, made)
        except LlmError as error:
            return await self._failed(claim, picked, error, begun)
        return await self._stored(claim, picked, await self._answered(claim, picked, blocks, answer, begun))

    async def _stored(self, claim: Claim, picked: Picked, turn: SessionTurnSpec) -> Json:
        """Write an answer; what can't be written at all is a failed round. Raises RoundFailed."""
        try:
            return await self._parts.writing.write(claim, turn)
        except Unauthorized:
            raise
        except Forbidden as error:
            # A quota, a right that was taken away, no word from etcd: nothing could be put aside, either.
            refused = LlmError(not_stored(error.said or error.message), SessionReason.NOT_STORED)
            raise RoundFailed(refused, kept(refused, picked, claim.session), claim.rests_on) from error
        except Permanent as error:
            unfit = Rejected(not_stored(error.said or error.message), SessionReason.NOT_STORED)
            return await self._failed(claim, picked, unfit, self._span())

    async def _answer(self, claim: Claim, blocks: Sequence[Block], slot: Slot) -> Answer:
        """The place in the pool is left with it: what is written may take its time. Raises LlmError, for what nobody
        foresaw as well: a message that always fails is put aside some time."""
        try:
            return await self._parts.answering.answer(claim, blocks, slot, self.interrupt)
        except (LlmError, KubeError, CutShort):
            raise
        except Exception as error:
            log.exception("asking a model failed unexpectedly", session=str(claim.session.ref))
            raise LlmError(unexpected(repr(error)), SessionReason.UNREACHABLE) from error
        finally:
            slot.leave()

    async def _answered(
        self, claim: Claim, picked: Picked, blocks: Sequence[Block], answer: Answer, begun: Span
    ) -> SessionTurnSpec:
        session = claim.session
        taken = await self._parts.answering.taken_ids(session)
        said = rounds.after_answer(session, answer.blocks, session.turns + 1, taken)
        return turns.answered(session, picked, blocks, said, answer, self._span(begun))

    async def _failed(self, claim: Claim, picked: Picked, error: LlmError, begun: Span) -> Json:
        """The turn that returns mail. Raises RoundFailed when it stays."""
        verdict = rounds.after_failure(error, picked, claim.session)
        if isinstance(verdict, rounds.Back):
            raise RoundFailed(error, verdict, claim.rests_on) from error
        self._refusal = error if isinstance(error, Unready) else None
        return await self._parts.writing.write(claim, turns.returned(claim.session, verdict, self._span(begun)))

    def _concerns(self, session: SessionRecord, picked: Picked) -> None:
        active = picked.active.record if picked.active else None
        new = {active.delegation} if active and active.delegation else set()
        self.answering = frozenset({*session.serving, *new})
        self.concern = self.answering if active is None or new else frozenset()

    def _span(self, begun: Span | None = None) -> Span:
        now = self._parts.clock.now()
        return Span(begun.started if begun else now, now)

    # --- no turn ---

    async def _give_back(self, claim: Claim, status: Json) -> Json | None:
        """Put the session back where it was claimed from, unless a turn may be there: then it is finished first. The
        turn that who held it before, and was only late, has made since, to be settled. Raises KubeError."""
        if claim.is_settling or claim.lost.is_set():
            return None
        turn = await self._parts.writing.left_behind(claim)
        if turn is None:
            await self._parts.claims.release(claim, {"phase": str(claim.session.resting), **status})
        return turn

    async def _try_to_give_back(self, claim: Claim) -> None:
        """The same where something worse is to be told than that this failed: the claim expires."""
        try:
            await self._give_back(claim, {})
        except KubeError as error:
            log.warning("session not given back", session=str(claim.session.ref), error=error.message)
