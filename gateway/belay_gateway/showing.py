"""Offers on their way to peers: they wait here, by name only, until the peer has read what it was sent before. So a
peer that reads is never drowned by the work there is, and one that doesn't costs no memory.
"""

from collections.abc import Callable

from belay_gateway.sockets import Peer, Session

Show = Callable[[Session, str, Callable[[], None]], None]
"""Shows an offer to a session, if there still is one; the callback is called once it was put on the wire."""


class Showing:
    """What waits to be shown, by peer."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._waiting: dict[Peer, dict[Session, None]] = {}

    def soon(self, session: Session, name: str) -> None:
        """Show an offer as soon as its peer has room."""
        session.pending[name] = None
        self._waiting.setdefault(session.peer, {})[session] = None
        self.fill(session.peer)

    def fill(self, peer: Peer) -> None:
        """Show as many as there is room for."""
        sessions = self._waiting.get(peer, {})
        for session in tuple(sessions):
            self._fill_from(session)
            if not session.pending:
                sessions.pop(session, None)
        if not sessions:
            self._waiting.pop(peer, None)

    def fill_all(self) -> None:
        """Look after those whose room came back without an offer being sent."""
        for peer in tuple(self._waiting):
            self.fill(peer)

    def _fill_from(self, session: Session) -> None:
        peer = session.peer
        if not session.is_open:
            session.pending.clear()
        while session.pending and peer.has_room():
            name = next(iter(session.pending))
            del session.pending[name]
            self._show(session, name, lambda: self.fill(peer))
