"""Fault 12 for Model agents: somebody writes first, three times running, before each status of a session or message."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import MESSAGES, SESSIONS, Collection, Json, Kube
from faults.conversing import Mail, conversing, said
from faults.operating import Faulty, World, delegation
from waiting import eventually

pytestmark = pytest.mark.timeout(400)
T = TypeVar("T")
TIMES = 3
MOST_WRITES = 30
"""More than there is to say of one session here, and less than a loop would."""
ANNOTATION = "example.com/seen"
TOOLS = """Use a tool.
::call unheard_of {}
::then
::say It said: {result}"""
SECONDS = 150.0


class Meddler:
    """A controller of somebody else: it writes just before the operator does, three times, and lets the fourth pass."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.tried: Counter[tuple[str, str]] = Counter()

    async def __call__(self, path: Collection, obj: Json) -> None:
        """Before a write of the operator: a real 409 awaits it."""
        name = obj["metadata"]["name"]
        if path not in (SESSIONS, MESSAGES) or not self._world.is_mine(obj):
            return
        self.tried[path.plural, name] += 1
        count = self.tried[path.plural, name]
        if count % (TIMES + 1):
            seen = {"metadata": {"annotations": {ANNOTATION: str(count)}}}
            await self._world.admin.patch(path, self._world.namespace, name, seen)

    def left(self, path: Collection, name: str) -> str:
        """What it wrote last."""
        count = self.tried[path.plural, name]
        return str(count if count % (TIMES + 1) else count - 1)


async def in_time(world: World, so: Callable[[], Awaitable[T | None]]) -> T:
    """Time passes until something is so, which is returned."""

    async def check() -> T | None:
        found = await so()
        if not found:
            await world.pass_time(5)
        return found

    return await eventually(check, SECONDS)


async def turns(mail: Mail, number: int) -> list[Json] | None:
    """The turns of session `s`, if there are so many and it is released."""
    found, status = await mail.turns(), await mail.status()
    return found if len(found) >= number and status.get("turns") == len(found) else None


async def test_L3_fault_12_every_session_status_is_written_in_the_end(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str
) -> None:
    """A round, a message that is parked, a round of tools and a delegation: each once, in order, in bounded tries."""
    kubes = admin_kube, operator_kube, gateway_kube
    async with conversing(installed, kubes, namespace) as (world, mail):
        client = Faulty(world.operator_kube)
        client.before_write = meddler = Meddler(world)
        await mail.agent()
        await mail.open()
        await world.start(client)
        await mail.send("hello")
        strange = await mail.send("::fail 400")
        await mail.send(TOOLS)
        await in_time(world, lambda: turns(mail, 4))
        await world.create(delegation("house").to("m", "s").asking("build"))
        found = await in_time(world, lambda: turns(mail, 5))
        outcomes = [turn["outcome"] for turn in found]
        assert outcomes == ["Answered", "Parked", "Answered", "Answered", "Answered"]
        assert [said(found[0]), said(found[4])] == ["hello", "build"]
        assert (await mail.waiting())[strange]["status"]["phase"] == "Parked"
        assert (await world.status("house"))["result"] == {"text": "build"}
        assert max(meddler.tried.values()) <= MOST_WRITES * (TIMES + 1), meddler.tried
        assert meddler.tried[SESSIONS.plural, "s"] > len(found) * TIMES
        # A last word on it may still be on its way.
        await world.settled()
        session = await world.admin.get(SESSIONS, namespace, "s")
        assert session["metadata"]["annotations"][ANNOTATION] == meddler.left(SESSIONS, "s")
