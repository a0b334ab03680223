"""The bridge between work and Claude where time matters: its own clock stands still until the test moves it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from belay_api.frames import Ack, Complete, Error, ErrorCode, ProgressMade, RequestPermission, Resolved
from belay_client import AgentChannel
from belay_client.mcp_channel.bridge import PATIENCE_SECONDS, Bridge, ToolError
from belay_client.mcp_channel.messages import PermissionPrompt
from belay_kube.clock import FakeClock
from client.cable_server import CableServer, silent
from client.conftest import Open
from client.facts import until

LONG_ENOUGH = PATIENCE_SECONDS + 1


class Played:
    """A bridge, and what Claude was told by it."""

    def __init__(self, channel: AgentChannel) -> None:
        self.clock = FakeClock()
        self.told: list[dict[str, Any]] = []
        self.stop = asyncio.Event()
        self.bridge = Bridge(channel, self._notify, self.clock)

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
async def playing(server: CableServer, channel: Open) -> AsyncIterator[Played]:
    """A bridge that was given the delegation `d`."""
    async with channel() as attached:
        played = Played(attached)
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
