"""Answers of the Messages API, by the real SDK: blocks, usage, stop reasons, and what is too much (L14, fault 20)."""

import asyncio
from functools import partial

import pytest

from belay_api.sessionturn import MAX_ASSISTANT_BLOCKS, MAX_BLOCK_BYTES, Block
from belay_api.usage import Usage
from belay_operator.drain.llm.anthropic_provider import AnthropicProvider
from belay_operator.drain.llm.base import Answer, Passing
from belay_operator.drain.llm.collected import CUT, CUT_NOTE, MAX_ANSWER_BYTES, MOST_PARTS
from llmanswers import Call, Slowly, calls, falls_silent, giant, says, says_nothing, streams, thinks
from llmserver import LlmServer
from waiting import eventually

from .prompts import answered, assistant, prompt, result, unheard, use, user, words


def tools(answer: Answer) -> list[tuple[str | None, str | None, str | None]]:
    """Each call: its id, its tool, and its arguments as they were written."""
    return [(block.tool_use_id, block.name, block.input) for block in answer.blocks if block.type == "ToolUse"]


async def test_words(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Pieces become one block; model, stop reason and tokens are as the provider says."""
    llm.will(says("Good ", "mor", "ning, 世界"))
    answer = await answered(provider)
    usage = Usage(calls=1, input_tokens=10, output_tokens=6, cache_read_tokens=300, cache_write_tokens=20)
    assert answer == Answer([Block(type="Text", text="Good morning, 世界")], "end_turn", "m-served", usage)


async def test_words_are_heard_as_they_come(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Each piece before the next is there."""
    slowly = Slowly("one ", "two ", "three")
    heard: list[str] = []
    llm.will(slowly)
    call = asyncio.create_task(provider.answer(prompt(), heard.append))
    for count in range(1, 4):
        slowly.release()
        await eventually(partial(_has_heard, heard, count))
    assert heard == ["one ", "two ", "three"]
    assert words(await call) == "one two three"


def _has_heard(heard: list[str], count: int) -> bool:
    assert len(heard) <= count, "before it was released"
    return len(heard) == count


async def test_one_provider_serves_many_at_once(provider: AnthropicProvider, llm: LlmServer) -> None:
    """A slow answer holds up no other."""
    slowly = Slowly("slow")
    llm.will(slowly)
    call = asyncio.create_task(answered(provider))
    await slowly.begun.wait()
    llm.otherwise = says("quick")
    assert [words(one) for one in await asyncio.gather(*(answered(provider) for _ in range(20)))] == ["quick"] * 20
    slowly.release()
    assert words(await call) == "slow"


@pytest.mark.parametrize("stop_reason", ["refusal", "max_tokens", "stop_sequence", "of_tomorrow"])
async def test_fault_20_stop_reasons_are_ordinary_answers(
    provider: AnthropicProvider, llm: LlmServer, stop_reason: str
) -> None:
    """A refusal, and an answer that ran out of tokens, are answers."""
    llm.will(says("I can't", stop_reason=stop_reason))
    answer = await answered(provider)
    assert (words(answer), answer.stop_reason) == ("I can't", stop_reason)


async def test_fault_20_an_answer_of_nothing(provider: AnthropicProvider, llm: LlmServer) -> None:
    """No block, no failure."""
    llm.will(says_nothing())
    answer = await answered(provider)
    assert (answer.blocks, answer.stop_reason) == ([], "end_turn")


async def test_calls_follow_words(provider: AnthropicProvider, llm: LlmServer) -> None:
    """In the order in which they were said, arguments as they were written."""
    made = (Call("delegate", '{"agent":  "w"}', "toolu_a"), Call("reply", {"text": "ok"}, "toolu_b"))
    llm.will(calls(*made, text="On it."))
    answer = await answered(provider)
    assert [block.type for block in answer.blocks] == ["Text", "ToolUse", "ToolUse"]
    assert tools(answer) == [("toolu_a", "delegate", '{"agent":  "w"}'), ("toolu_b", "reply", '{"text": "ok"}')]
    assert answer.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(Call("reply", '{"text": "ok', "t"), ("t", "reply", '{"text": "ok'), id="arguments broken off"),
        pytest.param(Call("reply", "[1, 2]", "t"), ("t", "reply", "[1, 2]"), id="arguments that are no object"),
        pytest.param(Call("reply", "", "t"), ("t", "reply", "{}"), id="no arguments"),
        pytest.param(Call("reply", {}, None), (None, "reply", "{}"), id="no id"),
        pytest.param(Call("reply", {}, ""), (None, "reply", "{}"), id="an empty id"),
        pytest.param(Call("reply", {}, "a b"), (None, "reply", "{}"), id="an id that no resource takes"),
        pytest.param(Call("reply", {}, "x" * 129), (None, "reply", "{}"), id="an id that is too long"),
        pytest.param(Call("a.b c", {}, "t"), ("t", "a_b_c", "{}"), id="a name that no tool has"),
        pytest.param(Call("x" * 99, {}, "t"), ("t", "x" * 64, "{}"), id="a name that is too long"),
        pytest.param(Call("", {}, "t"), ("t", "unnamed", "{}"), id="an empty name"),
    ],
)
async def test_fault_20_L14_odd_calls(
    provider: AnthropicProvider, llm: LlmServer, call: Call, expected: tuple[str | None, str, str]
) -> None:
    """None is lost, each can be stored, and what is wrong with it is still to be seen."""
    llm.will(calls(call))
    assert tools(await answered(provider)) == [expected]


async def test_L14_an_id_is_of_one_call(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Ids that the conversation has, or that come twice, are left out, so that each call gets one of its own."""
    llm.will(calls(Call("a", {}, "old"), Call("b", {}, "new"), Call("c", {}, "new")))
    before = (user("go"), assistant(use("a", tool_use_id="old")), user(result("done", "old")))
    assert [one[:2] for one in tools(await answered(provider, *before))] == [(None, "a"), ("new", "b"), (None, "c")]


async def test_L14_arguments_given_at_once(provider: AnthropicProvider, llm: LlmServer) -> None:
    """As servers other than Anthropic's do; those may leave usage out, too."""
    llm.will(
        streams(
            'event: message_start\ndata: {"type": "message_start", "message": {"model": null, "usage": null}}\n\n'
            'event: content_block_start\ndata: {"type": "content_block_start", "index": 0, "content_block":'
            ' {"type": "tool_use", "id": "t", "name": "reply", "input": {"text": "ok"}}}\n\n'
            'event: message_delta\ndata: {"type": "message_delta", "delta": {}}\n\n'
            'event: message_stop\ndata: {"type": "message_stop"}\n\n'
        )
    )
    answer = await answered(provider)
    assert tools(answer) == [("t", "reply", '{"text": "ok"}')]
    assert (answer.model, answer.stop_reason, answer.usage) == ("m-served", "unknown", Usage(calls=1, **_BEGUN))


_BEGUN = {"input_tokens": 10, "output_tokens": 1, "cache_read_tokens": 300, "cache_write_tokens": 20}
"""Tokens that `streams` says before what it is given."""


async def test_thoughts_and_unknown_kinds_are_passed_over(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Only words and calls are kept and heard."""
    heard: list[str] = []
    llm.will(thinks("said"))
    answer = await provider.answer(prompt(), heard.append)
    assert ([block.text for block in answer.blocks], heard) == (["said"], ["said"])


async def test_fault_20_an_answer_of_200000_tokens_is_cut(provider: AnthropicProvider, llm: LlmServer) -> None:
    """At MAX_ANSWER_BYTES, visibly, in blocks that fit, with the tokens that came."""
    heard: list[str] = []
    llm.will(giant())
    answer = await provider.answer(prompt(), heard.append)
    said = words(answer)
    assert answer.stop_reason == CUT
    assert said.endswith(CUT_NOTE)
    assert len(said.encode()) == MAX_ANSWER_BYTES + len(CUT_NOTE)
    assert "".join(heard) == said
    assert max(len((block.text or "").encode()) for block in answer.blocks) <= MAX_BLOCK_BYTES
    assert answer.usage.output_tokens == MAX_ANSWER_BYTES // 4


async def test_fault_20_the_rest_of_what_is_cut_is_not_waited_for(provider: AnthropicProvider, llm: LlmServer) -> None:
    """The connection is let go, so that the model stops."""
    llm.will(falls_silent(after="x" * (MAX_ANSWER_BYTES + 1)))
    assert (await answered(provider)).stop_reason == CUT
    await llm.requests[0].over.wait()
    assert llm.requests[0].abandoned


async def test_fault_20_an_answer_that_just_fits_is_whole(provider: AnthropicProvider, llm: LlmServer) -> None:
    """The bound itself is allowed."""
    llm.will(says("x" * MAX_ANSWER_BYTES))
    answer = await answered(provider)
    assert (len(words(answer)), answer.stop_reason) == (MAX_ANSWER_BYTES, "end_turn")


async def test_fault_20_long_words_end_between_characters(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Blocks are split, and nothing is lost."""
    long = "x" + "世" * 60_000
    llm.will(says(long))
    answer = await answered(provider)
    assert words(answer) == long
    assert len(answer.blocks) == 3
    assert answer.stop_reason == "end_turn"


async def test_fault_20_half_a_character_is_replaced(provider: AnthropicProvider, llm: LlmServer) -> None:
    """What can't be written as UTF-8 could not be stored."""
    llm.will(says("half \ud83d of it"))
    assert words(await answered(provider)) == "half ? of it"


async def test_fault_20_giant_arguments_are_cut_and_so_malformed(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Their call is still there, to be answered with an error."""
    llm.will(calls(Call("reply", {"text": "x" * MAX_BLOCK_BYTES}, "t")))
    answer = await answered(provider)
    ((_, _, written),) = tools(answer)
    assert written == '{"text": "' + "x" * (MAX_BLOCK_BYTES - 10)
    assert answer.stop_reason == CUT


async def test_fault_20_too_many_calls_are_cut(provider: AnthropicProvider, llm: LlmServer) -> None:
    """At as many as fit a turn."""
    llm.will(calls(*(Call("reply", {}, f"t{number}") for number in range(500))))
    answer = await answered(provider)
    assert len(answer.blocks) == MOST_PARTS < MAX_ASSISTANT_BLOCKS
    assert answer.stop_reason == CUT


async def test_close_twice(provider: AnthropicProvider) -> None:
    """Letting go again does nothing."""
    await provider.close()
    await provider.close()
    with pytest.raises(Passing, match="gave no whole answer"):
        await provider.answer(prompt(), unheard)
