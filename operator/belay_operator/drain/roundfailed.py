"""Rounds that came to nothing: what is told of them in the status of their session (L10, L11)."""

from datetime import datetime

from belay_api.conditions import ConditionType, set_condition
from belay_api.reasons import SessionReason
from belay_kube.client import Json
from belay_operator.decisions import rounds
from belay_operator.decisions.landing import error_wire
from belay_operator.decisions.picking import Picked
from belay_operator.drain.configuration import Signature
from belay_operator.drain.llm.base import LlmError, Unauthenticated, Unready
from belay_operator.observe.mailbox_records import SessionRecord


class RoundFailed(Exception):
    """No answer came, and the mail is as it was (L10) or was returned since nothing can be asked (L11).

    `error` says why, `rounds` how often in a row, `rested_on` with which configuration.
    """

    def __init__(self, error: LlmError, back: rounds.Back | None = None, rested_on: Signature = ()) -> None:
        super().__init__(error.message)
        self.error = error
        self.back = back
        self.rested_on = rested_on

    @property
    def rounds(self) -> int:
        """How many rounds of the same message failed in a row."""
        return self.back.failed_rounds if self.back else 0

    def told(self, conditions: list[Json], now: datetime) -> Json:
        """What the status says of it, `conditions` being what it has."""
        back = self.back
        if back is None:
            return {}
        status: Json = {
            "failedMessage": back.failed_message,
            "failedRounds": back.failed_rounds,
            "lastError": error_wire(back.reason, back.message, now),
        }
        if isinstance(self.error, Unready):
            refused = isinstance(self.error, Unauthenticated)
            kind = ConditionType.AUTHENTICATION_REQUIRED if refused else ConditionType.BLOCKED
            reason = SessionReason(back.reason)
            status["conditions"] = set_condition(conditions, kind, True, reason, back.message, now)
        return status


def kept(error: LlmError, picked: Picked, session: SessionRecord) -> rounds.Back:
    """All mail stays, however often this happened."""
    verdict = rounds.after_failure(error, picked, session)
    if isinstance(verdict, rounds.Back):
        return verdict
    uid = verdict.mail[0].record.uid
    return rounds.Back(uid, rounds.MOST_FAILED_ROUNDS, verdict.reason, verdict.message)
