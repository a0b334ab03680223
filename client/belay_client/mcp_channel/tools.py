"""The tools that Claude has for Belay's work: their arguments, and which part of the bridge they are."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from belay_api.delegation import MAX_TEXT_BYTES
from belay_api.resource import ObjectName
from belay_client.mcp_channel.bridge import Bridge
from belay_client.mcp_channel.patience import ToolError

Name = Annotated[ObjectName, Field(description="The attribute `delegation` of the <channel> tag.")]


class Arguments(BaseModel):
    """Arguments of a tool; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")


class OnWork(Arguments):
    """A tool on one delegation."""

    delegation: Name


class Reply(OnWork):
    """Complete a delegation with its result: in `text`, or at `uri` when it is larger than 64 KiB."""

    text: str | None = Field(default=None, description="The result in words, at most 64 KiB of UTF-8.")
    uri: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        default=None, description="Where the result is, when it is larger."
    )


class Progress(OnWork):
    """Say how far a delegation is."""

    percent: int | None = Field(default=None, ge=0, le=100, description="How far it is.")
    message: str | None = Field(default=None, description="What is being done, in a few words.")


class Fail(OnWork):
    """Give a delegation up."""

    reason: Annotated[str, StringConstraints(min_length=1)] = Field(description="Why, in a sentence.")


class Stopped(OnWork):
    """Confirm that nothing of a cancelled delegation runs any more. Call it only when that is so."""


class Delegate(Arguments):
    """Hand a task to another agent of the same namespace. Returns the name of the new delegation, not its result."""

    agent: ObjectName = Field(description="The Agent that is to do it.")
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_BYTES)] = Field(
        description="The task in words; the other agent sees nothing else of this conversation."
    )
    inputs: dict[str, str] | None = Field(default=None, max_length=32, description="Named values that go with it.")
    deadline_seconds: int | None = Field(default=None, ge=1, le=2592000, description="Time it may take.")


@dataclass(frozen=True)
class Tool:
    """One tool: its arguments' docstring is its description."""

    name: str
    arguments: type[Arguments]
    run: Callable[[Bridge, Any], Awaitable[str]]

    @property
    def description(self) -> str:
        """What it does."""
        return self.arguments.__doc__ or self.name

    def schema(self) -> dict[str, Any]:
        """The JSON schema of its arguments."""
        return self.arguments.model_json_schema()


async def _reply(bridge: Bridge, given: Reply) -> str:
    if (given.text is None) == (given.uri is None):
        raise ToolError("reply: give the result as `text`, or its address as `uri`, one of the two")
    return await bridge.reply(given.delegation, given.text, given.uri)


async def _progress(bridge: Bridge, given: Progress) -> str:
    return await bridge.progress(given.delegation, given.percent, given.message)


async def _fail(bridge: Bridge, given: Fail) -> str:
    return await bridge.fail(given.delegation, given.reason)


async def _stopped(bridge: Bridge, given: Stopped) -> str:
    return await bridge.stopped(given.delegation)


async def _delegate(bridge: Bridge, given: Delegate) -> str:
    return await bridge.delegate(given.agent, given.prompt, given.inputs, given.deadline_seconds)


TOOLS = (
    Tool("reply", Reply, _reply),
    Tool("progress", Progress, _progress),
    Tool("fail", Fail, _fail),
    Tool("stopped", Stopped, _stopped),
    Tool("delegate", Delegate, _delegate),
)


async def call(bridge: Bridge, name: str, arguments: Mapping[str, Any]) -> str:
    """Run one tool; returns a sentence for Claude. Raises ToolError with what was wrong."""
    tool = next((tool for tool in TOOLS if tool.name == name), None)
    if tool is None:
        raise ToolError(f"no tool {name!r}: there are {', '.join(tool.name for tool in TOOLS)}")
    try:
        given = tool.arguments.model_validate(arguments)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
        raise ToolError(f"{name}: {wrong}") from error
    bridge.prompts.used(name, getattr(given, "delegation", None))
    return await tool.run(bridge, given)
