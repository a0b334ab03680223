"""Scripts for the echo provider: what the lines that begin with `::` in a text ask for (see `echo`)."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from belay_api.reasons import SessionReason
from belay_operator.drain.llm.base import Rejected

RESULT = "{result}"
_LINE = re.compile(r"^::(call|fail|repeat|say|stop|then|wait)(?:[ \t]+(.*))?$")
_MOST_SECONDS = 86400.0


@dataclass(frozen=True)
class Say:
    """Words; RESULT stands for the results just received."""

    text: str


@dataclass(frozen=True)
class Repeat:
    """The same words so many times, without what would parse or store them all at once."""

    text: str
    times: int


@dataclass(frozen=True)
class Call:
    """A tool call, its arguments as they were written."""

    name: str
    input: str


@dataclass(frozen=True)
class Fail:
    """No answer, but an HTTP status, and `retry-after` in seconds where given."""

    status: int
    retry_after: float | None


@dataclass(frozen=True)
class Wait:
    """So many seconds before what follows."""

    seconds: float


@dataclass(frozen=True)
class Stop:
    """Why the answer ended."""

    reason: str


Action = Say | Repeat | Call | Fail | Wait | Stop
Step = list[Action]
"""What one answer consists of."""


def is_script(text: str) -> bool:
    """Whether a line of it asks for something."""
    return any(_LINE.match(line) for line in text.splitlines())


def prose(text: str) -> str:
    """The text without those lines."""
    return "\n".join(line for line in text.splitlines() if not _LINE.match(line)).strip()


def parse(text: str) -> list[Step]:
    """The answers it asks for, one after the other. Raises Rejected for a line that can't be read."""
    steps: list[Step] = [[]]
    for found in filter(None, map(_LINE.match, text.splitlines())):
        verb, rest = found[1], (found[2] or "").strip()
        if verb == "then":
            steps.append([])
        else:
            steps[-1].append(_action(verb, rest))
    return steps


def _action(verb: str, rest: str) -> Action:
    read, usage = _VERBS[verb]
    try:
        return read(rest)
    except (ValueError, OverflowError):
        raise Rejected(f"echo can't read ::{verb} {rest[:100]}: write {usage}", SessionReason.REJECTED) from None


def _call(rest: str) -> Call:
    name, _, arguments = rest.partition(" ")
    if not name:
        raise ValueError(name)
    return Call(name, arguments.strip())


def _fail(rest: str) -> Fail:
    status, *more = rest.split()
    after = _seconds(more[0]) if more else None
    if not 400 <= int(status) <= 599:
        raise ValueError(status)
    return Fail(int(status), after)


def _repeat(rest: str) -> Repeat:
    text, end = json.JSONDecoder().raw_decode(rest)
    times = int(rest[end:])
    if not isinstance(text, str) or times < 0:
        raise ValueError(rest)
    return Repeat(text, times)


def _stop(rest: str) -> Stop:
    if not re.fullmatch(r"[a-z_]{1,64}", rest):
        raise ValueError(rest)
    return Stop(rest)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _MOST_SECONDS:
        raise ValueError(text)
    return seconds


_VERBS: dict[str, tuple[Callable[[str], Action], str]] = {
    "call": (_call, '::call TOOL {"argument": "value"}'),
    "fail": (_fail, "::fail STATUS [RETRY_AFTER_SECONDS], a status of 400 to 599"),
    "repeat": (_repeat, '::repeat "text" TIMES'),
    "say": (Say, "::say TEXT"),
    "stop": (_stop, "::stop REASON, such as max_tokens or refusal"),
    "wait": (lambda rest: Wait(_seconds(rest)), "::wait SECONDS, at most a day"),
}
