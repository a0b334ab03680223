"""What holds a mailbox up and is told, what a session may spend, and what becomes of mail that nobody reads."""

import pytest

from belay_kube.client import AGENTS, MESSAGES, SESSIONS, TURNS, Collection, Json
from belay_kube.errors import Forbidden, NotFound, TooLarge, Unreachable
from llmanswers import Slowly
from llmserver import llm_server
from waiting import eventually

from .faulty import Faulty
from .mail import ECHO, Mail, asked, counted, heard, raised
from .world import LONG_STEP, World

# --- what holds it up ---


async def test_a_session_stops_at_its_cap_and_says_so(world: World, mail: Mail) -> None:
    """model.maxCallsPerSession; the mail waits, and goes on when the cap is raised."""
    await mail.agent("capped", {**ECHO, "maxCallsPerSession": 2})
    await mail.open(agent="capped")
    for number in range(3):
        await mail.send(f"message {number}")
    condition = await mail.condition("Blocked", "True")
    assert condition["reason"] == "CallsExhausted"
    await mail.rests(world)
    assert [len(await mail.turns()), len(await mail.waiting()), asked(world)] == [2, 1, 2]
    await mail.change_agent("capped", model={"maxCallsPerSession": 3})
    await mail.has_turns(3)
    assert (await mail.condition("Blocked", "False"))["reason"] == "Flowing"


async def test_L4_what_was_spent_adds_up(world: World, mail: Mail) -> None:
    """Calls and tokens of all turns, whatever their outcome."""
    await mail.open()
    for message in ("hello", "::fail 400", "again"):
        await mail.send(message)
    turns = await mail.has_turns(3)
    spent = (await mail.status())["usage"]
    for field in ("calls", "inputTokens", "outputTokens"):
        assert spent[field] == sum((turn.get("usage") or {}).get(field, 0) for turn in turns)
    assert spent["calls"] == 2
    assert raised(world) == 0


@pytest.mark.parametrize("runtime", ["Model", "Channel"])
async def test_mail_waits_while_nobody_may_be_asked(world: World, mail: Mail, runtime: str) -> None:
    """A suspended agent, and one that isn't of runtime Model: condition Blocked says which."""
    if runtime == "Model":
        await mail.change_agent(suspend=True)
    else:
        await world.agent("m2")
    await mail.open(agent="m" if runtime == "Model" else "m2")
    await mail.send("hello")
    reason = (await mail.condition("Blocked", "True"))["reason"]
    assert reason == {"Model": "AgentSuspended", "Channel": "NotAModel"}[runtime]
    await mail.rests(world)
    assert [await mail.turns(), asked(world)] == [[], 0]
    change = {"suspend": False} if runtime == "Model" else {"runtime": "Model", "model": ECHO}
    await mail.change_agent("m" if runtime == "Model" else "m2", **change)
    await mail.has_turns(1)
    await mail.condition("Blocked", "False")


async def test_a_session_waits_for_its_agent(world: World, mail: Mail) -> None:
    """References come in any order."""
    await mail.open(agent="later")
    await mail.send("hello")
    assert (await mail.condition("Blocked", "True"))["reason"] == "AgentMissing"
    await mail.agent("later")
    await mail.has_turns(1)
    await mail.condition("Blocked", "False")
    assert raised(world) == 0


@pytest.mark.parametrize("change", ["suspended", "deleted"])
async def test_L4_an_answer_under_way_lands(world: World, mail: Mail, change: str) -> None:
    """Its agent is suspended, or deleted, while the model thinks: what was paid for is kept, the next mail waits."""
    slow = Slowly("fine")
    async with llm_server() as llm:
        llm.will(slow)
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        await mail.send("hello")
        await eventually(slow.begun.is_set)
        if change == "suspended":
            await mail.change_agent("k", suspend=True)
        else:
            await mail.kube.delete(AGENTS, mail.namespace, "k")
        await mail.send("and now?")
        await world.settled()
        slow.release()
        (turn,) = await mail.has_turns(1)
        assert [turn["outcome"], heard(turn)] == ["Answered", ["hello"]]
        expected = {"suspended": "AgentSuspended", "deleted": "AgentMissing"}[change]
        assert (await mail.condition("Blocked", "True"))["reason"] == expected
        assert [len(llm.requests), raised(world)] == [1, 0]


# --- what can't be stored ---


async def test_L10_an_answer_that_is_too_large_to_store_is_put_aside(stopped_world: World, mail: Mail) -> None:
    """The API server refuses the turn for good: the message is Parked, with a turn that holds nothing, and no more is
    spent on it; the next goes on."""
    kube = Faulty(stopped_world.operator_kube)

    async def refuse(path: Collection, obj: Json) -> None:
        if path == TURNS and obj["metadata"]["namespace"] == mail.namespace and "much" in str(obj["spec"].get("user")):
            raise TooLarge("etcdserver: request is too large", 500)

    kube.before_create = refuse
    await stopped_world.start(kube)
    await mail.open()
    name = await mail.send("much")
    await mail.send("little")
    assert (await mail.returned(name, "Parked"))["reason"] == "NotStored"
    turns = await mail.has_turns(2)
    assert [turn["outcome"] for turn in turns] == ["Parked", "Answered"]
    assert asked(stopped_world) == 2


async def test_L10_a_quota_that_keeps_turns_out_is_told_and_waited_for(stopped_world: World, mail: Mail) -> None:
    """No hot loop, no message lost: lastError says why, and it goes on when there is room."""
    kube, full = Faulty(stopped_world.operator_kube), [1]

    async def refuse(path: Collection, obj: Json) -> None:
        if path == TURNS and obj["metadata"]["namespace"] == mail.namespace and full:
            raise Forbidden("exceeded quota", 403, said="exceeded quota")

    kube.before_create = refuse
    await stopped_world.start(kube)
    await mail.open()
    await mail.send("hello")
    status = await mail.tells(phase="Idle", failedRounds=1)
    assert [status["lastError"]["reason"], len(await mail.waiting())] == ["NotStored", 1]
    assert "exceeded quota" in status["lastError"]["message"]
    await stopped_world.pass_time(130, step=5)
    assert asked(stopped_world) <= 4
    full.clear()
    await stopped_world.pass_time(300, step=LONG_STEP)
    await mail.has_turns(1)


async def test_L10_an_answer_that_cannot_be_stored_for_now_is_a_failed_round(stopped_world: World, mail: Mail) -> None:
    """Tried for half a minute, without a place in the pool; then counted and told, so that it isn't paid for without
    end."""
    kube, down = Faulty(stopped_world.operator_kube), [1]

    async def refuse(path: Collection, obj: Json) -> None:
        if path == TURNS and obj["metadata"]["name"].startswith("s-") and stopped_world.is_mine(obj) and down:
            raise Unreachable("no word from etcd")

    kube.before_create = refuse
    await stopped_world.start(kube, model_calls=1)
    await mail.open()
    await mail.send("hello")
    await eventually(lambda: asked(stopped_world) == 1)
    await mail.open("t")
    await mail.send("quick", session="t")
    await mail.has_turns(1, "t")
    await stopped_world.pass_time(40, step=2)
    status = await mail.tells(failedRounds=1)
    assert [status["lastError"]["reason"], len(await mail.waiting())] == ["NotStored", 1]
    down.clear()
    await stopped_world.pass_time(40, step=2)
    await mail.has_turns(1)
    assert asked(stopped_world) == 3


# --- mail that nobody reads ---


async def test_L9_returned_mail_is_kept_for_its_time(stopped_world: World, mail: Mail) -> None:
    """Visible until then, and not a moment longer; from when it was returned."""
    await stopped_world.start(message_ttl_seconds=100)
    await mail.open()
    await stopped_world.pass_time(50)
    name = await mail.send("::fail 400")
    await mail.returned(name, "Parked")
    await mail.rests(stopped_world)
    await stopped_world.pass_time(99, step=LONG_STEP)
    await mail.rests(stopped_world)
    assert list(await mail.waiting()) == [name]
    await stopped_world.pass_time(1.1)
    await mail.rests(stopped_world)
    assert await mail.waiting() == {}


async def test_mail_for_a_session_that_never_comes_goes_in_time(stopped_world: World, mail: Mail) -> None:
    """Its own time of creation counts."""
    await stopped_world.start(message_ttl_seconds=100)
    name = await mail.send("hello", session="nobody")
    await mail.rests(stopped_world)
    assert list(await mail.waiting("nobody")) == [name]
    await stopped_world.pass_time(102, step=LONG_STEP)
    await mail.rests(stopped_world)
    assert await mail.waiting("nobody") == {}


async def test_S7_mail_that_cannot_be_deleted_holds_no_other_up(stopped_world: World, mail: Mail) -> None:
    """What fails of a look at a session is told and tried again; the rest of the look is done."""
    kube = Faulty(stopped_world.operator_kube)
    await stopped_world.start(kube, message_ttl_seconds=100)
    await mail.open()
    await mail.returned(await mail.send("::fail 400", name="old"), "Parked")
    await mail.rests(stopped_world)

    async def refuse(path: Collection, name: str) -> None:
        if path == MESSAGES and name == "old":
            raise Forbidden("refused by the test", 403)

    kube.before_delete = refuse
    await stopped_world.pass_time(101, step=LONG_STEP)
    await mail.send("hello")
    assert [turn["outcome"] for turn in await mail.has_turns(2)] == ["Parked", "Answered"]
    assert [list(await mail.waiting()), raised(stopped_world) > 0] == [["old"], True]


async def test_a_session_that_is_being_deleted_is_not_drained(world: World, mail: Mail) -> None:
    """Somebody's finalizer holds it: its model is let go, and no turn is made that would go with it."""
    await mail.open()
    await mail.send("::wait 80000")
    await mail.phase("Awaiting")
    await mail.kube.patch(SESSIONS, mail.namespace, "s", {"metadata": {"finalizers": ["example.com/hold"]}})
    await mail.kube.delete(SESSIONS, mail.namespace, "s")
    await mail.send("hello")
    await mail.rests(world)
    await world.pass_time(60)
    await mail.rests(world)
    assert [await mail.turns(), asked(world), raised(world)] == [[], 1, 0]
    await mail.kube.patch(SESSIONS, mail.namespace, "s", {"metadata": {"finalizers": None}})

    async def gone() -> bool:
        try:
            await mail.kube.get(SESSIONS, mail.namespace, "s")
        except NotFound:
            return True
        return False

    await eventually(gone)


async def test_mail_that_waits_is_measured(world: World, mail: Mail) -> None:
    """How many, and how old the oldest is that starts a round."""
    await mail.agent("off", suspend=True)
    await mail.open(agent="off")
    await mail.send("hello")
    await mail.send("news", type="Background")
    await mail.rests(world)
    await world.pass_time(100)
    assert counted(world, "belay_mail_waiting") == 2
    assert counted(world, "belay_mail_oldest_seconds") >= 99


# --- when nothing happens ---


async def test_I6_nothing_is_written_when_nothing_happens(world: World, mail: Mail) -> None:
    """Idle, blocked, parked, with background mail, claimed by another: looked at again and again, and left as it is."""
    await mail.agent("off", suspend=True)
    for number in range(5):
        for kind, agent in (("idle", "m"), ("off", "off"), ("background", "m"), ("parked", "m")):
            await mail.open(f"{kind}-{number}", agent=agent)
        await mail.send("hello", session=f"off-{number}")
        await mail.send("news", session=f"background-{number}", type="Background")
        await mail.returned(await mail.send("::fail 400", session=f"parked-{number}"), "Parked")
        await mail.condition("Blocked", "True", f"off-{number}")
    await mail.rests(world)
    before = await _versions(mail)
    for _ in range(3):
        world.operator.seen.look_at_all()
        await world.pass_time(100, step=LONG_STEP)
        await mail.rests(world)
    assert await _versions(mail) == before
    assert len(before) == 20 + 15


async def _versions(mail: Mail) -> dict[str, str]:
    return {
        obj["metadata"]["name"]: obj["metadata"]["resourceVersion"]
        for collection in (SESSIONS, MESSAGES)
        for obj in (await mail.kube.list(collection, mail.namespace))["items"]
    }
