"""Fault 1 for Model agents: the operator is killed after each of its writes, one run for each, and at its answers."""

import json
from collections.abc import Sequence

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import DELEGATIONS, NAMESPACES, Json, Kube
from faults.conversing import Mail, conversing
from faults.mortal import Mortal
from faults.operating import World, delegation
from faults.playing import Play
from llmanswers import says
from llmserver import llm_server

MOST = 120
"""More writes than the scenario has."""
EVERY = 6
"""So many tests share them."""
PLAN = """Have the walls built.
::say I hand the walls to mason.
::call delegate {"agent": "mason", "prompt": "walls"}
::call delegate {"agent": "nobody", "prompt": "roof"}
::then
::say I was told: {result}"""
TALK = "talk"
"""The session."""


class Scene(Play):
    """A Model agent `lead` that delegates to `mason`, which is a process."""

    def __init__(self, world: World, mail: Mail, client: Mortal) -> None:
        super().__init__(world, client)
        self.mail = mail

    async def part(self) -> str:
        """The delegation that the model made, once it is offered; its name."""

        async def offered() -> str | None:
            listed = await self.world.admin.list(
                DELEGATIONS, self.world.namespace, fieldSelector="spec.parentRef.name=house"
            )
            phases = {obj["metadata"]["name"]: (obj.get("status") or {}).get("phase") for obj in listed["items"]}
            return next((name for name, phase in phases.items() if phase == "Dispatched"), None)

        return await self.until(offered)

    async def turns(self, number: int) -> list[Json]:
        """The turns, once there are so many and nobody holds the session."""

        async def there() -> list[Json] | None:
            turns, status = await self.mail.turns(TALK), await self.mail.status(TALK)
            rests = status.get("phase") != "Awaiting" and status.get("turns") == len(turns)
            return turns if len(turns) >= number and rests else None

        return await self.until(there)


async def play(world: World, mail: Mail, client: Mortal) -> Json:
    """A prompt, background mail, two calls of which one is wrong, a message that waits, the end, one more message;
    returns how everything ended."""
    scene = Scene(world, mail, client)
    gateway = world.gateway()
    await scene.start()
    await world.agent("mason")
    await mail.agent("lead", tools=[{"name": "delegate", "agents": ["mason"]}])
    mason = await gateway.attach("mason", "s-mason")
    await scene.settled()
    await mail.send("It rains.", TALK, type="Background")
    await world.create(delegation("house").to("lead", TALK).asking(PLAN))
    part = await scene.part()
    await scene.turns(1)
    await mail.send("And a door!", TALK)
    await scene.settled()
    await mason.accept(part)
    await scene.settled()
    await mason.complete(part)
    await scene.turns(2)
    await mail.send("Thanks.", TALK)
    await scene.turns(3)
    await scene.passes(45)
    return await ends(world, mail, part)


async def ends(world: World, mail: Mail, part: str) -> Json:
    """What there is at the end, without times, versions, and what is named after them."""
    works = (await world.admin.list(DELEGATIONS, world.namespace))["items"]
    status = await mail.status(TALK)
    told = {
        "delegations": {obj["metadata"]["name"]: _work(obj["status"]) for obj in works},
        "turns": [_turn(turn) for turn in await mail.turns(TALK)],
        "session": {field: status.get(field) for field in ("phase", "turns", "usage", "serving", "lastError")},
        "mailbox": list(await mail.waiting(TALK)),
    }
    anonymous: Json = json.loads(json.dumps(told).replace(part, "part"))
    return anonymous


def _work(status: Json) -> Json:
    fields = ("phase", "reason", "message", "attempt", "failures", "sessionId", "result")
    conditions = {c["type"]: [c["status"], c["reason"]] for c in status.get("conditions") or []}
    return {**{field: status.get(field) for field in fields}, "conditions": conditions}


def _turn(turn: Json) -> Json:
    blocks = [*(turn.get("user") or ()), *(turn.get("assistant") or ())]
    return {
        "outcome": turn["outcome"],
        "blocks": [[block.get(field) for field in ("type", "name", "text", "input", "isError")] for block in blocks],
        "consumed": [message["type"] for message in turn["consumed"]],
    }


async def _run(plane: ControlPlane, kubes: Sequence[Kube], last: int) -> tuple[Json, Mortal]:
    admin, operator, _ = kubes
    made = await admin.create(NAMESPACES, None, {"metadata": {"generateName": "fault-"}})
    namespace = made["metadata"]["name"]
    client = Mortal(operator, last)
    try:
        async with conversing(plane, kubes, namespace) as (world, mail):
            return await play(world, mail, client), client
    finally:
        await admin.delete(NAMESPACES, None, namespace)


@pytest.fixture(scope="module")
def kubes(admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube) -> Sequence[Kube]:
    """Clients of administrator, operator and gateway."""
    return admin_kube, operator_kube, gateway_kube


@pytest.fixture(scope="module")
async def without(installed: ControlPlane, kubes: Sequence[Kube]) -> Json:
    """How it ends when nobody is killed."""
    return (await _run(installed, kubes, 0))[0]


async def test_L14_fault_01_how_it_ends(without: Json) -> None:
    """One part, one response for each call, every message read once."""
    assert {name: told["phase"] for name, told in without["delegations"].items()} == {
        "house": "Completed",
        "part": "Completed",
    }
    assert [turn["consumed"] for turn in without["turns"]] == [
        ["Background", "UserMessage"],
        ["ToolResponse", "ToolResponse", "UserMessage"],
        ["UserMessage"],
    ]
    assert without["mailbox"] == []


@pytest.mark.parametrize("first", range(1, EVERY + 1))
async def test_L16_fault_01_killed_after_each_write_it_ends_as_without(
    installed: ControlPlane, kubes: Sequence[Kube], without: Json, first: int
) -> None:
    """Whichever write was the last, here each of every sixth: the same end, in the same words."""
    for last in range(first, MOST, EVERY):
        end, client = await _run(installed, kubes, last)
        assert end == without, f"killed after {client.writes[-1]}, write {last}"
        if not client.dead.is_set():
            return
    raise AssertionError(f"the scenario has more than {MOST} writes")


@pytest.mark.parametrize(
    ("write", "answers"),
    [
        pytest.param("POST turns", 2, id="between the answer and the turn"),
        pytest.param("DELETE messages", 1, id="between the turn and the deletion"),
    ],
)
async def test_L16_fault_01_killed_around_the_turn(
    installed: ControlPlane, kubes: Sequence[Kube], namespace: str, write: str, answers: int
) -> None:
    """An answer that was not written is lost and asked for again; a turn that was is finished, and nobody is asked."""
    method, plural = write.split()

    def is_it(write: str) -> bool:
        return write.startswith(method) and plural in write and f"/{namespace}/" in write

    client = Mortal(kubes[1], instead=is_it)
    async with llm_server() as llm, conversing(installed, kubes, namespace) as (world, mail):
        llm.will(*(says(f"answer {number}") for number in range(1, answers + 1)), says("the next"))
        scene = Scene(world, mail, client)
        await scene.start()
        await mail.keyed_agent(llm.url)
        await mail.open(TALK, "k")
        await mail.send("hello", TALK)
        await scene.turns(1)
        assert scene.killed
        await mail.send("go on", TALK)
        first, second = await scene.turns(2)
        assert [first["assistant"][0]["text"], second["assistant"][0]["text"]] == [f"answer {answers}", "the next"]
        assert [len(llm.requests), llm.refused] == [answers + 1, []]
        assert await mail.waiting(TALK) == {}
