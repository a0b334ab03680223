"""Where a chat is shown: news and progress on standard error, answers on standard output."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.status import Status
from rich.text import Text

from belay_client.chat_story import Line, Now, Tone
from belay_client.chat_words import clean, more
from belay_client.follow import printable

_TAIL_CHARS = 160
_STYLES = {Tone.CALL: "cyan", Tone.RESPONSE: "green", Tone.WAITS: "yellow", Tone.TROUBLE: "red", Tone.TURN: "dim"}


class Screen(Protocol):
    """What shows one exchange."""

    def tell(self, line: Line) -> None:
        """This has happened."""
        ...

    def show(self, now: Now) -> None:
        """It stands so now."""
        ...


class Plain:
    """A line for each piece of news, and for what an answer has grown by, where there is no terminal."""

    def __init__(self) -> None:
        self._shown = ""

    def tell(self, line: Line) -> None:
        """Print it."""
        self._print(line.text)

    def show(self, now: Now) -> None:
        """Print what the answer has grown by."""
        piece = more(self._shown, now.progress or "")
        self._shown = now.progress or ""
        if piece.strip():
            self._print(f"… {printable(piece)}")

    def _print(self, text: str) -> None:
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


class Live:
    """News above, and one line below that tells what goes on."""

    def __init__(self, console: Console, status: Status, agent: str) -> None:
        self._console = console
        self._status = status
        self._agent = agent

    def tell(self, line: Line) -> None:
        """Print it above."""
        self._console.print(Text(line.text, style=_STYLES.get(line.tone, "")))

    def show(self, now: Now) -> None:
        """Replace the line below."""
        tail = printable(now.progress or "")[-_TAIL_CHARS:].strip()
        self._status.update(Text(f"{self._agent} {now.doing}" + (f": …{tail}" if tail else "")))


@contextmanager
def screen(agent: str, console: Console | None = None) -> Iterator[Screen]:
    """A live line on a terminal, else plain lines; both on standard error."""
    shown = console or Console(stderr=True, highlight=False, markup=False)
    if not shown.is_terminal:
        yield Plain()
        return
    with shown.status(Text(f"{agent} waits in the mailbox")) as status:
        yield Live(shown, status, agent)


def answer(text: str) -> None:
    """Print an answer: as it is for programs, without control characters for a terminal."""
    print(clean(text) if sys.stdout.isatty() else text, flush=True)
