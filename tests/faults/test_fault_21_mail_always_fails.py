"""Fault 21, for mail: a message that fails each time it is tried, and a model that always fails."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import Json, Kube
from faults.conversing import Mail, conversing, heard
from faults.invariants import Excused
from faults.operating import World, delegation
from llmanswers import Behaviour, decides, fails, says
from llmserver import LlmServer, llm_server
from waiting import eventually

T = TypeVar("T")
MOST_TRIES = 5
MOST_ROUNDS = 5
STEP = 40
SECONDS = 90.0
POISON = "poison"
EXCUSED = Excused(lost={"sick"})
"""Of this an attempt is given up."""


def poisoned(body: Mapping[str, Any]) -> Behaviour:
    """Fails with what it reads the word in, last."""
    last = body["messages"][-1]["content"]
    return fails(500, message="it makes me sick") if POISON in str(last) else says("well")


@pytest.fixture
async def llm() -> AsyncIterator[LlmServer]:
    """A model that one message makes sick."""
    async with llm_server() as server:
        server.otherwise = decides(poisoned)
        yield server
    assert server.refused == []


@pytest.fixture
async def staged(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str, llm: LlmServer
) -> AsyncIterator[tuple[World, Mail]]:
    """Its agent `k` with session `s`, and the operator."""
    kubes = admin_kube, operator_kube, gateway_kube
    async with conversing(installed, kubes, namespace, EXCUSED) as (world, mail):
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        await world.start()
        yield world, mail


async def until(world: World, llm: LlmServer, so: Callable[[], Awaitable[T | None]]) -> T:
    """Time passes whenever no call is under way, until something is so, which is returned."""

    async def check() -> T | None:
        found = await so()
        if not found and all(asked.over.is_set() for asked in llm.requests):
            await world.pass_time(STEP, STEP)
        return found

    return await eventually(check, SECONDS)


async def turns(mail: Mail, number: int) -> list[Json] | None:
    """The turns of session `s`, if there are so many and it is released."""
    found, status = await mail.turns(), await mail.status()
    return found if len(found) >= number and status.get("turns") == len(found) else None


async def test_L10_fault_21_parked_visible_and_the_next_is_delivered(
    staged: tuple[World, Mail], llm: LlmServer
) -> None:
    """After 5 rounds of 5 tries: a turn, the message and an Event say why; who waited behind it is answered."""
    world, mail = staged
    name = await mail.send(f"some {POISON}")
    await mail.send("how are you?")
    parked, answered = await until(world, llm, lambda: turns(mail, 2))
    assert [parked["outcome"], parked["reason"]] == ["Parked", "KeepsFailing"]
    assert "it makes me sick" in parked["message"]
    assert [answered["outcome"], heard(answered)] == ["Answered", ["how are you?"]]
    status = (await mail.waiting())[name]["status"]
    assert [status["phase"], status["reason"], status["message"]] == ["Parked", "KeepsFailing", parked["message"]]
    assert "it makes me sick" in (await mail.event("Parked"))["note"]
    assert len(llm.requests) == MOST_ROUNDS * MOST_TRIES + 1
    after = await mail.status()
    assert [after["phase"], "failedRounds" in after, "lastError" in after] == ["Idle", False, False]
    await world.pass_time(600, STEP)
    assert len(llm.requests) == MOST_ROUNDS * MOST_TRIES + 1, "a parked message is not tried again"


async def test_L10_fault_21_it_is_counted_across_restarts(staged: tuple[World, Mail], llm: LlmServer) -> None:
    """How often it failed is in the session's status, so that a restart doesn't begin at one."""
    world, mail = staged
    name = await mail.send(f"some {POISON}")

    async def failed_three_times() -> bool:
        return bool((await mail.status()).get("failedRounds", 0) >= 3)

    await until(world, llm, failed_three_times)
    await world.stop()
    await world.start()
    (parked,) = await until(world, llm, lambda: turns(mail, 1))
    assert [parked["outcome"], parked["reason"]] == ["Parked", "KeepsFailing"]
    assert (await mail.waiting())[name]["status"]["phase"] == "Parked"
    assert len(llm.requests) <= (MOST_ROUNDS + 1) * MOST_TRIES


async def test_L9_fault_21_a_delegation_that_always_fails(staged: tuple[World, Mail], llm: LlmServer) -> None:
    """Its prompt bounces in each attempt that it may have, then it is Failed and says why; the next is done."""
    world, mail = staged
    await mail.change_agent("k", maxActiveDelegations=1)
    retry = delegation("sick").to("k", "s").asking(POISON).attempts(2, backoff=5)
    await world.create(retry.priority(9), delegation("well").to("k", "s").asking("do it"))

    async def ended(name: str) -> Json | None:
        status = await world.status(name)
        return status if status.get("completionTime") else None

    status = await until(world, llm, lambda: ended("sick"))
    assert [status["phase"], status["reason"], status["attempt"]] == ["Failed", "ModelFailed", 2]
    assert "it makes me sick" in status["message"]
    assert (await until(world, llm, lambda: ended("well")))["result"] == {"text": "well"}
    outcomes = [turn["outcome"] for turn in await mail.turns()]
    assert sorted(outcomes) == ["Answered", "Bounced", "Bounced"]
    assert len(llm.requests) == 2 * MOST_TRIES + 1
