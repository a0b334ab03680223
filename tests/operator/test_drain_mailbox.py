"""What a mailbox's next round is, and when there is none, on the real API server (BEHAVIOUR.md, L1 to L8)."""

from typing import Any

from belay_kube.client import MESSAGES, SESSIONS, TURNS, Collection, Json
from belay_kube.errors import NotFound
from llmanswers import hangs
from llmserver import llm_server
from waiting import eventually

from .faulty import Faulty
from .mail import Mail, Other, asked, calls, heard, raised, said
from .world import World

TWO_CALLS = '::call delegate {"agent": "w", "prompt": "one"}\n::call delegate {"agent": "w", "prompt": "two"}'


async def test_L1_mail_for_a_session_that_is_missing_waits_for_it(world: World, mail: Mail) -> None:
    """Nothing happens, and nothing is raised: references come in any order."""
    name = await mail.send("hello", session="later")
    await mail.rests(world)
    assert name in await mail.waiting("later")
    assert raised(world) == 0
    await mail.open("later")
    (turn,) = await mail.has_turns(1, "later")
    assert heard(turn) == ["hello"]


async def test_L1_a_session_that_is_deleted_lets_its_model_go(world: World, mail: Mail) -> None:
    """At once, and without an error."""
    async with llm_server() as llm:
        llm.otherwise = hangs()
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        await mail.send("hello")
        request = await llm.asked(1)
        await mail.kube.delete(SESSIONS, mail.namespace, "s")
        await eventually(lambda: request.abandoned)
    await mail.rests(world)
    assert [await mail.turns(), raised(world)] == [[], 0]


async def test_L2_an_empty_mailbox_is_released_and_nobody_is_asked(stopped_world: World, mail: Mail) -> None:
    """Claimed for a message that is gone when the mailbox is read: Idle, no call, no turn, and not again and again."""
    kube = Faulty(stopped_world.operator_kube)
    await stopped_world.start(kube)
    await mail.open()
    await mail.tells(phase="Idle")
    claims: list[str] = []

    async def empty(path: Collection, name: str) -> None:
        if path == MESSAGES and name in await mail.waiting():
            claims.append((await mail.status())["phase"])
            await mail.kube.delete(MESSAGES, mail.namespace, "")

    kube.before_get = empty
    await mail.send("never mind")
    await eventually(lambda: claims)
    await mail.tells(phase="Idle")
    await mail.rests(stopped_world)
    await stopped_world.pass_time(60)
    assert claims == ["Awaiting"]
    assert [await mail.turns(), asked(stopped_world), raised(stopped_world)] == [[], 0, 0]


async def test_I6_a_mailbox_that_never_yields_what_was_seen_is_left_alone(stopped_world: World, mail: Mail) -> None:
    """Whatever is wrong with reading it: it is claimed less and less often."""
    kube = Faulty(stopped_world.operator_kube)
    await stopped_world.start(kube)
    await mail.open()
    reads: list[float] = []

    async def hide(path: Collection, name: str) -> None:
        if path == MESSAGES and name in await mail.waiting():
            reads.append(stopped_world.clock.monotonic())
            raise NotFound(f"{name}: hidden by the test", 404)

    await mail.send("hello")
    await mail.has_turns(1)
    kube.before_get = hide
    await mail.send("hello again")
    await eventually(lambda: reads)
    await stopped_world.pass_time(120, step=5)
    assert 3 <= len(reads) <= 9
    kube.before_get = None
    await stopped_world.pass_time(300, step=40)
    await mail.has_turns(2)


async def test_L3_a_claim_of_another_is_left_alone(world: World, mail: Mail) -> None:
    """For as long as it is renewed; nothing is written and nothing raised."""
    await mail.open()
    await mail.tells(phase="Idle")
    other = Other(world)
    await other.claim()
    await mail.send("hello")
    for _ in range(3):
        await mail.rests(world)
        await world.pass_time(29)
        await other.renew()
    await mail.rests(world)
    version = await mail.version()
    await world.pass_time(29)
    await mail.rests(world)
    status = await mail.status()
    assert [await mail.version(), status["claim"]["token"], await mail.turns()] == [version, "theirs", []]
    assert raised(world) == 0


async def test_L3_who_claims_first_has_it(stopped_world: World, mail: Mail) -> None:
    """Our own claim comes a moment late: refused by its version, silently."""
    kube = Faulty(stopped_world.operator_kube)
    await stopped_world.start(kube)
    await mail.open()
    await mail.tells(phase="Idle")
    other, wins = Other(stopped_world), [1]

    async def first(path: Collection, obj: Json) -> None:
        if path == SESSIONS and obj["metadata"]["namespace"] == mail.namespace and wins:
            wins.clear()
            await other.claim()

    kube.before_write = first
    await mail.send("hello")
    await eventually(lambda: not wins)
    await mail.rests(stopped_world)
    assert (await mail.status())["claim"]["token"] == "theirs"
    assert [await mail.turns(), raised(stopped_world)] == [[], 0]


async def test_L4_an_answer_costs_four_writes(stopped_world: World, mail: Mail) -> None:
    """Claim, turn, deletion, release; and no more for looking at what is over."""
    kube, wrote = Faulty(stopped_world.operator_kube), list[Any]()
    await stopped_world.start(kube)
    await mail.open()
    await mail.tells(phase="Idle")

    async def note(path: Collection, obj: Json) -> None:
        if path in (SESSIONS, TURNS, MESSAGES) and obj["metadata"].get("namespace") == mail.namespace:
            wrote.append(path.plural)

    async def note_deletion(path: Collection, name: str) -> None:
        if path == MESSAGES:
            wrote.append(f"-{name}")

    kube.before_write, kube.before_create, kube.before_delete = note, note, note_deletion
    name = await mail.send("hello")
    await mail.has_turns(1)
    await mail.rests(stopped_world)
    await stopped_world.pass_time(30)
    assert wrote == ["agentsessions", "sessionturns", f"-{name}", "agentsessions"]


async def test_L5_L6_a_tool_round_goes_whole_and_in_order(world: World, mail: Mail) -> None:
    """One response of two changes nothing; the second starts the drain, and both enter in order of creation."""
    await world.agent("w")
    await mail.agent("d", tools=[{"name": "delegate", "agents": ["w"]}])
    await mail.open(agent="d")
    await mail.send(TWO_CALLS)
    status = await mail.phase("Executing")
    first, second = status["openToolCalls"]
    await world.cancel(second["delegation"])
    await eventually(lambda: _answered(mail, second["id"]))
    await mail.send("by the way", type="Background")
    await mail.rests(world)
    version = await mail.version()
    await world.pass_time(60)
    await mail.rests(world)
    assert [await mail.version(), len(await mail.turns())] == [version, 1]
    await world.cancel(first["delegation"])
    turn = (await mail.has_turns(2))[1]
    results = [block["toolUseId"] for block in turn["user"] if block["type"] == "ToolResult"]
    assert results[:2] == [second["id"], first["id"]]
    assert heard(turn)[-1] == "by the way"
    assert len(results) == 3
    assert await mail.waiting() == {}
    assert (await mail.status())["phase"] == "Idle"


async def test_L7_background_mail_alone_asks_nobody(world: World, mail: Mail) -> None:
    """It stays, and comes with the next active message, before it, as a call of a tool named after its sender."""
    belay = Mail(world.operator_kube, world.namespace)
    await mail.open()
    source = {"kind": "AgentSession", "name": "friend"}
    name = await belay.send("news", name="news", type="Background", source=source)
    await mail.rests(world)
    await world.pass_time(60)
    assert [list(await mail.waiting()), await mail.turns(), asked(world)] == [[name], [], 0]
    await mail.send("hello")
    (turn,) = await mail.has_turns(1)
    use, result, active = turn["user"]
    assert [use["type"], use["name"]] == ["ToolUse", "from_friend"]
    assert [result["type"], result["toolUseId"], result["text"]] == ["ToolResult", use["toolUseId"], "news"]
    assert active["text"] == "hello"
    assert await mail.waiting() == {}


async def test_L8_active_messages_go_one_by_one_oldest_first(stopped_world: World, mail: Mail) -> None:
    """In order of creation, whatever their names are; without outside help (L13)."""
    await mail.open()
    for number, name in enumerate(("z", "m", "a")):
        await mail.send(f"message {number}", name=name, type="Subagent" if name == "m" else "UserMessage")
    await stopped_world.start()
    turns = await mail.has_turns(3)
    assert [[m["name"] for m in turn["consumed"]] for turn in turns] == [["z"], ["m"], ["a"]]
    assert [turn["outcome"] for turn in turns] == ["Answered"] * 3
    assert "message 0" in said(turns[0])
    assert not calls(turns[0])


async def test_L16_a_message_that_is_kept_after_its_deletion_is_answered_once(world: World, mail: Mail) -> None:
    """Somebody's finalizer holds it: it is read, and on its way out."""
    await mail.open()
    name = await mail.send("hello")
    await mail.has_turns(1)
    body = {"apiVersion": "belay.dev/v1alpha1", "kind": "PendingMessage"}
    meta = {"name": "held", "finalizers": ["example.com/hold"]}
    spec = {"sessionRef": {"name": "s"}, "content": "once"}
    await mail.kube.create(MESSAGES, mail.namespace, {**body, "metadata": meta, "spec": spec})
    await mail.has_turns(2)
    await mail.rests(world)
    await world.pass_time(60)
    assert len(await mail.turns()) == 2
    assert list(await mail.waiting()) == ["held"]
    assert name != "held"
    await mail.kube.patch(MESSAGES, mail.namespace, "held", {"metadata": {"finalizers": None}})


async def _answered(mail: Mail, call: str) -> bool:
    try:
        waiting = (await mail.waiting()).values()
    except NotFound:
        return False
    return any(message["spec"].get("toolUseId") == call for message in waiting)
