"""Why something was refused, as the metric `belay_gateway_refusals_total{reason}` counts it: each refusal once, by a
word of a closed set, never by anything that a peer said (docs/security.md)."""

from enum import StrEnum
from http import HTTPStatus
from typing import Final

from prometheus_client import Counter

from belay_api.messages import ErrorCode


class Why(StrEnum):
    """What is refused before or beside an answer of the protocol, which has a code of its own."""

    BAD_HTTP = "bad_http"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    TOO_MANY_HANDSHAKES = "too_many_handshakes"
    SHUTTING_DOWN = "shutting_down"
    ORIGIN = "origin"
    SUBPROTOCOL = "subprotocol"
    NOT_WEBSOCKET = "not_websocket"
    BEARER_IN_URL = "token_in_url"
    BEARER_TOO_LONG = "token_too_long"
    UNAUTHORIZED = "unauthorized"
    REVIEW_UNAVAILABLE = "review_unavailable"
    TOO_MANY_SOCKETS = "too_many_sockets"

    MALFORMED = "malformed"
    BINARY = "binary"
    INVALID_UTF8 = "invalid_utf8"
    FRAME_TOO_LONG = "frame_too_long"
    BAD_FRAME = "bad_frame"
    NOT_SUBSCRIBED = "not_subscribed"
    TOPIC_ACTION = "topic_action"
    FLOOD = "flood"
    SLOW_CONSUMER = "slow_consumer"
    CLOSE_TIMEOUT = "close_timeout"

    BEARER_ENDED = "token_ended"
    REVOKED = "revoked"
    REVIEW_OVERDUE = "review_overdue"


_SUBSCRIBE: Final = "subscribe_{}"
_ACTION: Final = "action_{}"
_HTTP: Final = "http_{}"


class Refusals:
    """Counts. What is counted is typed, so that no label can come from a peer."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        coded = (form.format(code) for form in (_SUBSCRIBE, _ACTION) for code in ErrorCode)
        for label in (*Why, *coded):
            counter.labels(str(label))  # there from the start, at zero: a rate needs something to start from

    def count(self, why: Why) -> None:
        """A connection, a frame or a live socket was refused."""
        self._counter.labels(str(why)).inc()

    def subscribe(self, code: ErrorCode) -> None:
        """A subscribe was rejected."""
        self._counter.labels(_SUBSCRIBE.format(code)).inc()

    def action(self, code: ErrorCode) -> None:
        """An action of an agent was answered with an error."""
        self._counter.labels(_ACTION.format(code)).inc()

    def request(self, status: HTTPStatus) -> None:
        """A request of the HTTP API was answered with a problem."""
        self._counter.labels(_HTTP.format(int(status))).inc()
