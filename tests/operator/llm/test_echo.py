"""The echo provider: the same conversation has the same answer, and a script in the prompt says which."""

import asyncio
from typing import Any

import pytest

from belay_api.reasons import SessionReason
from belay_api.sessionturn import Block
from belay_api.usage import Usage
from belay_kube.clock import FakeClock
from belay_operator.drain.llm.base import Answer, LlmError, Message, Passing, Rejected, Unauthenticated
from belay_operator.drain.llm.collected import CUT, CUT_NOTE
from belay_operator.drain.llm.echo import EchoProvider
from belay_operator.drain.llm.echo_conversation import NOTHING

from .prompts import answered, assistant, failure, prompt, result, unheard, use, user, words

SCRIPT = """Build it, please.
::say Asking the worker.
::call delegate {"agent": "worker", "prompt": "build it"}
::call note {}
::then
::say The worker said: {result}
::say That is all.
"""
ASKED = (user(SCRIPT), assistant("Asking the worker.", use("delegate"), use("note", tool_use_id="toolu_2")))
RESULTS = (result("built"), result("noted", "toolu_2"))
TOLD = (*ASKED, user(*RESULTS))
ALL_SAID = "The worker said: built\nnoted\nThat is all."
NEWS = (assistant(use("from_bob", tool_use_id="toolu_b")), user(result("news", "toolu_b")))
"""What was delivered in the background."""


def called(name: str, written: str) -> Block:
    """A call as echo makes it."""
    return Block(type="ToolUse", name=name, input=written)


async def test_it_says_what_it_was_told(echo: EchoProvider) -> None:
    """With about as many tokens as that has."""
    answer = await answered(echo, "hello there", system="Be brief.")
    usage = Usage(calls=1, input_tokens=5, output_tokens=3)
    assert answer == Answer([Block(type="Text", text="hello there")], "end_turn", "m", usage)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        pytest.param([user("one", "two")], "one\ntwo", id="several texts"),
        pytest.param([user("one"), assistant("one"), user("two")], "two", id="the last message"),
        pytest.param([user("go"), assistant(use("x")), user(result("done"))], "done", id="results"),
        pytest.param([user("go"), assistant(use("x")), user(result("done"), "more")], "more", id="words over results"),
        pytest.param([user("::std::vec is a type")], "::std::vec is a type", id="no script"),
        pytest.param([user("  ")], NOTHING, id="blank"),
        pytest.param([user("go"), assistant(use("x")), user(result(None))], NOTHING, id="results of nothing"),
        pytest.param([user("say this\n::wait 0")], "say this", id="a script that says nothing"),
        pytest.param([*TOLD, assistant("done"), user("and now?")], "and now?", id="after a script"),
        pytest.param([user("::say one\r\n::say two")], "one\ntwo", id="lines of another system"),
        pytest.param([user("::say one\n::say\n::say two")], "one\n\ntwo", id="an empty line"),
        pytest.param([user('::repeat "ab" 3\n::say c')], "ababab\nc", id="repeated"),
        pytest.param([user('::repeat "ab" 0')], NOTHING, id="never repeated"),
        pytest.param([user("::say {result}!")], "!", id="no results"),
        pytest.param([user("::say old"), assistant("old"), user("::say new")], "new", id="the last script"),
        pytest.param([user("::say old", "::say new")], "new", id="the last script of a message"),
        pytest.param([user("::say a\n::then\n::say b"), assistant("a"), user("go on")], "b", id="words between steps"),
        pytest.param([user("::say a\n::then\n::say b"), *NEWS], "a", id="news are no answer"),
        pytest.param([*TOLD], ALL_SAID, id="results of several calls"),
        pytest.param([*ASKED, user(*RESULTS, "more")], ALL_SAID, id="words with results"),
    ],
)  # fmt: skip
async def test_what_it_says(echo: EchoProvider, messages: list[Message], said: str) -> None:
    """By the conversation alone."""
    assert words(await answered(echo, *messages)) == said


async def test_L14_a_script_calls_tools(echo: EchoProvider) -> None:
    """Several in one answer, without ids."""
    answer = await answered(echo, SCRIPT)
    assert answer.blocks == [
        Block(type="Text", text="Asking the worker."),
        called("delegate", '{"agent": "worker", "prompt": "build it"}'),
        called("note", "{}"),
    ]
    assert answer.stop_reason == "tool_use"


async def test_a_script_goes_on_after_the_results(echo: EchoProvider) -> None:
    """`{result}` is what the tools said, without what was delivered beside it."""
    pair = (
        assistant("Asking.", use("delegate"), use("from_bob", tool_use_id="b")),
        user(result("built"), result("x", "b")),
    )
    answer = await answered(echo, user(SCRIPT), *pair)
    assert words(answer) == "The worker said: built\nThat is all."
    assert answer.stop_reason == "end_turn"


async def test_L14_results_go_into_arguments_as_json(echo: EchoProvider) -> None:
    """So that they stay well formed."""
    script = '::call a\n::then\n::call b {"text": "<{result}>"}'
    answer = await answered(echo, user(script), assistant(use("a")), user(result('a "quote"\n')))
    assert answer.blocks == [called("b", r'{"text": "<a \"quote\"\n>"}')]


@pytest.mark.parametrize("written", ['{"agent": "w', "[1]", "not JSON at all"])
async def test_fault_20_L14_malformed_arguments_can_be_scripted(echo: EchoProvider, written: str) -> None:
    """They go out as they are."""
    assert (await answered(echo, f"::call delegate {written}")).blocks == [called("delegate", written)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("::fail 401", (Unauthenticated, SessionReason.AUTHENTICATION_FAILED), id="401"),
        pytest.param("::fail 403", (Unauthenticated, SessionReason.AUTHENTICATION_FAILED), id="403"),
        pytest.param("::fail 400", (Rejected, SessionReason.REJECTED), id="400"),
        pytest.param("::fail 429", (Passing, SessionReason.OVERLOADED), id="429"),
        pytest.param("::fail 529", (Passing, SessionReason.OVERLOADED), id="529"),
    ],
)
async def test_fault_20_failures_can_be_scripted(
    echo: EchoProvider, line: str, expected: tuple[type[LlmError], Any]
) -> None:
    """Each of its family, again and again, and only in their step."""
    for _ in range(2):
        error = await failure(echo, line)
        assert (type(error), error.reason) == expected
    assert words(await answered(echo, f"::say fine\n::then\n{line}")) == "fine"


async def test_fault_20_L12_retry_after_can_be_scripted(echo: EchoProvider) -> None:
    """In seconds."""
    error = await failure(echo, "::fail 529 2.5")
    assert isinstance(error, Passing)
    assert error.retry_after == 2.5


@pytest.mark.parametrize("reason", ["refusal", "max_tokens"])
async def test_fault_20_stop_reasons_can_be_scripted(echo: EchoProvider, reason: str) -> None:
    """As providers give them."""
    answer = await answered(echo, f"::say no\n::stop {reason}")
    assert (words(answer), answer.stop_reason) == ("no", reason)


@pytest.mark.parametrize(
    "line",
    [
        "::call", "::fail", "::fail often", "::fail 200", "::fail 529 soon", "::wait", "::wait a bit", "::wait -1",
        "::wait inf", "::repeat", "::repeat ab 3", '::repeat "ab"', '::repeat "ab" -1', "::repeat 5 5", "::stop",
        "::stop 5",
    ],
)  # fmt: skip
async def test_a_line_that_cannot_be_read_is_rejected(echo: EchoProvider, line: str) -> None:
    """Saying how to write it."""
    error = await failure(echo, line)
    assert isinstance(error, Rejected)
    assert f"write {line.split()[0]} " in error.message


async def test_words_are_heard_in_pieces(echo: EchoProvider) -> None:
    """All of them, in order."""
    heard: list[str] = []
    await echo.answer(prompt("one two three four five six seven"), heard.append)
    assert "".join(heard) == "one two three four five six seven"
    assert len(heard) > 3


async def test_a_wait_is_of_the_clock(echo: EchoProvider, clock: FakeClock) -> None:
    """What comes before it is heard before it."""
    heard: list[str] = []
    call = asyncio.create_task(echo.answer(prompt("::say before\n::wait 2\n::say after"), heard.append))
    await clock.advance(0)
    await clock.advance(1.9)
    assert ("".join(heard), call.done()) == ("before", False)
    await clock.advance(0.1)
    assert words(await call) == "before\nafter"


async def test_fault_20_L12_waits_end_with_the_timeout(echo: EchoProvider, clock: FakeClock) -> None:
    """All of them together, as a provider that hangs."""
    call = asyncio.create_task(echo.answer(prompt("::wait 20\n::wait 20", timeout=30), unheard))
    await clock.advance(0)
    await clock.advance(29)
    assert not call.done()
    await clock.advance(1)
    with pytest.raises(Passing, match="within 30s"):
        await call


async def test_fault_20_a_giant_answer_is_cut(echo: EchoProvider) -> None:
    """As that of any provider; also when it would fill the memory."""
    answer = await answered(echo, '::repeat "word " 1000000000000')
    assert answer.stop_reason == CUT
    assert words(answer).endswith(CUT_NOTE)


async def test_it_closes(echo: EchoProvider) -> None:
    """And goes on: it has nothing to let go."""
    await echo.close()
    assert words(await answered(echo, "still there")) == "still there"
