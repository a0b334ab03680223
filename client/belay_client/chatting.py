"""`belay chat`: a conversation with a Model agent, a message at a time, each on a connection of its own.

The prompt blocks the process while a person types, and with it would every connection: none is open meanwhile.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from belay_client import chat_mail
from belay_client.chat_exchange import end, exchange
from belay_client.chat_screen import answer, screen
from belay_client.chat_story import End, Verdict
from belay_client.cluster import Where, cluster
from belay_client.console import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, complain, say
from belay_client.delegate import check_prompt, read_prompt
from belay_client.errors import UsageError
from belay_client.follow import EXIT_DELETED
from belay_client.naming import agent_ref
from belay_kube.client import Json, Kube
from belay_kube.clock import Clock, SystemClock

EXIT_LATE = 6
"""As `belay cancel` has it for what was not heard of within --timeout."""
_EXITS = {
    End.ANSWERED: 0,
    End.RETURNED: EXIT_FAILED,
    End.INTERRUPTED: EXIT_INTERRUPTED,
    End.UNREAD: EXIT_DELETED,
    End.DELETED: EXIT_DELETED,
    End.LATE: EXIT_LATE,
    End.LEFT: EXIT_INTERRUPTED,
}
_OVER = frozenset({End.DELETED, End.LEFT})
"""Ends after which there is nothing more to say."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    agent: str
    message: str | None = None
    """None: as many as are typed."""
    session: str | None = None
    timeout: float | None = None
    """Seconds for each message, all in all; None: as long as it takes."""
    json: bool = False


def chat(where: Where, wanted: Wanted, clock: Clock | None = None) -> int:
    """Talk; returns the exit code. Raises ClientError."""
    text = None if wanted.message is None else read_prompt(wanted.message)
    talk = _Talk(where, wanted, clock or SystemClock())
    if text is None:
        asyncio.run(talk.check())
    try:
        return talk.once(text) if text is not None else talk.many()
    finally:
        talk.tell_where_to_go_on()


class _Talk:
    """One conversation; its session is opened by the first message."""

    def __init__(self, where: Where, wanted: Wanted, clock: Clock) -> None:
        self._where = where
        self._namespace = where.resolved_namespace()
        self._wanted = wanted
        self._clock = clock
        self._session = wanted.session
        self._talked = False
        self._checked = False
        self._sent = False
        agent_ref(self._namespace, wanted.agent)

    async def check(self) -> None:
        """Look whether there is somebody to talk to. Raises ClientError."""
        agent = self._wanted.agent
        async with cluster(self._where) as kube:
            found = await chat_mail.model_agent(kube, self._namespace, agent)
            if self._session:
                await chat_mail.session_of(kube, self._namespace, self._session, agent)
        self._checked = True
        if found["spec"].get("suspend"):
            say(f"agent {agent} is suspended: it answers once its spec.suspend is false")

    def once(self, text: str) -> int:
        """One message; the exit code says what came of it."""
        return _EXITS[self._say(text).end]

    def many(self) -> int:
        """A message for each line that is typed, until there are no more.

        The exit code is the highest of all messages' where programs talk; a person has seen what came of each.
        """
        worst, in_person = 0, sys.stdin.isatty()
        try:
            for line in _lines(f"{self._wanted.agent}> "):
                code, is_over = self._take(line)
                worst = max(worst, code)
                if is_over:
                    return code if in_person else worst
        except KeyboardInterrupt:
            print(file=sys.stderr)
            return EXIT_INTERRUPTED
        return 0 if in_person else worst

    def tell_where_to_go_on(self) -> None:
        """Say how to go on with the conversation, if there was one."""
        if self._talked:
            say(f"to go on: belay chat {self._wanted.agent} --session {self._session} -n {self._namespace}")

    def _take(self, line: str) -> tuple[int, bool]:
        """The exit code of one line, and whether there is nothing more to say."""
        try:
            text = check_prompt(line)
        except UsageError as error:
            complain(str(error))
            return EXIT_USAGE, False
        ended = self._say(text).end
        return _EXITS[ended], ended in _OVER

    def _say(self, text: str) -> Verdict:
        verdict = asyncio.run(self._in_time(text))
        if verdict.end is End.DELETED:
            self._talked = False
        if verdict.end is not End.ANSWERED:
            say(self._sentence(verdict))
        elif not self._wanted.json:
            answer(verdict.text)
        return verdict

    async def _in_time(self, text: str) -> Verdict:
        """Say it and hear what comes of it; --timeout is for all that takes."""
        talking = asyncio.create_task(self._exchange(text))
        timeout = self._wanted.timeout
        late = [asyncio.create_task(self._clock.sleep(timeout))] if timeout is not None else []
        try:
            await asyncio.wait({talking, *late}, return_when=asyncio.FIRST_COMPLETED)
            return talking.result() if talking.done() else Verdict(End.LATE)
        finally:
            await end(talking, *late)

    async def _exchange(self, text: str) -> Verdict:
        self._sent = False
        if not self._checked:
            await self.check()
        async with cluster(self._where) as kube:
            session = await self._opened(kube)
            self._talked = True
            with screen(self._wanted.agent) as shown:
                return await exchange(
                    kube, session, text, shown, self._clock, on_sent=self._on_sent, on_turn=self._on_turn
                )

    async def _opened(self, kube: Kube) -> Json:
        """The session as it is now; the first message opens it."""
        if self._session is not None:
            return await chat_mail.session_of(kube, self._namespace, self._session, self._wanted.agent)
        session = await chat_mail.open_session(kube, self._namespace, self._wanted.agent)
        self._session = session["metadata"]["name"]
        return session

    def _on_sent(self) -> None:
        self._sent = True

    def _on_turn(self, turn: object) -> None:
        if self._wanted.json:
            print(json.dumps(turn), flush=True)

    def _sentence(self, verdict: Verdict) -> str:
        if verdict.end in (End.RETURNED, End.INTERRUPTED):
            return f"not answered: {verdict.text}"
        if verdict.end is End.UNREAD:
            return "the message was taken out of the mailbox before it was read"
        if verdict.end is End.DELETED:
            return f"session {self._namespace}/{self._session} was deleted"
        if not self._sent:
            return f"the API server did not confirm the message within {self._wanted.timeout:g}s"
        late = f"no answer within {self._wanted.timeout:g}s" if verdict.end is End.LATE else "not waited for any longer"
        return f"{late}; what was said stays in session {self._session}"


def _lines(prompt: str) -> Iterator[str]:
    """What is typed, line by line, empty ones left out. Raises KeyboardInterrupt, UsageError."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if on_terminal:
        with suppress(ImportError):
            import readline  # noqa: F401  gives `input` the arrow keys
    while True:
        try:
            line = input(prompt if on_terminal else "")
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise UsageError("what was typed is not UTF-8 text") from error
        if line.strip():
            yield line
