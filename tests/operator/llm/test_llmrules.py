"""The local Messages API refuses what the real one refuses: without that, tests of conversations would show nothing."""

from typing import Any

import pytest

from belay_operator.drain.llm.anthropic_provider import AnthropicProvider
from belay_operator.drain.llm.base import Message, Rejected, Unauthenticated
from llmanswers import says
from llmrules import refusal
from llmserver import LlmServer

from .prompts import answered, assistant, failure, result, use, user, words

CALL: dict[str, Any] = {"type": "tool_use", "id": "t", "name": "x", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t"}
TOOLS = [{"name": "x"}]


def said(*contents: Any, **more: Any) -> dict[str, Any]:
    """A request in which user and assistant take turns."""
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    return {"model": "m", "max_tokens": 1, "messages": messages} | more


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(said("hi"), None, id="words"),
        pytest.param(said("hi", [CALL], [RESULT], tools=TOOLS), None, id="a round"),
        pytest.param(said("hi", [CALL], "hm", tools=TOOLS), "without `tool_result`", id="no result"),
        pytest.param(said([RESULT]), "unexpected `tool_use_id`", id="no call"),
        pytest.param(said("hi", [CALL], [RESULT]), "tools: Field required", id="no tools"),
        pytest.param(said("hi", [CALL], [RESULT], tools=TOOLS * 2), "unique", id="tools twice"),
        pytest.param(said("hi", [CALL | {"input": "x"}], [RESULT], tools=TOOLS), "an object", id="input"),
        pytest.param(said("hi", [CALL | {"id": None}], "x", tools=TOOLS), "needs an id", id="no id"),
        pytest.param(said(" "), "non-whitespace", id="blank"),
        pytest.param(said([]), "non-empty", id="empty"),
        pytest.param(said("hi", "ho"), "end with a user", id="the model's turn is over"),
        pytest.param(said("hi", max_tokens=0), "max_tokens: Field required", id="no limit"),
        pytest.param(said(), "messages: Field required", id="no messages"),
        pytest.param(
            said([{"type": "text", "text": "x", "cache_control": {}}] * 5), "A maximum of 4", id="too many marks"
        ),
    ],
)
def test_what_the_api_refuses(body: dict[str, Any], why: str | None) -> None:
    """In its words, about."""
    found = refusal(body)
    assert (why in found) if why and found else found == why


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([assistant("hi"), user("ho")], id="begins with the model"),
        pytest.param([user("hi"), user("ho")], id="twice the same"),
        pytest.param([user("hi"), assistant(use("x")), user("ho")], id="a call without a result"),
        pytest.param([user("hi", result("x"))], id="a result without a call"),
    ],
)
async def test_fault_20_a_conversation_that_is_wrong_is_rejected(
    provider: AnthropicProvider, llm: LlmServer, messages: list[Message]
) -> None:
    """It takes no behaviour, and is kept in `refused`."""
    llm.will(says("unused"))
    assert isinstance(await failure(provider, *messages), Rejected)
    assert (len(llm.refused), llm.foreseen) == (1, 1)


async def test_L11_keys_can_be_changed(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Others are refused without taking a behaviour."""
    llm.keys = {"another"}
    assert isinstance(await failure(provider), Unauthenticated)
    llm.keys = None
    assert words(await answered(provider)) == "ok"
