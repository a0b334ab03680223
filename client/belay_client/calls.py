"""Actions that wait for their answer, by `ref`; those without one outlive the socket and are sent again on the next."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from belay_api.actions import Accept, Action
from belay_api.messages import Ack
from belay_api.messages import Error as ErrorFrame
from belay_client.cable import ANSWER_SECONDS, Cable, encode
from belay_client.errors import Refused, Unreachable
from belay_kube.clock import Clock

_WIDEST_IDENTIFIER = "-" * 512


@dataclass(eq=False)
class Call:
    """One action, the cable it last went out on and when, and its answer."""

    action: Action
    answer: asyncio.Future[Ack] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    sent_on: Cable | None = None
    sent_at: float = 0.0
    """In the clock's monotonic seconds."""


class Calls:
    """The actions of one session. They go out once a cable is open, that is after its `resume` was answered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[int, Call] = {}
        self._last_ref = 0
        self._cable: Cable | None = None
        self._over: Exception | None = None

    async def call(self, action: Action) -> Ack:
        """Send, now or when there is a connection again, and wait for the answer.

        Raises Refused for an answer `error`, ResultTooLarge, and ChannelEnded when no answer can come any more.
        """
        if self._over:
            raise self._over
        self._last_ref += 1
        ref = self._last_ref
        call = Call(action.model_copy(update={"ref": ref}))
        encode(_WIDEST_IDENTIFIER, call.action)
        self._waiting[ref] = call
        try:
            await self.flush()
            return await call.answer
        finally:
            self._waiting.pop(ref, None)

    def answer(self, message: Ack | ErrorFrame) -> None:
        """Give an answer to whom it is for; one that nobody waits for is dropped."""
        call = self._waiting.get(message.ref) if isinstance(message.ref, int) else None
        if call is None or call.answer.done():
            return
        if isinstance(message, Ack):
            call.answer.set_result(message)
        else:
            call.answer.set_exception(Refused(message.code, message.message))

    @property
    def connected(self) -> bool:
        """Whether actions go out at once."""
        return self._cable is not None

    def sent(self, kind: type[Accept], name: str, attempt: int) -> bool:
        """Whether such an action has gone out, on any cable, and has no answer yet: it may have been carried out."""
        return any(
            isinstance(call.action, kind) and (call.action.name, call.action.attempt) == (name, attempt)
            for call in self._waiting.values()
            if call.sent_on is not None
        )

    def use(self, cable: Cable) -> None:
        """Send on `cable` from now on; follow it by `flush`."""
        self._cable = cable

    async def flush(self) -> None:
        """Send everything that has no answer and has not gone out on this cable, in the order it was called."""
        for call in list(self._waiting.values()):
            cable = self._cable
            if cable is None:
                return
            if call.sent_on is cable or call.answer.done():
                continue
            call.sent_on, call.sent_at = cable, self._clock.monotonic()
            try:
                await cable.send(call.action)
            except Unreachable:
                return  # the reader notices too, and the next cable takes it up

    def overdue(self) -> str | None:
        """The name of an action that this cable brings no answer to."""
        late = self._clock.monotonic() - ANSWER_SECONDS
        for call in self._waiting.values():
            if call.sent_on is not None and call.sent_on is self._cable and call.sent_at <= late:
                return type(call.action).__name__
        return None

    def close(self) -> None:
        """The cable broke: keep what has no answer for the next."""
        self._cable = None

    def drop(self, unwanted: Callable[[Action], bool], error: Exception) -> None:
        """End the wait of those actions that need not be sent again."""
        for call in self._waiting.values():
            if unwanted(call.action) and not call.answer.done():
                call.answer.set_exception(error)

    def end(self, error: Exception) -> None:
        """No answer can come any more: each wait, and each later call, ends with `error`."""
        self._cable = None
        self._over = error
        self.drop(lambda _: True, error)
