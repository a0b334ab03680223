"""Actions under way, by the session they speak for: those of a socket that is gone count as much as those of the
socket that took its place, so that nobody is told how things stand while an old write is still on its way (C9, P5).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from belay_api.names import Ref
from belay_gateway.sockets import Session
from belay_gateway.tasks import KeyedLocks

Who = tuple[Ref, str]
ALL = ""
"""Stands for the whole session, where else a delegation is named."""


def who(session: Session) -> Who:
    """What stays the same when the socket changes."""
    return session.agent, session.session_id


class Acting:
    """Every attachment that has actions under way, attached still or not."""

    def __init__(self) -> None:
        self._acting: dict[Who, set[Session]] = {}
        self._writing: dict[Session, set[asyncio.Task[Any]]] = {}
        self._locks = KeyedLocks()

    def enter(self, session: Session, name: str) -> None:
        """An action on delegation `name` begins."""
        session.in_flight[name] += 1
        self._acting.setdefault(who(session), set()).add(session)

    def leave(self, session: Session, name: str) -> None:
        """It ended."""
        session.in_flight[name] -= 1
        if session.in_flight[name] <= 0:
            del session.in_flight[name]
        if not session.in_flight:
            sessions = self._acting[who(session)]
            sessions.discard(session)
            if not sessions:
                del self._acting[who(session)]

    def _delegations(self, speaker: Who) -> set[str]:
        """Those that any socket of this session id has actions on."""
        return {name for session in self._acting.get(speaker, ()) for name in session.in_flight} - {ALL}

    @asynccontextmanager
    async def turn(self, speaker: Who, name: str) -> AsyncIterator[None]:
        """One after another for one delegation; what concerns the whole session waits for all that came before, on
        whichever of its sockets, or by HTTP."""
        if name == ALL:
            for other in self._delegations(speaker):
                async with self._locks.hold((*speaker, other)):
                    continue
        async with self._locks.hold((*speaker, name)):
            yield

    @contextmanager
    def writing(self, session: Session | None) -> Iterator[None]:
        """While the current task may have a write of the session on its way; one attached elsewhere is not waited for
        here."""
        if session is None:
            yield
            return
        task = asyncio.current_task()
        tasks = self._writing.setdefault(session, set())
        if task:
            tasks.add(task)
        try:
            yield
        finally:
            if task:
                tasks.discard(task)
            if not tasks:
                self._writing.pop(session, None)

    async def fence(self, latest: Session, seconds: float) -> None:
        """Let the other attachments of this session id write nothing more; what was sent already may arrive."""
        others = self._acting.get(who(latest), set()) - {latest}
        for session in others:
            session.fenced = True
        sent = {task for session in others for task in self._writing.get(session, ())}
        if sent:
            await asyncio.wait(sent, timeout=seconds)
