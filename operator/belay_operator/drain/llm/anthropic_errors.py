"""What comes of each failure of the Messages API, in one place (DESIGN.md section 5, L10 to L12)."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anthropic

from belay_api.reasons import SessionReason
from belay_operator.drain.llm.base import LlmError, Passing, Rejected, Unauthenticated

MOST_RETRY_AFTER = 600.0
"""Seconds; who asks for more is asked again after these."""

_MOST_SAID = 512
_MOST_REPEATED = 256
"""Of what the other side says of an error, in characters: whoever that is writes into status and Events."""
_OVERLOADED = frozenset({429, 503, 529})
_TIMEOUTS = frozenset({408, 409})
"""Passing though they are 4xx: the request took too long, and it waited too long for another."""
_STATUS_OF_TYPE = {
    "authentication_error": 401,
    "permission_error": 403,
    "invalid_request_error": 400,
    "billing_error": 402,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "timeout_error": 504,
}
"""What an error within a stream, which has status 200, would have been before it began; any other is passing."""


@dataclass(frozen=True)
class Asked:
    """Who was asked for what, for messages; none of them ever holds the key."""

    model: str
    host: str
    key: str

    def saying(self, what: str) -> str:
        """`what` in one bounded line that begins with the model and its host; the key is blotted out."""
        return self.line(f"{self.model} at {self.host} {what}", _MOST_SAID)

    def line(self, text: str, most: int) -> str:
        """`text` in one line of at most `most` characters; the key is blotted out before anything is cut."""
        line = " ".join(text.replace(self.key, "***").split())
        printable = "".join(one for one in line if one.isprintable())
        return printable if len(printable) <= most else printable[: most - 1] + "…"


def of_status(error: anthropic.APIStatusError, asked: Asked, now: datetime) -> LlmError:
    """An answer that is an error, or an error where an answer was expected to go on."""
    within = error.status_code == 200
    status = _STATUS_OF_TYPE.get(str(error.type), 500) if within else error.status_code
    how = "broke off its answer" if within else f"answered {status}"
    message = asked.saying(f"{how}: {asked.line(_said(error), _MOST_REPEATED)}")
    if status in (401, 403):
        return Unauthenticated(message, SessionReason.AUTHENTICATION_FAILED)
    if status < 500 and status not in _OVERLOADED | _TIMEOUTS:
        return Rejected(message, SessionReason.REJECTED)
    reason = SessionReason.OVERLOADED if status in _OVERLOADED else SessionReason.UNREACHABLE
    return Passing(message, reason, retry_after(error.response.headers.get("retry-after"), now))


def unreachable(error: Exception, asked: Asked) -> Passing:
    """The connection could not be made, was silent for too long, or broke."""
    cause = error.__cause__ or error
    said = str(cause) or type(cause).__name__
    return Passing(asked.saying(f"gave no whole answer: {said}"), SessionReason.UNREACHABLE)


def too_slow(seconds: float, asked: Asked) -> Passing:
    """It goes on for too long."""
    return Passing(asked.saying(f"gave no whole answer within {seconds:g}s"), SessionReason.UNREACHABLE)


def broken_off(asked: Asked) -> Passing:
    """The stream ended before the answer did."""
    return Passing(asked.saying("broke off its answer: the stream ended before it"), SessionReason.UNREACHABLE)


def senseless(why: str, asked: Asked) -> Rejected:
    """Whoever answered doesn't speak the Messages API."""
    return Rejected(
        asked.saying(f"gave an answer that makes no sense, {why}: check spec.model.baseURL"), SessionReason.REJECTED
    )


def retry_after(given: str | None, now: datetime) -> float | None:
    """Seconds of a `retry-after` header, which says them or a date; None when it says neither."""
    seconds = _seconds(given or "", now)
    return None if seconds is None or not math.isfinite(seconds) else min(max(seconds, 0.0), MOST_RETRY_AFTER)


def _seconds(given: str, now: datetime) -> float | None:
    try:
        return float(given)
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(given)
    except (ValueError, OverflowError):
        return None
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()


def _said(error: anthropic.APIStatusError) -> str:
    of_body = error.body if isinstance(error.body, str) else None
    return str(error.api_message or of_body or error.type or error.message)
