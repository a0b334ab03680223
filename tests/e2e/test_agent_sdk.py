"""The agent SDK on the real thing: what an agent asks and hears beside its work."""

import asyncio
from collections.abc import Callable

import aiohttp

from belay_client import AgentChannel
from e2e.conftest import Belay


def attach(belay: Belay, agent: str) -> AgentChannel:
    """Create an Agent, and a channel as it."""
    belay.create_agent(agent)
    return AgentChannel(belay.stack.ready.gateway, agent=f"default/{agent}", token=belay.stack.ready.token_file)


async def until(belay: Belay, fact: Callable[[], object]) -> None:
    """Wait for a fact, while the channel goes on."""
    await asyncio.to_thread(belay.until, fact)


async def test_released_work_is_offered_again(belay: Belay) -> None:
    """Given back unfinished: the next attempt, with the reason to see, is anyone's who takes it."""
    async with attach(belay, "releaser") as channel:
        await asyncio.to_thread(belay.run, "delegate", "releaser", "x", "--name", "released")
        work = await (await channel.next_offer()).accept()
        assert work is not None
        await work.release("not now")
        offer = await channel.next_offer()
        assert (offer.name, offer.attempt) == ("released", 2)
        again = await offer.accept()
        assert again is not None
        await again.complete("done")
        await asyncio.to_thread(belay.until_phase, "released", "Completed")


async def test_delegated_work_is_a_part_of_the_held(belay: Belay) -> None:
    """The name is that of a Delegation whose parent is the held one; it is asked for by this session."""
    belay.create_agent("helper")
    async with attach(belay, "boss") as channel:
        await asyncio.to_thread(belay.run, "delegate", "boss", "x", "--name", "whole")
        work = await (await channel.next_offer()).accept()
        assert work is not None
        name = await channel.delegate("helper", "do a part", parent=work.name, idempotency_key="part-1")
        assert await channel.delegate("helper", "do a part", parent=work.name, idempotency_key="part-1") == name
        spec = (await asyncio.to_thread(belay.get, "delegation", name))["spec"]
        assert (spec["agentRef"], spec["parentRef"]) == ({"name": "helper"}, {"kind": "Delegation", "name": "whole"})
        assert spec["task"]["prompt"] == "do a part"
        await work.complete("done")


async def test_C3_broadcast_is_heard(belay: Belay) -> None:
    """What is posted for an agent comes out of its channel, once, with who said it."""
    async with attach(belay, "listener") as channel, aiohttp.ClientSession() as http:
        url = f"{belay.stack.ready.gateway}/api/v1/namespaces/default/agents/listener/broadcast"
        token = {"Authorization": f"Bearer {belay.stack.ready.token_file.read_text().strip()}"}
        async with http.post(url, json={"body": {"lunch": True}}, headers=token) as answer:
            sent = await answer.json()
            assert answer.status == 200, sent
        heard = await channel.next_broadcast()
        assert (heard.id, heard.body, heard.agent) == (sent["id"], {"lunch": True}, "default/listener")
        assert heard.sender
