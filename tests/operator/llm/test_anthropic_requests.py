"""What the Messages API is sent: tools, system prompt, conversation, marks for its cache; nothing that it refuses."""

from typing import Any

import pytest

from belay_operator.drain.llm.anthropic_provider import AnthropicProvider
from belay_operator.drain.llm.base import Message, ToolDefinition
from llmserver import LlmServer

from .conftest import KEY
from .prompts import answered, assistant, result, text, use, user

MARK = {"cache_control": {"type": "ephemeral"}}
CALLED = (user("go"), assistant("On it.", use("delegate", '{"agent": "w"}')), user(result("done")))
DELEGATE = ToolDefinition("delegate", "Have another do it.", {"type": "object", "required": ["agent"]})
REPLY = ToolDefinition("reply", "Answer.", {"type": "object"})


async def sent(provider: AnthropicProvider, llm: LlmServer, *messages: Message, **more: Any) -> Any:
    """The body of the request; the API would have taken it."""
    await answered(provider, *messages, **more)
    assert not llm.refused
    return llm.requests[-1].body


async def contents(provider: AnthropicProvider, llm: LlmServer, *messages: Message) -> list[Any]:
    """The content of each message, without marks."""
    body = await sent(provider, llm, *messages)
    return [[_unmarked(part) for part in message["content"]] for message in body["messages"]]


def _unmarked(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in MARK}


async def test_model_and_limits(provider: AnthropicProvider, llm: LlmServer) -> None:
    """As the prompt says, streamed, by the key; nothing is sent that wasn't asked for."""
    body = await sent(provider, llm, user("hello"), max_tokens=77)
    assert {name: body[name] for name in ("model", "max_tokens", "stream")} == {
        "model": "m",
        "max_tokens": 77,
        "stream": True,
    }
    assert set(body) == {"model", "max_tokens", "stream", "messages"}
    assert llm.requests[0].key == KEY


async def test_the_environment_changes_nothing(
    llm: LlmServer, provider: AnthropicProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK reads keys and addresses from there; a session's own are the only ones."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await sent(provider, llm, user("hello"))
    assert llm.requests[0].key == KEY
    assert "x-api-key" not in llm.requests[0].headers


async def test_tools_are_marked_after_the_last(provider: AnthropicProvider, llm: LlmServer) -> None:
    """All are cached."""
    body = await sent(provider, llm, user("hello"), tools=[REPLY, DELEGATE])
    assert body["tools"] == [
        {"name": "reply", "description": "Answer.", "input_schema": {"type": "object"}},
        {
            "name": "delegate",
            "description": "Have another do it.",
            "input_schema": {"type": "object", "required": ["agent"]},
        }
        | MARK,
    ]
    assert "tool_choice" not in body


async def test_system_is_marked(provider: AnthropicProvider, llm: LlmServer) -> None:
    """It's cached."""
    body = await sent(provider, llm, user("hello"), system="Be brief.")
    assert body["system"] == [{"type": "text", "text": "Be brief."} | MARK]


@pytest.mark.parametrize("system", [None, "", " \n"])
async def test_no_system(provider: AnthropicProvider, llm: LlmServer, system: str | None) -> None:
    """Blank is none."""
    assert "system" not in await sent(provider, llm, user("hello"), system=system)


async def test_the_conversation_is_marked_at_its_end(provider: AnthropicProvider, llm: LlmServer) -> None:
    """So that the next half-step reads it from the cache."""
    body = await sent(provider, llm, *CALLED, tools=[DELEGATE])
    marked = [("cache_control" in part) for message in body["messages"] for part in message["content"]]
    assert marked == [False, False, False, True]


async def test_a_round_of_tools(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Call and result, arguments as an object."""
    assert await contents(provider, llm, *CALLED) == [
        [{"type": "text", "text": "go"}],
        [
            {"type": "text", "text": "On it."},
            {"type": "tool_use", "id": "toolu_1", "name": "delegate", "input": {"agent": "w"}},
        ],
        [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "done"}]}],
    ]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        pytest.param('{"a": "b', {"_malformed": '{"a": "b'}, id="broken off"),
        pytest.param("[1]", {"_malformed": "[1]"}, id="no object"),
        pytest.param('{"a": NaN}', {"_malformed": '{"a": NaN}'}, id="no number"),
        pytest.param('{"a": 1e999}', {"_malformed": '{"a": 1e999}'}, id="a number beyond all bounds"),
        pytest.param('{"a": "\\ud800"}', {"_malformed": '{"a": "\\ud800"}'}, id="half a surrogate pair"),
        pytest.param("[" * 60000, {"_malformed": "[" * 60000}, id="deep"),
        pytest.param("{}", {}, id="empty"),
        pytest.param('{"a": {"b": 1.5}}', {"a": {"b": 1.5}}, id="an object"),
    ],
)
async def test_fault_20_L14_arguments_go_back(
    provider: AnthropicProvider, llm: LlmServer, written: str, shown: dict[str, Any]
) -> None:
    """As an object always; malformed ones as they were written."""
    found = await contents(provider, llm, user("go"), assistant(use("delegate", written)), user(result("bad")))
    assert found[1][0]["input"] == shown


async def test_L14_a_tool_that_failed(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Says so, and need not say more."""
    found = await contents(provider, llm, user("go"), assistant(use("delegate")), user(result(None, is_error=True)))
    assert found[2] == [{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True}]


async def test_blank_words_are_never_sent(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Nor messages of nothing else; results stay."""
    said = (user("go", text("")), assistant(" \n", use("delegate")), user(result(" "), text("\t"), "more"))
    found = await contents(provider, llm, *said)
    assert [[part["type"] for part in content] for content in found] == [
        ["text"],
        ["tool_use"],
        ["tool_result", "text"],
    ]


async def test_calls_of_tools_that_are_no_longer_there(provider: AnthropicProvider, llm: LlmServer) -> None:
    """Are declared, since the API takes no call without tools, and can't be made."""
    said = (user("go"), assistant(use("from_worker")), user(result("news"), "hello"))
    body = await sent(provider, llm, *said)
    assert [tool["name"] for tool in body["tools"]] == ["from_worker"]
    assert body["tool_choice"] == {"type": "none"}
