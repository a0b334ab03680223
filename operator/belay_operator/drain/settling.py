"""What follows from a turn, between its creation and the release; each step may be done again by who takes over (L16).

turn ─▶ its messages are deleted, or returned ─▶ delegations end ─▶ tools are called ─▶ release
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from belay_api.agentsession import SessionPhase
from belay_api.conditions import ConditionType, condition_is_true, set_condition
from belay_api.names import Ref
from belay_api.pendingmessage import MessagePhase
from belay_api.reasons import SessionReason
from belay_api.session_words import mail_flows
from belay_api.sessionturn import TurnOutcome
from belay_api.usage import Usage
from belay_kube.client import Json
from belay_kube.clock import Clock
from belay_kube.events import About
from belay_operator.decisions.landing import landed, phase_after, tool_calls
from belay_operator.drain.claims import Claim, Claims
from belay_operator.drain.history import History
from belay_operator.drain.store import Store
from belay_operator.events import Recorder
from belay_operator.metrics import Metrics
from belay_operator.observe.mailbox_records import MessageRecord, OpenCall, SessionRecord
from belay_operator.observe.mailboxes import Mailboxes
from belay_operator.observe.records import AgentRecord

log = structlog.get_logger(__name__)

Turn = Mapping[str, Any]
"""The specification of a SessionTurn (wire form)."""
_RETURNED = {TurnOutcome.BOUNCED: MessagePhase.BOUNCED, TurnOutcome.PARKED: MessagePhase.PARKED}


class Delegations(Protocol):
    """What a turn means for the delegations a session works on."""

    async def settled(self, session: SessionRecord, turn: Turn) -> None:
        """Complete or fail those that this turn ends. Raises KubeError."""


class ToolCalls(Protocol):
    """What a turn means for the tools it calls."""

    def opened(self, session: SessionRecord, agent: AgentRecord | None, blocks: list[Json]) -> list[OpenCall]:
        """The calls of an answer as they stand open from now on."""

    async def dispatch(
        self, session: SessionRecord, agent: AgentRecord | None, turn: Turn, calls: list[OpenCall]
    ) -> None:
        """Hand each call to its tool, or answer it with what is wrong with it. Raises KubeError."""

    async def closed(self, session: SessionRecord) -> None:
        """Nobody waits for the open calls any more: end what they started. Raises KubeError."""


@dataclass(frozen=True)
class Settling:
    """Carries turns out."""

    store: Store
    claims: Claims
    history: History
    delegations: Delegations
    calls: ToolCalls
    mailboxes: Mailboxes
    agent: Callable[[Ref], AgentRecord | None]
    recorder: Recorder
    metrics: Metrics
    clock: Clock

    async def settle(self, claim: Claim, turn: Turn) -> SessionRecord | None:
        """Do all that follows from a turn, and release; None when the claim is lost. Raises KubeError: do it again."""
        session = claim.session
        await self._settle_mail(session, turn)
        await self.delegations.settled(session, turn)
        calls = await self._next_calls(session, turn)
        status = landed(session, turn, calls, self.claims.identity, self.clock.now())
        self.history.add(session, dict(turn))
        released = await self.claims.release(claim, {**status, **self._conditions(claim, turn)})
        if released:
            self._tell(session, turn)
        return released

    async def _settle_mail(self, session: SessionRecord, turn: Turn) -> None:
        returned = _RETURNED.get(TurnOutcome(turn["outcome"]))
        for message in turn.get("consumed") or ():
            ref = Ref(session.ref.namespace, message["name"])
            if returned is None:
                await self.store.delete_message(ref, message["uid"])
                self._read(ref, message["uid"])
            else:
                why = turn.get("message") or ""
                written = await self.store.return_message(ref, message["uid"], returned, turn.get("reason") or "", why)
                if written:
                    self.mailboxes.put_message(MessageRecord.read(written))

    def _read(self, ref: Ref, uid: str) -> None:
        """The watch tells of it later: until then the session would be claimed for it again."""
        held = self.mailboxes.messages.get(ref)
        if held and held.uid == uid:
            self.mailboxes.drop_message(ref)

    async def _next_calls(self, session: SessionRecord, turn: Turn) -> list[OpenCall]:
        blocks = tool_calls(turn)
        if not blocks:
            if session.open_calls and phase_after(session, turn) is SessionPhase.IDLE:
                await self.calls.closed(session)
            return []
        agent = self.agent(session.agent)
        calls = self.calls.opened(session, agent, blocks)
        await self.calls.dispatch(session, agent, turn, calls)
        return calls

    def _conditions(self, claim: Claim, turn: Turn) -> Json:
        """An answer proves that mail flows and that the key is accepted: what said otherwise is taken back. A message
        that came back since nothing can be asked says that: what comes next will wait (L11)."""
        conditions, now = claim.conditions, self.clock.now()
        refused = _REFUSED.get(turn.get("reason") or "")
        if turn["outcome"] == TurnOutcome.BOUNCED and refused:
            why = turn.get("message") or ""
            return {"conditions": set_condition(conditions, refused, True, turn["reason"], why, now)}
        if turn["outcome"] != TurnOutcome.ANSWERED:
            return {}
        for kind, reason in _PROVEN.items():
            if condition_is_true(conditions, kind):
                conditions = set_condition(conditions, kind, False, str(reason), mail_flows(), now)
        return {} if conditions == claim.conditions else {"conditions": conditions}

    def _tell(self, session: SessionRecord, turn: Turn) -> None:
        outcome = TurnOutcome(turn["outcome"])
        self.metrics.model_turns.labels(str(outcome)).inc()
        self._count(session.agent, Usage.model_validate(turn.get("usage") or {}))
        log.info(
            "turn", session=str(session.ref), sequence=turn["sequence"], outcome=outcome, reason=turn.get("reason")
        )
        if outcome in _RETURNED:
            about = About("AgentSession", session.ref, session.uid)
            self.recorder.say(about, str(outcome), turn.get("message") or "", warning=True)

    def _count(self, agent: Ref, usage: Usage) -> None:
        self.metrics.model_calls.labels(*agent).inc(usage.calls)
        spent = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.cache_read_tokens,
            "cache_write": usage.cache_write_tokens,
        }
        for kind, tokens in spent.items():
            self.metrics.model_tokens.labels(*agent, kind).inc(tokens)


_REFUSED: dict[str, ConditionType] = {
    SessionReason.AUTHENTICATION_FAILED: ConditionType.AUTHENTICATION_REQUIRED,
    SessionReason.KEY_MISSING: ConditionType.AUTHENTICATION_REQUIRED,
    SessionReason.AGENT_MISSING: ConditionType.BLOCKED,
    SessionReason.PROVIDER_UNKNOWN: ConditionType.BLOCKED,
    SessionReason.SYSTEM_MISSING: ConditionType.BLOCKED,
}
"""What has to be changed before anything can be asked, by why a message came back."""
_PROVEN = {
    ConditionType.BLOCKED: SessionReason.FLOWING,
    ConditionType.AUTHENTICATION_REQUIRED: SessionReason.AUTHENTICATED,
}
