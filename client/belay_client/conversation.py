"""What an agent asks and hears beside its work: permissions, broadcasts, and work for other agents."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from belay_api.actions import Action, Delegate, ReplayPermissions, RequestPermission, Resolved
from belay_api.messages import Broadcast, PermissionDecision
from belay_client.errors import ChannelClosed, ChannelError, UsageError
from belay_client.permissions import MAX_REPLAYED
from belay_client.session import Session

A = TypeVar("A", bound=Action)
T = TypeVar("T")


class Conversation:
    """The part of an agent's channel that is about no held work.

    Each method waits for the server's answer, across reconnects, and raises Refused when it says no, UsageError for
    arguments that can't be right, and ChannelEnded when the channel is over.
    """

    _session: Session

    async def request_permission(
        self,
        request_id: str,
        tool: str,
        *,
        description: str = "",
        input_preview: str = "",
        delegation: str | None = None,
        expires_after_seconds: int | None = None,
    ) -> str | None:
        """Ask people whether a tool may be used; returns the name of the PermissionRequest.

        The answer comes from `decisions`, also when it was given while this session was away (C5): what is open is
        replayed after each connect. With `delegation` the request expires when that work ends.
        """
        action = _built(
            RequestPermission,
            request_id=request_id,
            tool=tool,
            description=description,
            input_preview=input_preview,
            delegation=delegation,
            expires_after_seconds=expires_after_seconds,
        )
        question = self._session.permissions.ask(request_id)
        try:
            answer = await self._session.insist(action)
        except BaseException:
            self._session.permissions.drop(question)
            raise
        self._session.permissions.is_named(question, answer.name)
        return answer.name

    async def replay_permissions(self, request_ids: Iterable[str]) -> None:
        """Ask again for what was decided on these, of whatever process of this session; at most 100 at once.

        What this process has asked itself needs no such call.
        """
        ids = list(dict.fromkeys(request_ids))
        if not 1 <= len(ids) <= MAX_REPLAYED:
            raise UsageError(f"{len(ids)} request ids: give 1 to {MAX_REPLAYED} at once")
        for request_id in ids:
            self._session.permissions.expect(request_id)
        await self._session.insist(_built(ReplayPermissions, request_ids=ids))

    async def resolved(self, request_id: str) -> None:
        """Say that a request was answered elsewhere: nobody is asked any more, and no decision is waited for."""
        self._session.permissions.forget(request_id)
        await self._session.insist(_built(Resolved, request_id=request_id))

    def forget_permission(self, request_id: str) -> None:
        """Wait no more for the decision, without a word to the server."""
        self._session.permissions.forget(request_id)

    async def next_decision(self) -> PermissionDecision:
        """Wait for the next decision on what was asked; each is given out once."""
        return await self._session.permissions.decisions.next()

    def decisions(self) -> AsyncIterator[PermissionDecision]:
        """Decisions as they come, until the channel is left. Raises ChannelEnded when the server ends it."""
        return _until_closed(self.next_decision)

    async def next_broadcast(self) -> Broadcast:
        """Wait for the next broadcast to this agent; of those nobody reads only the newest 1000 are kept."""
        return await self._session.broadcasts.next()

    def broadcasts(self) -> AsyncIterator[Broadcast]:
        """Broadcasts as they come, until the channel is left. Raises ChannelEnded when the server ends it."""
        return _until_closed(self.next_broadcast)

    async def delegate(
        self,
        agent: str,
        prompt: str,
        *,
        inputs: Mapping[str, str] | None = None,
        session_id: str | None = None,
        topic: str | None = None,
        parent: str | None = None,
        priority: int = 0,
        deadline_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Hand work to another agent of the same namespace; returns the name of the Delegation (D5).

        `parent` names held work that this is a part of. Without an `idempotency_key` one is made up, so that the call
        makes one Delegation however often its answer is lost on the way.
        """
        answer = await self._session.insist(
            _built(
                Delegate,
                agent=agent,
                prompt=prompt,
                inputs=dict(inputs) if inputs else None,
                session_id=session_id,
                topic=topic,
                parent=parent,
                priority=priority,
                deadline_seconds=deadline_seconds,
                idempotency_key=idempotency_key or uuid.uuid4().hex,
            )
        )
        if answer.name is None:
            raise ChannelError("the gateway did not say which Delegation it made: is it older than this client?")
        return answer.name


def _built(kind: type[A], **fields: Any) -> A:
    try:
        return kind(**fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{kind.__name__} can't be sent: {wrong}") from error


async def _until_closed(following: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
    while True:
        try:
            message = await following()
        except ChannelClosed:
            return
        yield message
