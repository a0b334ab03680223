"""Holders that die, or are late: nothing is lost, and nothing enters twice (L16, L18)."""

import pytest

from belay_kube.client import DELEGATIONS, SESSIONS, TURNS, Collection, Json
from belay_kube.errors import Unreachable
from llmanswers import Slowly, fails, hangs, says
from llmserver import llm_server
from llmstream import Stream
from waiting import eventually

from .faulty import Faulty, Mortal
from .mail import Mail, Other, asked, calls, heard, raised, said
from .world import World

EXPIRED = 31
"""Seconds until a claim that nobody renews may be taken over, by the eyes of who saw it."""
CALL = '::call delegate {"agent": "w", "prompt": "work"}\n::then\n::say done'


async def dies(world: World, kube: Mortal) -> None:
    """Wait for the end of the operator that uses `kube`, and let another one follow it."""
    await eventually(lambda: kube.died)
    await world.stop()
    await world.start()
    await world.pass_time(EXPIRED)


@pytest.mark.parametrize("writes", range(4), ids=["claim", "turn", "deletion", "release"])
async def test_L16_killed_before_each_write_of_an_answer(stopped_world: World, mail: Mail, writes: int) -> None:
    """Whoever follows leaves what there would have been: one turn, an empty mailbox, Idle."""
    await mail.open()
    await Other(stopped_world).write(phase="Idle")
    await mail.send("hello")
    kube = Mortal(stopped_world.operator_kube, mail.namespace, writes)
    await stopped_world.start(kube)
    await dies(stopped_world, kube)
    (turn,) = await mail.has_turns(1)
    await mail.rests(stopped_world)
    assert [turn["outcome"], heard(turn), await mail.waiting()] == ["Answered", ["hello"], {}]
    status = await mail.status()
    assert [status["phase"], status["turns"], status["usage"]["calls"]] == ["Idle", 1, 1]
    assert asked(stopped_world) == (1 if writes < 2 else 0)
    assert len(await mail.turns()) == 1


@pytest.mark.parametrize("writes", range(5), ids=["claim", "turn", "deletion", "delegation", "release"])
async def test_L16_killed_before_each_write_of_a_tool_call(stopped_world: World, mail: Mail, writes: int) -> None:
    """The call is made once, its response comes once, and the conversation goes on."""
    await stopped_world.agent("w")
    await mail.agent("d", tools=[{"name": "delegate", "agents": ["w"]}])
    await mail.open(agent="d")
    await Other(stopped_world).write(phase="Idle")
    await mail.send(CALL)
    kube = Mortal(stopped_world.operator_kube, mail.namespace, writes)
    await stopped_world.start(kube)
    await dies(stopped_world, kube)
    (call,) = (await mail.phase("Executing"))["openToolCalls"]
    (child,) = (await mail.kube.list(DELEGATIONS, mail.namespace))["items"]
    assert child["metadata"]["name"] == call["delegation"]
    await stopped_world.cancel(call["delegation"])
    first, second = await mail.has_turns(2)
    assert [block["toolUseId"] for block in calls(first)] == [call["id"]]
    assert [[block["toolUseId"] for block in second["user"]], said(second)] == [[call["id"]], "done"]
    await mail.rests(stopped_world)
    assert [await mail.waiting(), (await mail.status())["phase"]] == [{}, "Idle"]


async def test_L16_a_bounce_that_was_left_half_done_is_finished(world: World, mail: Mail) -> None:
    """The turn says what becomes of the message; nobody is asked again."""
    await mail.open()
    await mail.tells(phase="Idle")
    other = Other(world)
    await other.claim()
    name = await mail.send("strange", bounceBack=True)
    await other.turn(1, "Bounced", await mail.message(name) or {}, reason="Rejected", message="too strange")
    await mail.rests(world)
    await world.pass_time(EXPIRED)
    assert (await mail.returned(name, "Bounced"))["message"] == "too strange"
    status = await mail.tells(phase="Idle", turns=1)
    assert status["lastError"]["reason"] == "Rejected"
    assert asked(world) == 0


async def test_L16_a_release_that_fails_is_made_up_for(stopped_world: World, mail: Mail) -> None:
    """Without asking again; and while the API server refuses, it is tried less and less often (I6)."""
    kube, broken, tries = Faulty(stopped_world.operator_kube), list[int](), list[int]()
    await stopped_world.start(kube)
    await mail.open()
    await mail.tells(phase="Idle")

    async def breaks(path: Collection, obj: Json) -> None:
        if path == TURNS and obj["metadata"]["namespace"] == mail.namespace:
            broken.append(1)

    async def refuse(path: Collection, obj: Json) -> None:
        if path == SESSIONS and obj["metadata"]["namespace"] == mail.namespace and broken:
            tries.append(1)
            raise Unreachable("refused by the test")

    kube.after_create, kube.before_write = breaks, refuse
    await mail.send("hello")
    await eventually(lambda: tries)
    await stopped_world.pass_time(60, step=5)
    assert 3 <= len(tries) <= 8
    assert (await mail.status())["phase"] == "Awaiting"
    kube.before_write = None
    await stopped_world.pass_time(70)
    (turn,) = await mail.has_turns(1)
    assert [turn["outcome"], asked(stopped_world), await mail.waiting()] == ["Answered", 1, {}]


async def test_L18_a_dead_holders_claim_is_taken_over(world: World, mail: Mail) -> None:
    """30 s after it was last seen to move, and not earlier."""
    await mail.open()
    await mail.tells(phase="Idle")
    await Other(world).claim()
    await mail.send("hello")
    await mail.rests(world)
    await world.pass_time(29)
    await mail.rests(world)
    assert [(await mail.status())["claim"]["token"], await mail.turns()] == ["theirs", []]
    await world.pass_time(1.5)
    await mail.has_turns(1)
    assert (await mail.status())["phase"] == "Idle"


async def test_L18_a_claim_is_renewed_for_as_long_as_it_takes(world: World, mail: Mail) -> None:
    """Another operator looks on, and leaves it alone; there is one answer."""
    second = World(world.admin, world.operator_kube, world.gateway_kube, world.namespace)
    second.clock = world.clock
    await second.start()
    try:
        await mail.open()
        await mail.send("::wait 100\nhello")
        claim = (await mail.phase("Awaiting"))["claim"]
        for _ in range(18):
            await world.pass_time(5)
            await second.settled()
        renewed = (await mail.status())["claim"]
        assert [renewed["token"], renewed["renewTime"] > claim["renewTime"]] == [claim["token"], True]
        await world.pass_time(11, step=5)
        (turn,) = await mail.has_turns(1)
        assert turn["outcome"] == "Answered"
        assert asked(world) + asked(second) == 1
    finally:
        await second.stop()


async def test_L3_L18_two_operators_answer_each_message_once(world: World, mail: Mail) -> None:
    """In order, and without an error in either."""
    second = World(world.admin, world.operator_kube, world.gateway_kube, world.namespace)
    second.clock = world.clock
    await second.start()
    try:
        await mail.open()
        sent = [await mail.send(f"message {number}") for number in range(8)]

        async def all_there() -> list[Json] | None:
            # What one of them lost to the other is looked at again a moment later.
            await world.pass_time(1)
            turns = await mail.turns()
            return turns if len(turns) >= len(sent) else None

        turns = await eventually(all_there)
        assert [message["name"] for turn in turns for message in turn["consumed"]] == sent
        assert [turn["outcome"] for turn in turns] == ["Answered"] * len(sent)
        await mail.rests(world)
        assert [await mail.waiting(), raised(world), raised(second)] == [{}, 0, 0]
        assert asked(world) + asked(second) == len(sent)
    finally:
        await second.stop()


@pytest.mark.parametrize("outcome", ["Answered", "Bounced"])
async def test_L18_a_late_turn_is_refused(world: World, mail: Mail, outcome: str) -> None:
    """The model answers when another has long taken over, also when that one bounced: the answer is dropped, nothing
    is written, and what comes next is answered."""
    slow = Slowly("too late")
    async with llm_server() as llm:
        llm.will(slow, says("in time"))
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        name = await mail.send("hello", bounceBack=True)
        await eventually(slow.begun.is_set)
        other = Other(world)
        await other.claim()
        await other.turn(1, outcome, await mail.message(name) or {}, reason="Rejected")
        await other.bounce(name)
        version = (await other.renew())["metadata"]["resourceVersion"]
        slow.release()
        await mail.rests(world)
        assert await mail.version() == version
        assert [turn["outcome"] for turn in await mail.turns()] == [outcome]
        assert ((await mail.message(name) or {})["status"])["phase"] == "Bounced"
        await other.release(phase="Idle", turns=1)
        await mail.send("and now?")
        await mail.rests(world)
        await world.pass_time(2)
        assert said((await mail.has_turns(2))[1]) == "in time"
        assert raised(world) == 0


async def test_L18_a_turn_that_comes_after_the_take_over_is_settled_instead_of_a_failure(
    world: World, mail: Mail
) -> None:
    """Who held the claim before was only late, and who holds it now has no answer of its own: nothing is given back
    as it was, and nobody is asked again."""
    async with llm_server() as llm:
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        await mail.tells(phase="Idle")
        other = Other(world)
        await other.claim()
        name = await mail.send("hello")
        await mail.rests(world)

        async def late(stream: Stream) -> None:
            await other.turn(
                1, "Answered", await mail.message(name) or {}, assistant=[{"type": "Text", "text": "late"}]
            )
            await fails(401, "authentication_error")(stream)

        llm.will(late)
        await world.pass_time(EXPIRED)
        (turn,) = await mail.has_turns(1)
        status = await mail.status()
        assert [said(turn), status["phase"], status.get("conditions")] == ["late", "Idle", None]
        assert [await mail.waiting(), len(llm.requests)] == [{}, 1]


async def test_L18_who_loses_its_claim_stops_asking(world: World, mail: Mail) -> None:
    """With the next renewal, which is refused."""
    async with llm_server() as llm:
        llm.otherwise = hangs()
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        await mail.send("hello")
        request = await llm.asked(1)
        await Other(world).claim()
        await world.pass_time(11)
        await eventually(lambda: request.abandoned)
        assert (await mail.status())["claim"]["token"] == "theirs"


async def test_L16_an_operator_that_is_stopped_gives_its_sessions_back(world: World, mail: Mail) -> None:
    """Whoever leads next need not wait for a claim to expire."""
    async with llm_server() as llm:
        llm.will(hangs())
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        name = await mail.send("hello")
        await llm.asked(1)
        await world.stop()
        status = await mail.status()
        assert [status["phase"], status.get("claim"), list(await mail.waiting())] == ["Idle", None, [name]]
        await world.start()
        (turn,) = await mail.has_turns(1)
        assert turn["outcome"] == "Answered"
