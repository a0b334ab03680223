"""Fault 14 for Model agents: a session is deleted in the middle of a call, and a namespace with all of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from belay_api.meta import GROUP
from belay_api.reasons import Reason
from belay_dev.controlplane import ControlPlane
from belay_kube.client import MESSAGES, NAMESPACES, SESSIONS, TURNS, Json, Kube
from belay_kube.errors import NotFound
from faults.conversing import Mail, conversing, heard, said
from faults.operating import World, delegation
from llmanswers import Call, Slowly, calls, hangs, says
from llmserver import LlmServer, llm_server
from waiting import eventually

SECONDS = 60.0


@dataclass
class Scene:
    """Agent `k` of runtime Model with session `s`, and the operator."""

    world: World
    mail: Mail
    llm: LlmServer

    async def session_deleted(self) -> None:
        """Delete session `s`."""
        await self.world.admin.delete(SESSIONS, self.world.namespace, "s")

    async def turns_of(self, uid: str) -> list[Json]:
        """The specifications of the turns that go with this session, in order."""
        turns = (await self.world.admin.list(TURNS, self.world.namespace))["items"]
        mine = [turn["spec"] for turn in turns if turn["metadata"]["ownerReferences"][0]["uid"] == uid]
        return sorted(mine, key=lambda turn: int(turn["sequence"]))

    async def answered(self, seconds: float) -> list[Json] | None:
        """The turns of session `s` after some time, if it told of them."""
        await self.world.pass_time(seconds)
        turns, status = await self.mail.turns(), await self.mail.status()
        return turns if status.get("turns") == len(turns) else None

    async def keep_turn(self, finalizers: list[str]) -> None:
        """Hold the first turn back for somebody, or for nobody any more."""
        await self.world.admin.patch(TURNS, self.world.namespace, "s-1", {"metadata": {"finalizers": finalizers}})

    async def left(self) -> list[str]:
        """Names of the mail and turns that are there."""
        listed = [await self.world.admin.list(kind, self.world.namespace) for kind in (MESSAGES, TURNS)]
        return [obj["metadata"]["name"] for found in listed for obj in found["items"]]


@pytest.fixture
async def scene(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str
) -> AsyncIterator[Scene]:
    """It runs."""
    kubes = admin_kube, operator_kube, gateway_kube
    async with llm_server() as llm, conversing(installed, kubes, namespace) as (world, mail):
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        await world.start()
        yield Scene(world, mail, llm)
        assert llm.refused == []


async def test_L1_fault_14_nobody_answers_for_a_session_that_is_gone(scene: Scene) -> None:
    """The call is cut short, mail and turns go with the session, and others are not held up by it."""
    scene.llm.will(says("welcome"), hangs(), says("not held up"))
    await scene.mail.send("hello")
    await scene.mail.has_turns(1)
    await scene.mail.send("are you there?")
    await scene.mail.send("hello?")
    asked = await scene.llm.asked(2)
    await scene.session_deleted()
    await eventually(asked.over.is_set)
    assert asked.abandoned
    await eventually(_nothing(scene), SECONDS)
    await scene.mail.open("other", "k")
    await scene.mail.send("hello", "other")
    (turn,) = await scene.mail.has_turns(1, "other")
    assert [said(turn), len(scene.llm.requests)] == ["not held up", 3]


async def test_L1_fault_14_another_session_of_that_name_begins_anew(scene: Scene) -> None:
    """Opened at once, while turns and an answer of the first are still there: it hears nothing of what was said."""
    answer = Slowly("it is ", "seven")
    scene.llm.will(says("the secret is seven"), answer)
    await scene.mail.send("what is the secret?")
    await scene.mail.has_turns(1)
    await scene.mail.send("tell me more")
    await eventually(answer.begun.is_set)
    await scene.session_deleted()
    uid = (await scene.mail.open(agent="k"))["metadata"]["uid"]
    answer.release(2)
    await scene.mail.send("good day")

    async def greeted() -> bool:
        await scene.world.pass_time(5)
        return "good day" in [piece for turn in await scene.turns_of(uid) for piece in heard(turn)]

    await eventually(greeted, SECONDS)
    told = [str(asked.body["messages"]) for asked in scene.llm.requests[2:]]
    assert [words for words in told if "seven" in words] == []
    assert [turn["sequence"] for turn in await scene.turns_of(uid)][:1] == [1]


async def test_L18_fault_14_a_turn_of_an_earlier_session_is_not_taken_for_ones_own(scene: Scene) -> None:
    """Its turns are held back by somebody's finalizer: an answer waits for its place, and is neither lost nor asked for
    again, and what was said before stays unheard."""
    scene.llm.will(says("the secret is seven"), says("how do you do"), says("good bye"))
    await scene.mail.send("what is the secret?")
    await scene.mail.has_turns(1)
    await scene.keep_turn(["example.com/archived"])
    await scene.session_deleted()
    uid = (await scene.mail.open(agent="k"))["metadata"]["uid"]
    name = await scene.mail.send("good day")
    await scene.llm.asked(2)
    await scene.world.pass_time(5)
    assert [await scene.turns_of(uid), list(await scene.mail.waiting())] == [[], [name]]
    await scene.keep_turn([])

    async def turns() -> list[Json]:
        await scene.world.pass_time(5)
        return await scene.turns_of(uid)

    (turn,) = await eventually(turns, SECONDS)
    assert [turn["sequence"], heard(turn), said(turn)] == [1, ["good day"], "how do you do"]
    await scene.mail.send("good bye")
    _, turn = await scene.mail.has_turns(2)
    assert [said(turn), len(scene.llm.requests)] == ["good bye", 3]
    assert "seven" not in str(scene.llm.requests[-1].body["messages"])


async def test_L10_fault_14_a_turn_that_is_never_cleared_away_is_said(scene: Scene) -> None:
    """An earlier session of that name was deleted without its turns: mail is kept, and the session says what to do."""
    scene.llm.will(says("the secret is seven"), *[says("how do you do")] * 2)
    await scene.mail.send("what is the secret?")
    await scene.mail.has_turns(1)
    await scene.keep_turn(["example.com/archived"])
    await scene.session_deleted()
    await scene.mail.open(agent="k")
    name = await scene.mail.send("good day")

    async def failed() -> Json | None:
        await scene.world.pass_time(5)
        return (await scene.mail.status()).get("lastError")

    error = await eventually(failed, SECONDS)
    assert [error["reason"], "s-1" in error["message"], "delete it" in error["message"]] == ["NotStored", True, True]
    assert list(await scene.mail.waiting()) == [name]
    await scene.keep_turn([])
    (turn,) = await eventually(lambda: scene.answered(5), SECONDS)
    assert said(turn) == "how do you do"


async def test_fault_14_work_of_a_deleted_session_fails(scene: Scene) -> None:
    """Failed (SessionDeleted), and the call is cut short; the next piece of work gets a session of its own."""
    scene.llm.will(hangs(), says("done"))
    await scene.world.create(delegation("house").to("k", "s"))
    asked = await scene.llm.asked(1)
    await scene.session_deleted()

    async def ended(name: str) -> str | None:
        status = await scene.world.status(name)
        return f"{status['phase']} {status['reason']}" if status.get("completionTime") else None

    assert await eventually(lambda: ended("house")) == f"Failed {Reason.SESSION_DELETED}"
    await eventually(asked.over.is_set)
    assert asked.abandoned
    await scene.world.create(delegation("shed").to("k", "s"))
    assert await eventually(lambda: ended("shed")) == "Completed Completed"
    assert (await scene.world.status("shed"))["result"] == {"text": "done"}


async def test_I5_fault_14_a_namespace_with_conversations_goes_without_the_operator(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube
) -> None:
    """Sessions in each phase, mail in each, turns, a tool that works: none is held back by anything of ours."""
    made = await admin_kube.create(NAMESPACES, None, {"metadata": {"generateName": "fault-"}})
    namespace = made["metadata"]["name"]
    kubes = admin_kube, operator_kube, gateway_kube
    async with llm_server() as llm, conversing(installed, kubes, namespace) as (world, mail):
        llm.will(calls(Call("delegate", {"agent": "nobody", "prompt": "x"})), hangs())
        await mail.keyed_agent(llm.url)
        await mail.change_agent("k", tools=[{"name": "delegate", "agents": ["nobody"]}])
        await world.start()
        await mail.open("executing", "k")
        await mail.send("call", "executing")
        await mail.phase("Executing", "executing")
        await mail.open("awaiting", "k")
        await mail.send("think", "awaiting")
        await llm.asked(2)
        await mail.send("later", "awaiting")
        await world.stop()
        there = [
            obj for kind in (SESSIONS, MESSAGES, TURNS) for obj in (await admin_kube.list(kind, namespace))["items"]
        ]
        assert len(there) >= 5
        assert [o for o in there if any(GROUP in name for name in o["metadata"].get("finalizers") or [])] == []
        await admin_kube.delete(NAMESPACES, None, namespace)

        async def gone() -> bool:
            try:
                await admin_kube.get(NAMESPACES, None, namespace)
            except NotFound:
                return True
            return False

        await eventually(gone, SECONDS)
        await world.start()
        boxes = world.operator.seen.mailboxes
        assert [ref for ref in (*boxes.sessions, *boxes.messages) if ref.namespace == namespace] == []


def _nothing(scene: Scene) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        await scene.world.pass_time(5)
        return not await scene.left()

    return check
