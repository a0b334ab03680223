"""Claude Code as an agent on the real thing: `belay channel` between the MCP SDK's client and a whole Belay."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from client.claude import PERMISSION, Claude, claude
from e2e.conftest import Belay, holds

ADMIN = "belay-admin"
"""Whom `kubectl` of the tests acts as."""


def attach(belay: Belay, agent: str) -> AbstractAsyncContextManager[Claude]:
    """Create an Agent, and start Claude Code with a channel of it."""
    belay.create_agent(agent, {"timing": {"reconnectGraceSeconds": 60}})
    return claude(agent, env=belay.environment, log=belay.folder / f"{agent}.log")


async def until(belay: Belay, fact: Callable[[], object]) -> None:
    """Wait for a fact, while the MCP client goes on reading."""
    await asyncio.to_thread(belay.until, fact)


async def given(belay: Belay, running: Claude, agent: str, name: str, prompt: str = "do it") -> None:
    """Delegate as a person does, and wait until Claude was told of it."""
    done = await asyncio.to_thread(belay.run, "delegate", agent, prompt, "--name", name, "--input", "k=v")
    assert done.returncode == 0, done.stderr
    event = await running.next()
    assert (event["meta"]["event"], event["meta"]["delegation"]) == ("dispatch", name)
    assert event["content"].startswith(f"{prompt}\n\n<input ")


async def asked(belay: Belay, agent: str, request_id: str) -> dict[str, Any]:
    """The PermissionRequest of one agent with that id, once it is there."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        listed = json.loads(belay.stack.control_plane.kubectl("get", "permissionrequests", "-o", "json"))["items"]
        wanted = (agent, request_id)
        found[:] = [r for r in listed if (r["spec"]["agentRef"]["name"], r["spec"]["requestId"]) == wanted]
        return bool(found)

    await until(belay, there)
    return found[0]


def allow(belay: Belay, name: str) -> None:
    """Decide with the command."""
    done = belay.run("approve", name, "--reason", "it only lists")
    assert done.returncode == 0, done.stderr


def deny(belay: Belay, name: str) -> None:
    """Decide with plain kubectl."""
    change = {"spec": {"decision": {"behavior": "Deny", "decidedBy": ADMIN}}}
    belay.stack.control_plane.kubectl("patch", "permissionrequest", name, "--type", "merge", "-p", json.dumps(change))


async def test_reply_completes_the_delegation(belay: Belay) -> None:
    """From `belay delegate` to an event for Claude; progress and result are there for kubectl to see."""
    async with attach(belay, "claude-1") as running:
        await given(belay, running, "claude-1", "told", "say hi")
        assert (await running.call("progress", delegation="told", percent=40, message="half"))[0]
        await until(belay, lambda: (belay.status("delegation", "told").get("progress") or {}).get("percent") == 40)
        assert (await running.call("reply", delegation="told", text="hi"))[0]
        status = await asyncio.to_thread(belay.until_phase, "told", "Completed")
        assert status["result"] == {"text": "hi"}
        done, text = await running.call("reply", delegation="told", text="again")
        assert (done, "no delegation told is held" in text) == (False, True)


async def test_fail_says_why_to_kubectl(belay: Belay) -> None:
    """Failed, with Claude's reason."""
    async with attach(belay, "claude-2") as running:
        await given(belay, running, "claude-2", "given-up")
        assert (await running.call("fail", delegation="given-up", reason="there is no such file"))[0]
        status = await asyncio.to_thread(belay.until_phase, "given-up", "Failed")
        assert "there is no such file" in status["message"]


async def test_D9_cancel_reaches_claude_and_its_word_is_the_proof(belay: Belay) -> None:
    """`belay cancel` becomes an event; acknowledged only once Claude says that it has stopped."""
    async with attach(belay, "claude-3") as running:
        await given(belay, running, "claude-3", "unwished")
        await asyncio.to_thread(belay.run, "cancel", "unwished")
        assert (await running.next())["meta"]["event"] == "cancel"
        await until(belay, lambda: holds(belay.status("delegation", "unwished"), "CancelDelivered"))
        assert not holds(belay.status("delegation", "unwished"), "CancelAcknowledged")
        assert (await running.call("stopped", delegation="unwished"))[0]
        await until(belay, lambda: holds(belay.status("delegation", "unwished"), "CancelAcknowledged"))


async def test_permission_is_decided_by_a_person(belay: Belay) -> None:
    """Claude Code's prompt is a PermissionRequest of the work it is on; the decision is its verdict."""
    async with attach(belay, "claude-4") as running:
        await given(belay, running, "claude-4", "careful")
        for request_id, decide, word in (("aaaaa", allow, "allow"), ("bbbbb", deny, "deny")):
            await running.prompt(request_id, preview=json.dumps({"command": request_id}))
            request = await asked(belay, "claude-4", request_id)
            assert (request["spec"]["tool"], request["spec"]["delegationRef"]) == ("Bash", {"name": "careful"})
            await asyncio.to_thread(decide, belay, request["metadata"]["name"])
            assert await running.next(PERMISSION) == {"request_id": request_id, "behavior": word}
        assert (await running.call("reply", delegation="careful", text="done"))[0]


async def test_C5_decision_taken_while_disconnected_arrives(belay: Belay) -> None:
    """The gateway is away when somebody decides; work and prompt go on when it is back."""
    async with attach(belay, "claude-5") as running:
        await given(belay, running, "claude-5", "patient-prompt")
        await running.prompt("ccccc")
        name = (await asked(belay, "claude-5", "ccccc"))["metadata"]["name"]
        await asyncio.to_thread(belay.stack.restart_gateway, lambda: allow(belay, name))
        assert await running.next(PERMISSION) == {"request_id": "ccccc", "behavior": "allow"}
        assert (await running.call("reply", delegation="patient-prompt", text="done"))[0]
        await asyncio.to_thread(belay.until_phase, "patient-prompt", "Completed")


async def test_C7_end_of_claude_code_is_a_goodbye(belay: Belay) -> None:
    """Its input closed: the session is gone at once, and its work is dealt with; what it asked nobody answers."""
    async with attach(belay, "claude-6") as running:
        await given(belay, running, "claude-6", "left-behind")
        await running.prompt("ddddd")
        await asked(belay, "claude-6", "ddddd")
    status = await asyncio.to_thread(belay.until_phase, "left-behind", "Cancelled")
    assert not holds(status, "CancelAcknowledged")
    name = (await asked(belay, "claude-6", "ddddd"))["metadata"]["name"]
    await until(belay, lambda: belay.status("permissionrequest", name).get("phase") == "Expired")
