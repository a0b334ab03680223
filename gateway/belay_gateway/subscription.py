"""What may stand behind an identifier of a socket, whether an agent's session or a listener of a topic."""

from typing import Protocol

from belay_api.messages import ErrorCode
from belay_api.reasons import SubscriptionReason
from belay_gateway.auth import User


class Rejected(Exception):
    """A subscribe that is refused: `code` and a sentence that says what to do."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Subscription(Protocol):
    """One subscription of one socket."""

    def confirmed(self) -> None:
        """The peer has been told; messages may flow."""

    def receive(self, data: str | None, /) -> None:
        """A message of the peer. Never waits."""

    def end(self, why: SubscriptionReason, /) -> None:
        """The socket or the subscription ends. Never waits; called at most once."""

    def stale_after(self) -> float | None:
        """Seconds of silence after which the peer is lost; None when this asks for nothing of its own."""

    async def still_allowed(self, user: User) -> bool:
        """Whether `user` still may have this. Raises KubeError."""
