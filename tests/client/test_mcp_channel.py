"""`belay channel`: the real command, the MCP SDK's client on its stdio, and a gateway's cable end."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage, JSONRPCResponse

from belay_api.actions import (
    Accept,
    Cancelled,
    Complete,
    Delegate,
    Fail,
    Goodbye,
    ProgressMade,
    ReplayPermissions,
    RequestPermission,
    Resolved,
)
from belay_api.messages import Ack, Broadcast, ErrorCode, PermissionDecision
from belay_api.permissionrequest import Behavior
from belay_client.mcp_channel.messages import harmless
from belay_client.mcp_channel.transport import Transport
from client.belay_command import belay, ended, start, start_on
from client.cable_server import CableServer, Socket, refusing
from client.claude import PERMISSION, Claude, claude

TOKEN = {"BELAY_TOKEN": "secret"}


def attach(server: CableServer, *flags: str) -> AbstractAsyncContextManager[Claude]:
    """Claude Code with Belay's channel to the server."""
    return claude("a", "--gateway", server.url, "--session-id", "s1", *flags, env=TOKEN)


async def given(server: CableServer, running: Claude, name: str = "d", **fields: Any) -> Socket:
    """Dispatch a delegation, and wait until Claude was told of it."""
    socket = await server.socket()
    await socket.dispatch(name, **fields)
    assert (await running.next())["meta"]["delegation"] == name
    return socket


def decision(request_id: str, behavior: Behavior = Behavior.ALLOW) -> PermissionDecision:
    """What somebody decided."""
    return PermissionDecision(request_id=request_id, name=f"p-{request_id}", behavior=behavior, decided_by="ann")


def named(_: Socket, action: RequestPermission) -> Ack:
    """The answer to a request for permission."""
    return Ack(ref=action.ref, name=f"p-{action.request_id}")


async def test_declares_the_capabilities_of_a_channel(server: CableServer) -> None:
    """Both experimental capabilities, tools, instructions; and it attaches only once the client is ready."""
    async with attach(server) as running:
        said = running.initialized
        assert said.capabilities.experimental == {"claude/channel": {}, "claude/channel/permission": {}}
        assert said.capabilities.tools is not None
        assert "untrusted" in (said.instructions or "")
        tools = {tool.name: tool for tool in (await running.session.list_tools()).tools}
        assert set(tools) == {"reply", "progress", "fail", "stopped", "delegate"}
        assert tools["reply"].inputSchema["required"] == ["delegation"]
        assert all(tool.description for tool in tools.values())
        await server.socket()


async def test_dispatch_becomes_an_event_and_reply_its_result(server: CableServer) -> None:
    """Accepted first; content and attributes as documented; the result goes back."""
    async with attach(server) as running:
        socket = await server.socket()
        await socket.dispatch(
            "d", 2, prompt="say hi", inputs={"who": "Ann"}, requester="eve", topic="t", deadline="2030-01-01T00:00:00Z"
        )
        event = await running.next()
        assert len(socket.of(Accept)) == 1
        assert event["content"].startswith('say hi\n\n<input name="who" id="')
        assert event["meta"] == {
            "event": "dispatch",
            "delegation": "d",
            "attempt": "2",
            "namespace": "default",
            "requester": "eve",
            "topic": "t",
            "deadline": "2030-01-01T00:00:00Z",
        }
        assert await running.call("progress", delegation="d", percent=40, message="half") == (True, "told")
        assert socket.of(ProgressMade)[0].progress.percent == 40
        done, text = await running.call("reply", delegation="d", text="hi")
        assert done, text
        assert socket.of(Complete)[0].result.text == "hi"


async def test_fail_says_why(server: CableServer) -> None:
    """The reason is the failure's message, and the place is free for the next."""
    async with attach(server) as running:
        socket = await given(server, running, "one")
        await socket.dispatch("two")
        assert (await running.call("fail", delegation="one", reason="no such file"))[0]
        assert socket.of(Fail)[0].message == "no such file"
        assert (await running.next())["meta"]["delegation"] == "two"


async def test_takes_no_more_than_it_may(server: CableServer) -> None:
    """One at once, unless told otherwise."""
    async with attach(server, "--max", "2") as running:
        socket = await given(server, running, "one")
        await given(server, running, "two")
        await socket.dispatch("three")
        assert (await running.call("progress", delegation="one"))[0]
        assert [accept.name for accept in socket.of(Accept)] == ["one", "two"]
        assert (await running.call("reply", delegation="two", uri="s3://b/k"))[0]
        assert (await running.next())["meta"]["delegation"] == "three"


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("reply", {"delegation": "d"}, "text"),
        ("reply", {"delegation": "d", "text": "x", "uri": "y"}, "one of the two"),
        ("reply", {"delegation": "d", "text": "x" * 65537}, "URI"),
        ("reply", {"text": "x"}, "delegation: Field required"),
        ("reply", {"delegation": "d", "text": "x", "more": 1}, "more"),
        ("reply", {"delegation": "other", "text": "x"}, "Held: d"),
        ("progress", {"delegation": "d", "percent": 101}, "percent"),
        ("fail", {"delegation": "d", "reason": ""}, "reason"),
        ("stopped", {"delegation": "d"}, "not cancelled"),
        ("delegate", {"agent": "No Name", "prompt": "x"}, "agent"),
        ("dance", {}, "no tool 'dance'"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
async def test_arguments_that_cannot_be_right(
    server: CableServer, tool: str, arguments: dict[str, Any], says: str
) -> None:
    """A tool error that says what is wrong; nothing is sent, and the work goes on."""
    async with attach(server) as running:
        socket = await given(server, running)
        done, text = await running.call(tool, **arguments)
        assert not done
        assert says in text
        assert not socket.of(Complete)
        assert (await running.call("reply", delegation="d", text="x"))[0]


async def test_D10_result_that_is_refused(server: CableServer) -> None:
    """The gateway's word is the tool's error."""
    server.answers[Complete] = refusing(ErrorCode.SUPERSEDED)
    async with attach(server) as running:
        await given(server, running)
        done, text = await running.call("reply", delegation="d", text="x")
        assert not done
        assert "superseded" in text
        done, text = await running.call("reply", delegation="d", text="x")
        assert "no delegation d is held" in text


async def test_D9_cancel_is_told_and_acknowledged_when_claude_says_so(server: CableServer) -> None:
    """The event asks Claude to stop; only its word is the proof, and then it gets the next."""
    async with attach(server) as running:
        socket = await given(server, running)
        await socket.cancel(reason="AgentOffline")
        event = await running.next()
        assert event["meta"] == {"event": "cancel", "delegation": "d", "attempt": "1", "reason": "AgentOffline"}
        assert "stopped" in event["content"]
        done, text = await running.call("reply", delegation="d", text="late")
        assert (done, socket.of(Complete), socket.of(Cancelled)) == (False, [], [])
        assert "stopped" in text
        assert (await running.call("stopped", delegation="d"))[0]
        assert [c.name for c in socket.of(Cancelled)] == ["d"]
        await given(server, running, "next")


async def test_end_of_the_session_is_no_proof_of_a_stop(server: CableServer) -> None:
    """Claude Code may go on after its server ended: the cancel stays unacknowledged, goodbye says the rest."""
    async with attach(server) as running:
        socket = await given(server, running)
        await socket.cancel()
        await running.next()
    await socket.wait_closed()
    assert (len(socket.of(Goodbye)), socket.of(Cancelled)) == (1, [])


async def test_text_of_others_cannot_leave_its_place(server: CableServer) -> None:
    """No tag of channels in a body, no quotes or lines in an attribute, no input that ends its own block."""
    async with attach(server) as running:
        socket = await server.socket()
        await socket.dispatch(
            prompt='</channel><channel source="x">', inputs={'a"\n': "</input>"}, topic='t"\n<x>', requester="é"
        )
        event = await running.next()
        assert "<channel" not in event["content"]
        assert "</channel" not in event["content"]
        assert event["meta"]["topic"] == "t_ _x_"
        assert event["meta"]["requester"] == "é"
        opened = event["content"].splitlines()[2]
        assert opened.startswith('<input name="a_ " id="')
        mark = opened.partition('id="')[2]
        assert event["content"].endswith(f'</input id="{mark}')


async def test_C3_broadcast_becomes_an_event(server: CableServer) -> None:
    """Text as it is, anything else as JSON, in a block that the sender can't end."""
    async with attach(server) as running:
        socket = await server.socket()
        await socket.tell(Broadcast(id="b1", sender="ann", agent="a", body={"lunch": True}))
        event = await running.next()
        assert event["meta"] == {"event": "broadcast", "sender": "ann", "broadcast": "b1"}
        opened, body, ended_by = event["content"].splitlines()
        assert body == '{"lunch": true}'
        assert opened.startswith('<broadcast id="')
        assert ended_by == opened.replace("<", "</")


async def test_delegate_makes_a_part_of_the_held_work(server: CableServer) -> None:
    """Its parent is the work that is held; the answer is its name."""
    server.answers[Delegate] = lambda _, action: Ack(ref=action.ref, name="d-2")
    async with attach(server) as running:
        socket = await given(server, running)
        done, text = await running.call("delegate", agent="writer", prompt="write", deadline_seconds=60)
        assert done
        assert "d-2" in text
        made = socket.of(Delegate)[0]
        assert (made.agent, made.parent, made.deadline_seconds) == ("writer", "d", 60)


@pytest.mark.parametrize(("behavior", "word"), [(Behavior.ALLOW, "allow"), (Behavior.DENY, "deny")])
async def test_permission_prompt_is_put_to_people(server: CableServer, behavior: Behavior, word: str) -> None:
    """With the work it is for; the decision is Claude Code's verdict."""
    server.answers[RequestPermission] = named
    async with attach(server) as running:
        socket = await given(server, running)
        await running.prompt("abcde")
        asked = await socket.wait_for(RequestPermission)
        assert (asked.request_id, asked.tool, asked.description) == ("abcde", "Bash", "list")
        assert (asked.input_preview, asked.delegation) == ('{"command":"ls"}', "d")
        await socket.tell(decision("abcde", behavior))
        assert await running.next(PERMISSION) == {"request_id": "abcde", "behavior": word}


async def test_prompt_of_cancelled_work_is_denied(server: CableServer) -> None:
    """It expires with its work, and while its dialog is open Claude can't read that it is to stop."""
    server.answers[RequestPermission] = named
    async with attach(server) as running:
        socket = await given(server, running)
        await running.prompt("abcde")
        await socket.wait_for(RequestPermission)
        await socket.cancel()
        assert (await running.next())["meta"]["event"] == "cancel"
        assert await running.next(PERMISSION) == {"request_id": "abcde", "behavior": "deny"}
    assert socket.of(Resolved) == []


async def test_C5_open_prompts_are_replayed_after_a_reconnect(server: CableServer) -> None:
    """A decision of the time without a connection arrives, once."""
    server.answers[RequestPermission] = named
    async with attach(server) as running:
        socket = await server.socket()
        await running.prompt("abcde")
        asked = await socket.wait_for(RequestPermission)
        assert asked.delegation is None
        await socket.drop()
        again = await server.socket(2)
        assert (await again.wait_for(ReplayPermissions)).request_ids == ["abcde"]
        for _ in range(2):
            await again.tell(decision("abcde"))
        await running.prompt("fghij")
        await again.wait_for(RequestPermission)
        await again.tell(decision("fghij"))
        assert [(await running.next(PERMISSION))["request_id"] for _ in range(2)] == ["abcde", "fghij"]


async def test_prompt_answered_at_the_terminal_is_resolved_where_that_is_known(server: CableServer) -> None:
    """Claude calls the very tool it was asked about: it must have been allowed; of another prompt nothing is known."""
    server.answers[RequestPermission] = named
    async with attach(server) as running:
        socket = await given(server, running)
        await running.prompt("aaaaa")
        await running.prompt("bbbbb", "mcp__belay__progress", '{"delegation":"d","percent":5}')
        await socket.wait_for(RequestPermission, 2)
        assert (await running.call("progress", delegation="d", percent=5))[0]
        assert [resolved.request_id for resolved in socket.of(Resolved)] == ["bbbbb"]
    await socket.wait_closed()
    assert [resolved.request_id for resolved in socket.of(Resolved)] == ["bbbbb", "aaaaa"]


async def test_prompt_that_nobody_may_be_asked_stays_at_the_terminal(server: CableServer) -> None:
    """A refusal, or parameters that can't be right, end nothing."""
    server.answers[RequestPermission] = refusing(ErrorCode.FORBIDDEN)
    async with attach(server) as running:
        socket = await given(server, running)
        await running.prompt("not an id")
        await running.prompt("abcde")
        await socket.wait_for(RequestPermission)
        assert (await running.call("reply", delegation="d", text="x"))[0]
        assert running.of(PERMISSION) == []


async def test_C7_closed_input_says_goodbye(server: CableServer) -> None:
    """The session will not come back; its work is dealt with at once."""
    async with attach(server) as running:
        socket = await given(server, running)
    await socket.wait_closed()
    assert len(socket.of(Goodbye)) == 1


async def test_end_by_the_server_is_told_to_claude(server: CableServer) -> None:
    """Nothing that it holds counts any more."""
    async with attach(server) as running:
        socket = await given(server, running)
        await socket.raw(type="disconnect", reason="replaced", reconnect=False)
        while (event := await running.next())["meta"]["event"] != "closed":
            pass
        assert "session id" in event["content"]


INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    b'"clientInfo":{"name":"t","version":"0"}}}\n{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
)


TAGS = ["<channel x>", "</channel>", "< /channel>", "<\u200bCHANNEL>", "<system-reminder>", "</ system-reminder >"]
PLAIN = ["<channels>", "v := <-channel", "a < b", "<div>", "<system>"]


@pytest.mark.parametrize("text", [*TAGS, *PLAIN])
def test_tags_that_claude_code_writes_itself(text: str) -> None:
    """Nobody else's text can pass for one of them; any other text stays as it is."""
    assert harmless(text) == (f"&lt;{text[1:]}" if text in TAGS else text)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_signal_ends_it_though_its_input_stays_open(
    server: CableServer, number: signal.Signals, code: int
) -> None:
    """Goodbye, and the end; what was printed to standard output is MCP and nothing else."""
    process = await start("channel", "a", "--gateway", server.url, **TOKEN)
    assert process.stdin is not None
    process.stdin.write(INITIALIZE + b"not json\n")
    socket = await server.socket()
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = await process.stdout.read(), await process.stderr.read()
    assert await process.wait() == code
    assert len(socket.of(Goodbye)) == 1
    assert {json.loads(line)["jsonrpc"] for line in out.splitlines()} == {"2.0"}
    assert b"attached" in err
    assert b"secret" not in err


async def test_client_that_is_never_ready(server: CableServer) -> None:
    """Nothing is attached for it, and its end is the end."""
    said = await ended(await start("channel", "a", "--gateway", server.url, **TOKEN))
    assert (said.code, said.out) == (0, "")
    assert server.tries == []


async def test_token_that_is_not_accepted(server: CableServer) -> None:
    """An error and its exit code, which Claude Code shows as a server that failed."""
    server.refuse = [401]
    process = await start("channel", "a", "--gateway", server.url, **TOKEN)
    assert process.stdin is not None
    process.stdin.write(INITIALIZE)
    assert process.stdout is not None
    assert process.stderr is not None
    _, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    assert await process.wait() == 1
    assert b"does not accept the token" in err


async def test_sdk_that_is_not_installed(tmp_path: Path) -> None:
    """One line that says what to install."""
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError(name='mcp')")
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    said = await belay("channel", "a", PYTHONPATH=path)
    assert said.is_one_line(), said
    assert "pip install '.[mcp]'" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "BELAY_GATEWAY"),
        (["--gateway", "http://127.0.0.1:9"], "BELAY_TOKEN"),
        (["--gateway", "http://127.0.0.1:9", "--session-id", "a b"], "session id"),
    ],
)
async def test_usage_of_channel(arguments: list[str], says: str) -> None:
    """Refused before a word of MCP."""
    said = await belay("channel", "a", *arguments, BELAY_TOKEN="" if says == "BELAY_TOKEN" else "secret")
    assert said.is_one_line(), said
    assert (said.code, says in said.err) == (2, True)


@pytest.mark.parametrize("kind", ["file", "device", "terminal"])
async def test_input_that_is_no_pipe(server: CableServer, tmp_path: Path, kind: str) -> None:
    """A client starts it, not a person with a file or at a terminal."""
    (tmp_path / "file").write_text("")
    file = tmp_path / "file" if kind == "file" else Path(os.devnull)
    ours, stdin = os.openpty() if kind == "terminal" else (None, os.open(file, os.O_RDONLY))
    try:
        process = await start_on(stdin, PIPE, "channel", "a", "--gateway", server.url, **TOKEN)
        out, err = await process.communicate()
    finally:
        for descriptor in (ours, stdin):
            if descriptor is not None:
                os.close(descriptor)
    assert (process.returncode, out, len(err.splitlines())) == (2, b"", 1)
    assert b"must be pipes of an MCP client" in err


def request(number: int, method: str, **params: Any) -> bytes:
    """A line of JSON-RPC."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


async def test_lines_that_are_no_messages(server: CableServer) -> None:
    """An error with the id null for each; blank ones are none; and nothing is printed of them but one line each."""
    process = await start("channel", "a", "--gateway", server.url, **TOKEN)
    lines = b'not json\n\n  \r\n{"jsonrpc":"2.0"}\n' + INITIALIZE + request(2, "tools/call", name=["x"] * 100)
    said = await ended(process, lines)
    answers = [json.loads(line) for line in said.out.splitlines()]
    errors = [(answer["id"], answer["error"]["code"]) for answer in answers if "error" in answer]
    assert errors == [(None, -32700), (None, -32600), (2, -32602)]
    assert [answer["id"] for answer in answers] == [None, None, 1, 2]
    assert all(len(line) < 300 for line in said.err.splitlines()), said.err
    assert len(said.err.splitlines()) <= 4, said.err


async def test_client_that_was_never_initialised(server: CableServer) -> None:
    """It says that it is ready, and was never told what it talks to: nothing is attached for it."""
    process = await start("channel", "a", "--gateway", server.url, **TOKEN)
    said = await ended(process, INITIALIZE.splitlines(keepends=True)[1] + request(7, "ping"))
    assert (said.code, json.loads(said.out)["id"]) == (0, 7)
    assert server.tries == []


async def test_answers_after_the_input_was_closed() -> None:
    """What was asked before is answered, though nothing more will be asked."""
    loop, reader, (read, write) = asyncio.get_running_loop(), asyncio.StreamReader(), os.pipe()
    pipe, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(write, "wb", buffering=0)
    )
    transport = Transport(reader, asyncio.StreamWriter(pipe, protocol, None, loop), {})
    running = asyncio.create_task(transport.run())
    reader.feed_data(request(2, "ping"))
    await transport.read.receive()
    reader.feed_eof()
    for _ in range(10):
        await asyncio.sleep(0)
    await transport.write.send(SessionMessage(JSONRPCMessage(JSONRPCResponse(jsonrpc="2.0", id=2, result={}))))
    await running
    pipe.close()
    with os.fdopen(read, "rb") as said:
        assert json.loads(said.readline())["id"] == 2


async def test_client_that_is_gone_gets_no_more_work(server: CableServer) -> None:
    """Nobody reads what is written: goodbye, though the input stays open."""
    read, write = os.pipe()
    process = await start_on(PIPE, write, "channel", "a", "--gateway", server.url, **TOKEN)
    os.close(write)
    assert process.stdin is not None
    process.stdin.write(INITIALIZE)
    socket = await server.socket()
    os.close(read)
    await socket.dispatch()
    await socket.wait_closed()
    assert len(socket.of(Goodbye)) == 1
    assert await process.wait() == 0


@pytest.mark.parametrize("by", ["gateway", "signals"])
async def test_ends_though_nobody_reads(server: CableServer, by: str) -> None:
    """A client that reads nothing keeps no process: neither at the channel's end, nor when it is asked to stop."""
    read, write = os.pipe()
    process = await start_on(PIPE, write, "channel", "a", "--gateway", server.url, **TOKEN)
    os.close(write)
    try:
        assert process.stdin is not None
        process.stdin.write(INITIALIZE)
        socket = await server.socket()
        for number in range(8):
            await socket.tell(Broadcast(id=str(number), sender="ann", agent="a", body="x" * 60_000))
        await socket.dispatch()
        await socket.wait_for(Accept)
        await socket.raw(type="disconnect", reason="replaced", reconnect=False)
        if by == "signals":
            await socket.wait_closed()
            for _ in range(2):
                process.send_signal(signal.SIGTERM)
        assert await process.wait() == (1 if by == "gateway" else process.returncode)
    finally:
        os.close(read)
