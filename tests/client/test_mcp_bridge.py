"""The bridge between work and Claude where time matters: its own clock stands still until the test moves it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from belay_api.actions import Complete, Delegate, ProgressMade, RequestPermission, Resolved
from belay_api.messages import Ack, Error, ErrorCode
from belay_client import AgentChannel
from belay_client.mcp_channel import tools
from belay_client.mcp_channel.bridge import Bridge
from belay_client.mcp_channel.messages import PermissionPrompt
from belay_client.mcp_channel.patience import PATIENCE_SECONDS, ToolError
from belay_client.mcp_channel.prompts import EXPIRES_SECONDS, MOST_OPEN
from belay_kube.clock import FakeClock
from client.cable_server import CableServer, silent
from client.conftest import Open
from client.facts import until

LONG_ENOUGH = PATIENCE_SECONDS + 1


class Played:
    """A bridge, and what Claude was told by it."""

    def __init__(self, channel: AgentChannel, most: int = 1) -> None:
        self.clock = FakeClock()
        self.told: list[dict[str, Any]] = []
        self.stop = asyncio.Event()
        self.bridge = Bridge(channel, self._notify, self.clock, most)

    async def events(self, count: int) -> list[str]:
        """Which events there were, once there are so many."""
        await until(lambda: len(self.told) >= count)
        return [params["meta"]["event"] for params in self.told]

    async def in_time(self, tool: "asyncio.Task[str]") -> str:
        """What a tool says, when its patience is over."""
        while not tool.done():
            await self.clock.advance(LONG_ENOUGH)
            await asyncio.sleep(0)
        return await tool

    async def _notify(self, _: str, params: dict[str, Any]) -> None:
        self.told.append(params)


@asynccontextmanager
async def playing(server: CableServer, channel: Open, most: int = 1) -> AsyncIterator[Played]:
    """A bridge that was given the delegation `d`."""
    async with channel() as attached:
        played = Played(attached, most)
        running = asyncio.create_task(played.bridge.run(played.stop))
        await (await server.socket()).dispatch()
        assert await played.events(1) == ["dispatch"]
        yield played
        played.stop.set()
        while not running.done():
            await played.clock.advance(LONG_ENOUGH)
            await asyncio.sleep(0)
        await running


async def test_result_without_an_answer_is_kept_and_told_once(server: CableServer, channel: Open) -> None:
    """Claude need not wait: it is told that the result is kept, and a second one is refused."""
    server.answers[Complete] = silent
    async with playing(server, channel) as played:
        replying = asyncio.create_task(played.bridge.reply("d", "precious", None))
        socket = await server.socket()
        await socket.wait_for(Complete)
        assert "kept" in await played.in_time(replying)
        with pytest.raises(ToolError, match="already"):
            await played.bridge.reply("d", "precious", None)
        del server.answers[Complete]
        await socket.drop()
        again = await server.socket(2)
        assert (await again.wait_for(Complete)).result.text == "precious"
        await again.dispatch("next")
        assert await played.events(2) == ["dispatch", "dispatch"]


async def test_late_refusal_becomes_an_event(server: CableServer, channel: Open) -> None:
    """Its tool call is long over."""
    server.answers[Complete] = silent
    async with playing(server, channel) as played:
        replying = asyncio.create_task(played.bridge.reply("d", "precious", None))
        socket = await server.socket()
        sent = await socket.wait_for(Complete)
        await played.in_time(replying)
        await socket.tell(Error(ref=sent.ref, code=ErrorCode.SUPERSEDED, message="another attempt"))
        await until(lambda: any(params["meta"]["event"] == "refused" for params in played.told))


async def test_result_outlives_its_tool_call(server: CableServer, channel: Open) -> None:
    """Claude stops to wait for the tool; the result is told all the same."""
    server.answers[Complete] = silent
    async with playing(server, channel) as played:
        replying = asyncio.create_task(played.bridge.reply("d", "precious", None))
        socket = await server.socket()
        sent = await socket.wait_for(Complete)
        replying.cancel()
        await asyncio.wait({replying})
        await socket.tell(Ack(ref=sent.ref))
        await socket.dispatch("next")
        assert await played.events(2) == ["dispatch", "dispatch"]


async def test_progress_without_an_answer_is_dropped(server: CableServer, channel: Open) -> None:
    """It would be old news later."""
    server.answers[ProgressMade] = silent
    async with playing(server, channel) as played:
        telling = asyncio.create_task(played.bridge.progress("d", 40, "half"))
        await (await server.socket()).wait_for(ProgressMade)
        assert "not told" in await played.in_time(telling)
        await (await server.socket()).drop()
        del server.answers[ProgressMade]
        assert await played.bridge.progress("d", 50, None) == "told"
        assert [made.progress.percent for made in (await server.socket(2)).of(ProgressMade)] == [50]


async def test_prompt_of_work_that_ended_is_asked_no_more(server: CableServer, channel: Open) -> None:
    """It expires with its work; nothing is reported on it at the end."""
    server.answers[RequestPermission] = lambda _, action: Ack(ref=action.ref, name="p")
    async with playing(server, channel) as played:
        await played.bridge.ask(PermissionPrompt(request_id="abcde", tool_name="Bash"))
        await played.bridge.reply("d", "done", None)
    assert (await server.socket()).of(Resolved) == []


async def test_end_does_not_wait_for_ever_for_a_result(server: CableServer, channel: Open) -> None:
    """The gateway never answers: the bridge ends when its last words have had their time."""
    server.answers[Complete] = silent
    async with playing(server, channel) as played:
        replying = asyncio.create_task(played.bridge.reply("d", "precious", None))
        await (await server.socket()).wait_for(Complete)
        replying.cancel()
        await asyncio.wait({replying})


def prompt(request_id: str) -> PermissionPrompt:
    """A dialog that Claude Code has opened."""
    return PermissionPrompt(request_id=request_id, tool_name="Bash", input_preview="{}")


def numbered(number: int) -> str:
    """A request id."""
    return f"{number:05}".translate(str.maketrans("0123456789", "abcdefghij"))


async def test_prompts_answered_at_the_terminal_leave_room(server: CableServer, channel: Open) -> None:
    """Nobody says that they were answered: the oldest are given up, and no more are open than a session may have."""
    server.answers[RequestPermission] = lambda _, action: Ack(ref=action.ref, name=f"p-{action.request_id}")
    async with playing(server, channel) as played:
        for number in range(130):
            await played.bridge.ask(prompt(numbered(number)))
        socket = await server.socket()
        asked, gone = socket.of(RequestPermission), [resolved.request_id for resolved in socket.of(Resolved)]
        assert len(asked) == 130
        assert gone == [numbered(number) for number in range(130 - MOST_OPEN)]
        assert {question.expires_after_seconds for question in asked} == {EXPIRES_SECONDS}
        for at, action in enumerate(socket.actions):
            open_then = [type(a) for a in socket.actions[: at + 1]]
            assert open_then.count(RequestPermission) - open_then.count(Resolved) <= MOST_OPEN, action


async def test_prompts_do_not_pile_up_while_the_gateway_is_silent(server: CableServer, channel: Open) -> None:
    """Those that were given up are not asked any more."""
    server.answers[RequestPermission] = server.answers[Resolved] = silent
    async with playing(server, channel) as played:
        asking = [asyncio.create_task(played.bridge.ask(prompt(numbered(number)))) for number in range(100)]
        await until(lambda: sum(task.cancelled() for task in asking) == 100 - MOST_OPEN)
        for task in asking:
            task.cancel()


async def test_word_on_a_prompt_outlives_the_one_that_took_its_place(server: CableServer, channel: Open) -> None:
    """What was given up while the gateway was silent is reported after that, though newer ones were given up too."""
    server.answers[RequestPermission] = server.answers[Resolved] = silent
    async with playing(server, channel) as played:
        asking = [asyncio.create_task(played.bridge.ask(prompt(numbered(number)))) for number in range(100)]
        await until(lambda: sum(task.cancelled() for task in asking) == 100 - MOST_OPEN)
        del server.answers[Resolved]
        server.answers[RequestPermission] = lambda _, action: Ack(ref=action.ref, name=f"p-{action.request_id}")
        await (await server.socket()).drop()
        again = await server.socket(2)
        await again.wait_for(RequestPermission, MOST_OPEN)
        given_up = {numbered(number) for number in range(100 - MOST_OPEN)}
        assert {resolved.request_id for resolved in again.of(Resolved)} == given_up


async def test_prompts_are_those_of_an_attempt(server: CableServer, channel: Open) -> None:
    """The end of an attempt that was cancelled takes nothing from the next one of the same delegation."""
    server.answers[RequestPermission] = lambda _, action: Ack(ref=action.ref, name=f"p-{action.request_id}")
    async with playing(server, channel, most=2) as played:
        socket = await server.socket()
        await socket.cancel("d", 1)
        await played.events(2)
        await socket.dispatch("d", 2)
        await played.events(3)
        await played.bridge.ask(prompt("abcde"))
        assert socket.of(RequestPermission)[0].delegation == "d"
        await played.bridge.stopped("d")
    assert [resolved.request_id for resolved in socket.of(Resolved)] == ["abcde"]


async def test_result_does_not_wait_for_the_word_on_a_prompt(server: CableServer, channel: Open) -> None:
    """That a prompt was answered is told beside the result, which must not be lost with it."""
    server.answers[RequestPermission] = lambda _, action: Ack(ref=action.ref, name="p")
    server.answers[Resolved] = silent
    async with playing(server, channel) as played:
        about = PermissionPrompt(
            request_id="abcde", tool_name="mcp__belay__reply", input_preview='{"delegation":"d","text":"precious"}'
        )
        await played.bridge.ask(about)
        await tools.call(played.bridge, "reply", {"delegation": "d", "text": "precious"})
        socket = await server.socket()
        assert socket.of(Complete)[0].result.text == "precious"
        assert (await socket.wait_for(Resolved)).request_id == "abcde"


async def test_D5_delegation_without_an_answer_is_kept_and_made_once(server: CableServer, channel: Open) -> None:
    """Claude need not wait; asked again it gets the same one, whose name is an event when it is known."""
    server.answers[Delegate] = silent
    async with playing(server, channel) as played:
        first = asyncio.create_task(played.bridge.delegate("writer", "write", None, None))
        socket = await server.socket()
        sent = await socket.wait_for(Delegate)
        assert "kept" in await played.in_time(first)
        again = asyncio.create_task(played.bridge.delegate("writer", "write", None, None))
        assert "kept" in await played.in_time(again)
        assert socket.of(Delegate) == [sent]
        await socket.tell(Ack(ref=sent.ref, name="d-2"))
        await played.events(2)
        assert played.told[1]["meta"] == {"event": "delegated", "delegation": "d-2", "agent": "writer"}
        server.answers[Delegate] = lambda _, action: Ack(ref=action.ref, name="d-3")
        assert "d-3" in await played.bridge.delegate("writer", "write", None, None)


async def test_delegation_that_is_refused_late_becomes_an_event(server: CableServer, channel: Open) -> None:
    """Its tool call is long over."""
    server.answers[Delegate] = silent
    async with playing(server, channel) as played:
        asking = asyncio.create_task(played.bridge.delegate("writer", "write", None, None))
        socket = await server.socket()
        sent = await socket.wait_for(Delegate)
        await played.in_time(asking)
        await socket.tell(Error(ref=sent.ref, code=ErrorCode.FORBIDDEN, message="not yours"))
        await played.events(2)
        assert played.told[1]["meta"] == {"event": "refused", "agent": "writer"}
        assert "not yours" in played.told[1]["content"]
