"""How a socket is closed by the gateway: the cable's last frame, the WebSocket's code, the reason in the row."""

import json
from typing import Final

from aiohttp import WSCloseCode

from belay_api.frames import Disconnect, DisconnectReason
from belay_api.reasons import SubscriptionReason

_CODES: Final = {
    DisconnectReason.UNAUTHORIZED: WSCloseCode.POLICY_VIOLATION,
    DisconnectReason.PROTOCOL: WSCloseCode.POLICY_VIOLATION,
    DisconnectReason.SERVER_RESTART: WSCloseCode.SERVICE_RESTART,
    DisconnectReason.SLOW: WSCloseCode.TRY_AGAIN_LATER,
    DisconnectReason.FLOOD: WSCloseCode.TRY_AGAIN_LATER,
    DisconnectReason.UNAVAILABLE: WSCloseCode.TRY_AGAIN_LATER,
}
_LOST_BY: Final = {
    DisconnectReason.SILENT: SubscriptionReason.SILENT,
    DisconnectReason.SLOW: SubscriptionReason.CONNECTION_LOST,
    DisconnectReason.SERVER_RESTART: SubscriptionReason.GATEWAY_SHUTDOWN,
}


def close_code(reason: DisconnectReason) -> WSCloseCode:
    """The WebSocket's code that goes with it."""
    return _CODES.get(reason, WSCloseCode.OK)


def lost_by(reason: DisconnectReason) -> SubscriptionReason:
    """What the row says of a session that was lost by it."""
    return _LOST_BY.get(reason, SubscriptionReason.CLOSED)


def disconnect_frame(reason: DisconnectReason, reconnect: bool, message: str = "") -> str:
    """The cable's last frame; `message` is for people."""
    return json.dumps(Disconnect(reason=reason, reconnect=reconnect, message=message or None).wire())
