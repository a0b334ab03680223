"""A permission on the real thing: asked by an agent's process, decided on a person's command line, heard by it."""

import asyncio
import json
from functools import partial
from pathlib import Path

from belay_client import AgentChannel
from e2e.conftest import Belay

CASES = (("1", "approve", "Allow", "Allowed"), ("2", "deny", "Deny", "Denied"))


def is_in(belay: Belay, name: str, phase: str) -> bool:
    """Whether a request is in `phase`."""
    return bool(belay.status("bperm", name).get("phase") == phase)


async def test_a_person_decides_what_an_agent_asks(belay: Belay) -> None:
    """`belay approve` and `belay deny` reach the agent by name; the operator shows where each request stands."""
    belay.create_agent("asking")
    ready = belay.stack.ready
    token = Path(ready.token_file)
    async with AgentChannel(ready.gateway, agent="default/asking", token=token, session_id="s1") as channel:
        for request_id, command, behavior, phase in CASES:
            name = await channel.request_permission(request_id, "Bash", input_preview="ls")
            assert name is not None
            done = await asyncio.to_thread(belay.run, command, name, "--reason", "because")
            assert done.returncode == 0, done.stderr
            heard = await asyncio.wait_for(channel.next_decision(), 60)
            assert (heard.name, heard.request_id, heard.behavior) == (name, request_id, behavior)
            assert heard.reason == "because"
            await asyncio.to_thread(belay.until, partial(is_in, belay, name, phase))
            kubectl = belay.stack.control_plane.kubectl
            me = json.loads(await asyncio.to_thread(kubectl, "auth", "whoami", "-o", "json"))
            assert heard.decided_by == me["status"]["userInfo"]["username"]
