"""A model that needs no key and no network: it says what it was told, or what a script in the prompt asks for.

Without a script the answer is the text of the last user message (of tool results, when nothing else came). Lines that
begin with `::` are a script:

    ::call TOOL {"argument": "value"}   call a tool; several lines are several calls of one answer
    ::say TEXT                          say a line of text; {result} stands for the tool results just received
    ::then                              what follows is the next answer, after the results of the calls
    ::wait SECONDS                      wait before what follows
    ::repeat "TEXT" TIMES               say the same many times
    ::fail STATUS [RETRY_AFTER]         fail as a provider with this HTTP status does: 401, 429, 529, 400, …
    ::stop REASON                       end as if for this reason: max_tokens, refusal, …

For instance, a model agent that delegates, waits, and reports:

    ::say Asking the worker.
    ::call delegate {"agent": "worker", "prompt": "build it"}
    ::then
    ::say The worker said: {result}

The script is that of the last user text that has one, and the step is how many answers were given since: all of that
is in the conversation, so a restart changes nothing. When the script is over, or a step of it says and calls nothing,
the text is echoed. Arguments of a call go out as they are written, malformed ones too, with {result} put in as JSON
text. Calls carry no id (L14). What was delivered as results of calls named `from_…` is neither an answer nor a result.
"""

import json

from belay_api.reasons import SessionReason
from belay_api.usage import Usage
from belay_kube.clock import Clock
from belay_operator.drain.llm.base import Answer, Hear, LlmError, Passing, Prompt, Rejected, Unauthenticated
from belay_operator.drain.llm.collected import CUT, MAX_ANSWER_BYTES, Collected
from belay_operator.drain.llm.echo_conversation import next_step, results, text_to_echo
from belay_operator.drain.llm.echo_script import RESULT, Call, Fail, Repeat, Say, Step, Stop, Wait

_BYTES_OF_A_TOKEN = 4
_PIECES = 32
_SMALLEST_PIECE = 8


class EchoProvider:
    """Deterministic, without state."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def answer(self, prompt: Prompt, hear: Hear) -> Answer:
        """What the script asks for, or the last text. Raises LlmError where the script says so."""
        return await _Answering(prompt, hear, self._clock).play(next_step(prompt.messages))

    async def close(self) -> None:
        """There is nothing to let go."""


class _Answering:
    """One answer."""

    def __init__(self, prompt: Prompt, hear: Hear, clock: Clock) -> None:
        self._prompt = prompt
        self._clock = clock
        self._collected = Collected(hear)
        self._stop: str | None = None
        self._waited = 0.0
        self._said = False

    async def play(self, step: Step) -> Answer:
        for action in step:
            match action:
                case Say(text):
                    await self._say(text.replace(RESULT, results(self._prompt.messages)))
                case Repeat(text, times):
                    await self._repeat(text, times)
                case Call(name, arguments):
                    self._call(name, arguments)
                case Wait(seconds):
                    await self._wait(seconds)
                case Stop(reason):
                    self._stop = reason
                case Fail():
                    raise _failure(action, self._prompt.model)
        if not self._collected.size and not self._collected.calls:
            await self._say(text_to_echo(self._prompt.messages))
        return self._answer()

    async def _say(self, text: str) -> None:
        """A line, heard in pieces."""
        whole = f"\n{text}" if self._said else text
        self._said = self._said or bool(text)
        size = max(_SMALLEST_PIECE, len(whole) // _PIECES)
        for start in range(0, len(whole), size):
            self._collected.say(whole[start : start + size])
            await self._clock.sleep(0)

    async def _repeat(self, text: str, times: int) -> None:
        """As often as an answer has room for, and once more so that it shows."""
        room = MAX_ANSWER_BYTES // len(text.encode()) + 1 if text else 0
        await self._say(text * min(times, room))

    def _call(self, name: str, arguments: str) -> None:
        self._collected.call(None, name)
        self._collected.write(arguments.replace(RESULT, json.dumps(results(self._prompt.messages))[1:-1]))
        self._said = False

    async def _wait(self, seconds: float) -> None:
        """Wait, for as long as the prompt allows."""
        left = self._prompt.timeout - self._waited
        await self._clock.sleep(min(seconds, left))
        self._waited += seconds
        if seconds > left:
            message = f"{self._prompt.model} gave no whole answer within {self._prompt.timeout:g}s"
            raise Passing(message, SessionReason.UNREACHABLE)

    def _answer(self) -> Answer:
        ended = "tool_use" if self._collected.calls else "end_turn"
        return Answer(
            blocks=self._collected.blocks(),
            stop_reason=CUT if self._collected.full else self._stop or ended,
            model=self._prompt.model,
            usage=Usage(
                calls=1, input_tokens=_tokens(_size(self._prompt)), output_tokens=_tokens(self._collected.size)
            ),
        )


def _failure(fail: Fail, model: str) -> LlmError:
    message = f"{model} answered {fail.status}, as its script says"
    if fail.status in (401, 403):
        return Unauthenticated(message, SessionReason.AUTHENTICATION_FAILED)
    if fail.status == 429 or fail.status >= 500:
        return Passing(message, SessionReason.OVERLOADED, fail.retry_after)
    return Rejected(message, SessionReason.REJECTED)


def _tokens(size: int) -> int:
    """About how many tokens so many bytes are."""
    return -(-size // _BYTES_OF_A_TOKEN)


def _size(prompt: Prompt) -> int:
    """Bytes of all that the model is told."""
    written = ((block.text or "") + (block.input or "") for message in prompt.messages for block in message.blocks)
    return sum(len(text.encode()) for text in (prompt.system or "", *written))
