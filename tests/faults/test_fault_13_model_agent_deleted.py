"""Fault 13 for Model agents: the Agent is deleted while its model thinks, and while its tool works."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from belay_api.reasons import Reason
from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, DELEGATIONS, Kube
from faults.conversing import Mail, conversing, heard, said
from faults.operating import World, delegation
from llmanswers import Call, Slowly, calls, hangs
from llmserver import LlmServer, llm_server
from waiting import eventually


@dataclass
class Scene:
    """Agent `k` of runtime Model with session `s`, agent `mason`, and the operator."""

    world: World
    mail: Mail
    llm: LlmServer

    async def told(self, name: str, expected: str) -> None:
        """Return once phase and reason of a delegation are these."""

        async def check() -> bool:
            status = await self.world.status(name)
            return f"{status.get('phase')} {status.get('reason')}" == expected

        await eventually(check)

    async def agent_deleted(self) -> None:
        """Delete Agent `k`."""
        await self.world.admin.delete(AGENTS, self.world.namespace, "k")


@pytest.fixture
async def scene(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str
) -> AsyncIterator[Scene]:
    """It runs."""
    kubes = admin_kube, operator_kube, gateway_kube
    async with llm_server() as llm, conversing(installed, kubes, namespace) as (world, mail):
        await mail.keyed_agent(llm.url)
        await mail.change_agent("k", tools=[{"name": "delegate", "agents": ["mason"]}])
        await mail.open(agent="k")
        await world.agent("mason")
        # Where no gateway is heard, nobody takes an agent for deleted.
        world.gateway()
        await world.start()
        yield Scene(world, mail, llm)
        assert llm.refused == []


async def test_fault_13_an_answer_that_is_under_way_lands(scene: Scene) -> None:
    """It was asked for, and whoever asked hears it; what comes after it waits, says why, and goes on with the Agent."""
    answer = Slowly("I was ", "still there")
    scene.llm.will(answer)
    await scene.mail.send("are you there?")
    await eventually(answer.begun.is_set)
    await scene.agent_deleted()
    await scene.world.settled()
    answer.release(2)
    (turn,) = await scene.mail.has_turns(1)
    assert said(turn) == "I was still there"
    name = await scene.mail.send("and now?")
    blocked = await scene.mail.condition("Blocked", "True")
    assert blocked["reason"] == "AgentMissing"
    assert [list(await scene.mail.waiting()), len(scene.llm.requests)] == [[name], 1]
    await scene.mail.agent("k")
    _, turn = await scene.mail.has_turns(2)
    assert [heard(turn), said(turn)] == [["and now?"], "and now?"]
    await scene.mail.condition("Blocked", "False")


async def test_fault_13_work_under_way_fails_and_the_call_is_cut_short(scene: Scene) -> None:
    """Failed (AgentDeleted), nobody waits for the answer any more, and the session rests."""
    scene.llm.will(hangs())
    await scene.world.create(delegation("house").to("k", "s"))
    asked = await scene.llm.asked(1)
    await scene.agent_deleted()
    await scene.told("house", f"Failed {Reason.AGENT_DELETED}")
    await eventually(asked.over.is_set)
    assert asked.abandoned
    (turn,) = await scene.mail.has_turns(1)
    assert [turn["outcome"], turn["reason"]] == ["Interrupted", "DelegationEnded"]
    status = await scene.mail.status()
    assert [status["phase"], "serving" in status, await scene.mail.waiting()] == ["Idle", False, {}]


async def test_fault_13_what_its_tools_began_ends(scene: Scene) -> None:
    """The part that its model delegated is Cancelled, the call is closed, and nothing of it is left open."""
    scene.llm.will(calls(Call("delegate", {"agent": "mason", "prompt": "wall"})))
    await scene.world.create(delegation("house").to("k", "s"))
    await scene.mail.phase("Executing")
    of = "spec.parentRef.name=house"
    (part,) = (await scene.world.admin.list(DELEGATIONS, scene.world.namespace, fieldSelector=of))["items"]
    await scene.agent_deleted()
    await scene.told("house", f"Failed {Reason.AGENT_DELETED}")

    async def over() -> bool:
        return (await scene.world.status(part["metadata"]["name"])).get("phase") == "Cancelled"

    await eventually(over)
    status = await scene.mail.phase("Idle")
    assert ["openToolCalls" in status, "serving" in status] == [False, False]
    assert [turn["outcome"] for turn in await scene.mail.turns()] == ["Answered", "Interrupted"]
