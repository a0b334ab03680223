"""Which of the client's requests have no answer yet, and whether it has initialised as MCP has it."""

import asyncio

from mcp.types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

_INITIALIZE = "initialize"
_INITIALIZED = "notifications/initialized"


class Exchanges:
    """Watches the messages of one connection. `ready` and `quiet` are events to wait for."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        """`initialize` was answered with a result, and the client has said that it is initialised."""
        self.quiet = asyncio.Event()
        """Every request has its answer."""
        self.quiet.set()
        self._unanswered: set[RequestId] = set()
        self._greeting: RequestId | None = None
        self._greeted = False
        self._said = False

    def came(self, message: JSONRPCMessage) -> None:
        """One came from the client."""
        root = message.root
        if isinstance(root, JSONRPCRequest):
            self._unanswered.add(root.id)
            self.quiet.clear()
            if root.method == _INITIALIZE:
                self._greeting = root.id
        elif isinstance(root, JSONRPCNotification) and root.method == _INITIALIZED:
            self._said = self._greeting is not None
        self._look()

    def went(self, message: JSONRPCMessage) -> None:
        """One went to the client."""
        root = message.root
        if isinstance(root, JSONRPCResponse | JSONRPCError):
            self._unanswered.discard(root.id)
        if isinstance(root, JSONRPCResponse) and root.id == self._greeting:
            self._greeted = True
        self._look()

    def _look(self) -> None:
        if not self._unanswered:
            self.quiet.set()
        if self._said and self._greeted:
            self.ready.set()
