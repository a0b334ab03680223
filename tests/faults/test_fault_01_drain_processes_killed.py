"""Fault 1 for Model agents, with real processes: a SIGKILL while a model thinks, at its turn, at its part's end."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from belay_dev.controlplane import ControlPlane
from belay_dev.guard import Guard
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.clock import SystemClock
from faults.conversing import Mail, conversing, said
from faults.operating import World, delegation
from faults.relay import Relay, renewing
from llmanswers import Call, calls, hangs, says
from llmserver import LlmServer, llm_server
from waiting import eventually

T = TypeVar("T")
SECONDS = 120.0
"""A dead holder's claim is waited for, and a dead leader's Lease."""
KILLS = 3


class Scene:
    """A Model agent `k` that delegates to `mason`."""

    def __init__(self, world: World, mail: Mail, llm: LlmServer, relay: Relay) -> None:
        self.world = world
        self.mail = mail
        self.llm = llm
        self.relay = relay

    async def play(self) -> None:
        """House and wall, with three kills."""
        self.llm.will(hangs(), calls(Call("delegate", {"agent": "mason", "prompt": "wall"})), says("it stands"))
        await self.world.agent("mason")
        await self.mail.keyed_agent(self.llm.url)
        await self.mail.change_agent("k", tools=[{"name": "delegate", "agents": ["mason"]}])
        mason = await self.world.gateway().attach("mason", "s-mason")
        self.relay.next()
        await self.world.create(delegation("house").to("k", "talk"))
        await self.so(lambda: self.asked(1))
        self.relay.next()
        await self.so(lambda: self.mail.turns("talk"))
        self.relay.next()
        part = await self.so(self.part)
        await mason.accept(part)
        await self.so(lambda: self.phase("talk", "Executing"))
        await mason.complete(part)
        self.relay.next()
        await self.so(self.done)

    async def so(self, check: Callable[[], Awaitable[T | None]]) -> T:
        """What `check` returns once it is true."""
        return await eventually(check, SECONDS)

    async def asked(self, number: int) -> bool:
        """Whether the model was asked so often."""
        return len(self.llm.requests) >= number

    async def part(self) -> str | None:
        """The model's delegation, once it is offered; its name."""
        of = "spec.parentRef.name=house"
        listed = await self.world.admin.list(DELEGATIONS, self.world.namespace, fieldSelector=of)
        offered = (obj for obj in listed["items"] if (obj.get("status") or {}).get("phase") == "Dispatched")
        return next((str(obj["metadata"]["name"]) for obj in offered), None)

    async def phase(self, session: str, phase: str) -> bool:
        """Whether a session is in a phase."""
        return bool((await self.mail.status(session)).get("phase") == phase)

    async def done(self) -> bool:
        """Whether the house is, and the session is released."""
        completed = (await self.world.status("house")).get("phase") == "Completed"
        return completed and await self.phase("talk", "Idle")


@pytest.mark.timeout(600)
async def test_L16_fault_01_model_agents_outlive_killed_operators(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str,
    guard: Guard, tmp_path: Path
) -> None:  # fmt: skip
    """An answer that nobody heard is asked for again; all else happens once: two turns, one part, one response."""
    account = installed.service_account_kubeconfig("belay", "belay-operator", tmp_path / "operator.kubeconfig")
    kubes = admin_kube, operator_kube, gateway_kube
    async with llm_server() as llm, conversing(installed, kubes, namespace) as (world, mail):
        world.clock = SystemClock()  # type: ignore[assignment]
        relay = Relay(guard, account, tmp_path)
        beating = asyncio.ensure_future(renewing(world))
        try:
            await Scene(world, mail, llm, relay).play()
        finally:
            beating.cancel()
            relay.end()
        assert [relay.killed, len(llm.requests), llm.refused] == [KILLS, 3, []]
        turns: list[Json] = await mail.turns("talk")
        assert [turn["outcome"] for turn in turns] == ["Answered", "Answered"]
        assert [said(turns[1]), turns[1]["user"][0]["text"]] == ["it stands", "x"]
        assert (await world.status("house"))["result"] == {"text": "it stands"}
        assert await mail.waiting("talk") == {}
