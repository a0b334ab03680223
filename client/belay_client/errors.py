"""What can go wrong here, as one tree; each text is one sentence that names what, with what, and what to do.

ClientError
 ├── UsageError           a flag, a name or a file that can't be right
 └── ChannelError         between an agent and its gateway
      ├── Unreachable     no gateway there, the connection broke off, or it can't serve now: another try may help
      ├── ChannelEnded    the session is over for good
      │    ├── Unauthorized   the token isn't accepted
      │    ├── Rejected       the gateway refused the subscription (`code`)
      │    ├── Replaced       another process attached as the same session
      │    └── ChannelClosed  the channel was left by its own side
      ├── Refused         the gateway refused one action (`code`)
      ├── WorkOver        the action is on work that has already ended
      └── ResultTooLarge  (also a ValueError) more than a result may hold
"""

from belay_api.frames import DisconnectReason
from belay_api.messages import ErrorCode


class ClientError(Exception):
    """Everything this package reports by itself."""


class UsageError(ClientError):
    """A flag, a name or a file that can't be right."""


class ChannelError(ClientError):
    """Between an agent and its gateway."""


class Unreachable(ChannelError):
    """Passes by itself: no answer, a broken connection, or a gateway that can't serve now."""


class ChannelEnded(ChannelError):
    """The session is over, and coming back would not help."""


class Unauthorized(ChannelEnded):
    """The gateway does not accept the token."""


class Rejected(ChannelEnded):
    """The gateway refused the subscription; `code` is its word for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Replaced(ChannelEnded):
    """Another process attached as the same session; its list of held work counts now."""


class ChannelClosed(ChannelEnded):
    """The channel was left by its own side."""


class Refused(ChannelError):
    """The gateway refused one action, which changed nothing."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class WorkOver(ChannelError):
    """The work has ended: it was answered already, or the server took it away."""


class ResultTooLarge(ChannelError, ValueError):
    """A result over 64 KiB of UTF-8, or one that does not fit a frame."""


_ENDINGS = {
    DisconnectReason.AGENT_DELETED: "the agent was deleted",
    DisconnectReason.PROTOCOL: "the gateway did not understand this client; do their versions fit?",
    DisconnectReason.FLOOD: "the gateway closed the channel: too many frames at once",
    DisconnectReason.REMOTE: "the session was ended by someone else",
}


def ended_by(reason: str, gateway: str) -> ChannelEnded:
    """The error of a `disconnect` that says not to come back."""
    if reason == DisconnectReason.UNAUTHORIZED:
        return unauthorized(gateway)
    if reason == DisconnectReason.REPLACED:
        return Replaced("another process attached as the same session; give each process its own session id")
    said = next((text for known, text in _ENDINGS.items() if known == reason), "the gateway ended the channel")
    return ChannelEnded(f"{said} ({reason or 'no reason given'})")


def unauthorized(gateway: str) -> Unauthorized:
    """The error of an answer 401 or 403 at the upgrade, or of a `disconnect` for that reason."""
    return Unauthorized(f"the gateway at {gateway} does not accept the token: is it current and for its audience?")
