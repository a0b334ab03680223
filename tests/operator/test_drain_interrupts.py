"""Rounds that are cut short: because somebody asks for it, or because nobody waits for the answer (L17)."""

from belay_api.conditions import ConditionType, condition_is_true
from belay_api.names import Ref
from belay_kube.client import DELEGATIONS, MESSAGES, SESSIONS, Collection, Json, Kube
from belay_operator.drain.drainer import Drainer
from llmanswers import fails, hangs, says
from llmserver import llm_server
from waiting import eventually

from .builders import delegation
from .faulty import Faulty, Late
from .mail import Mail, Other, asked, calls, counted, heard, said
from .world import World

CALL = '::call delegate {"agent": "w", "prompt": "work"}'
FOR_EVER = "::wait 80000"


async def worker(world: World, mail: Mail) -> None:
    """Session `s` of an agent that may delegate to `w`, who never answers."""
    await world.agent("w")
    await mail.agent("d", tools=[{"name": "delegate", "agents": ["w"]}])
    await mail.open(agent="d")


async def executing(mail: Mail, message: str = CALL) -> list[Json]:
    """The open calls that a message leads to."""
    await mail.send(message)
    calls: list[Json] = (await mail.phase("Executing"))["openToolCalls"]
    return calls


async def taken(world: World, name: str, phase: str = "InProgress") -> Json:
    """A delegation's status, once it is in a phase."""

    async def found() -> Json | None:
        status = await world.status(name)
        return status if status.get("phase") == phase else None

    return await eventually(found)


async def test_L17_an_answer_is_cut_short(world: World, mail: Mail) -> None:
    """The model is let go, the message is settled without an answer, and the next is not told of it."""
    async with llm_server() as llm:
        llm.will(hangs(), says("hello"))
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        await mail.send("think about everything")
        request = await llm.asked(1)
        await mail.interrupt("stop it")
        await eventually(lambda: request.abandoned)
        (turn,) = await mail.has_turns(1)
        assert [turn["outcome"], turn["reason"]] == ["Interrupted", "Interrupted"]
        assert [len(turn["consumed"]), turn.get("user"), await mail.waiting()] == [1, None, {}]
        status = await mail.status()
        assert [status["phase"], status["observedInterruptRequest"]] == ["Idle", "stop it"]
        await mail.send("hello?")
        assert said((await mail.has_turns(2))[1]) == "hello"
        (message,) = llm.requests[1].body["messages"]
        assert [part["text"] for part in message["content"]] == ["hello?"]
        assert llm.refused == []


async def test_L17_open_calls_are_answered_and_what_they_started_ends(world: World, mail: Mail) -> None:
    """With no further call to the model; what the tool said in time is told, and the children are Cancelled."""
    await worker(world, mail)
    first, second = await executing(mail, f"{CALL}\n{CALL}")
    await world.cancel(second["delegation"])
    await eventually(mail.waiting)
    await mail.interrupt("1")
    turn = (await mail.has_turns(2))[1]
    assert turn["outcome"] == "Interrupted"
    results = {block["toolUseId"]: block for block in turn["user"]}
    assert list(results) == [first["id"], second["id"]]
    assert [results[first["id"]]["text"], results[first["id"]]["isError"]] == ["interrupted", True]
    assert "interrupted" not in results[second["id"]]["text"]
    assert await mail.waiting() == {}
    status = await mail.status()
    assert [status["phase"], status.get("openToolCalls"), status["usage"]["calls"]] == ["Idle", None, 1]
    assert (await taken(world, first["delegation"], "Cancelled"))["reason"] == "ParentCancelled"
    assert asked(world) == 1


async def test_L17_an_interrupt_is_done_once_for_each_value(world: World, mail: Mail) -> None:
    """The next round goes its way; another value ends that one."""
    await worker(world, mail)
    await executing(mail)
    await mail.interrupt("1")
    await mail.tells(phase="Idle", observedInterruptRequest="1")
    (call,) = await executing(mail)
    await mail.rests(world)
    assert (await mail.status())["openToolCalls"][0]["id"] == call["id"]
    await mail.interrupt("2")
    await mail.tells(phase="Idle", observedInterruptRequest="2")
    assert [turn["outcome"] for turn in await mail.turns()] == ["Answered", "Interrupted"] * 2


async def test_L17_where_nothing_is_under_way_an_interrupt_is_noted(world: World, mail: Mail) -> None:
    """Without a turn, and without harm to what comes later."""
    await mail.open()
    await mail.tells(phase="Idle")
    await mail.interrupt("1")
    await mail.tells(observedInterruptRequest="1")
    await mail.send("hello")
    (turn,) = await mail.has_turns(1)
    assert turn["outcome"] == "Answered"


async def test_L17_an_interrupt_waits_for_no_place_in_the_pool(stopped_world: World, mail: Mail) -> None:
    """Another session's answer takes for ever; nobody needs to be asked to end this round."""
    await stopped_world.start(model_calls=1)
    await worker(stopped_world, mail)
    await executing(mail)
    await mail.open("t")
    await mail.send(FOR_EVER, session="t")
    await mail.phase("Awaiting", "t")
    await mail.interrupt("1")
    await mail.tells(phase="Idle", observedInterruptRequest="1")


async def waiting_for_a_place(world: World, mail: Mail) -> tuple[Drainer, Ref]:
    """Session `t` has the only place in the pool for ever, `s` waits for it with a message."""
    await mail.open("t")
    await mail.send(FOR_EVER, session="t")
    await mail.phase("Awaiting", "t")
    await mail.open()
    await mail.send("hello")
    drainer, ref = world.operator.drain.drainer, mail.ref("s")
    await eventually(lambda: ref in drainer.at_work)
    return drainer, ref


async def test_L17_who_waits_for_a_place_in_the_pool_hears_of_interrupt_and_deletion(
    stopped_world: World, mail: Mail
) -> None:
    """Nothing of it is under way yet: the interrupt is noted, the message waits again; a deleted session waits no
    more."""
    await stopped_world.start(model_calls=1)
    drainer, ref = await waiting_for_a_place(stopped_world, mail)
    await mail.interrupt("1")
    await mail.tells(observedInterruptRequest="1")
    await eventually(lambda: ref in drainer.at_work)
    assert [len(await mail.waiting()), await mail.turns()] == [1, []]
    await mail.kube.delete(SESSIONS, mail.namespace, "s")
    await eventually(lambda: ref not in drainer.at_work)


async def test_L17_a_message_waits_again_whenever_the_watch_tells_of_the_interrupt(
    stopped_world: World, mail: Mail, operator_kube: Kube
) -> None:
    """That it is noted comes as the answer to our own write first: the watch has no news of it."""
    late = Late(operator_kube, b'"observedInterruptRequest":"1"')
    await stopped_world.start(late, model_calls=1)
    drainer, ref = await waiting_for_a_place(stopped_world, mail)
    await mail.interrupt("1")
    await mail.tells(observedInterruptRequest="1")
    await eventually(lambda: ref in drainer.at_work)
    late.told.set()


async def test_L17_who_waits_for_a_place_between_two_attempts_is_interrupted(stopped_world: World, mail: Mail) -> None:
    """Its wait is over, and another session has the only place (L12)."""
    await stopped_world.start(model_calls=1)
    async with llm_server() as llm:
        llm.will(fails(529, "overloaded_error"), hangs())
        await mail.keyed_agent(llm.url)
        await mail.open(agent="k")
        await mail.send("hello")
        await eventually(lambda: counted(stopped_world, "belay_model_retries_total", reason="Overloaded") == 1)
        await mail.open("t", agent="k")
        await mail.send("quick", session="t")
        await llm.asked(2)
        await stopped_world.pass_time(2)
        await mail.interrupt("1")
        (turn,) = await mail.has_turns(1)
        assert [turn["outcome"], len(llm.requests)] == ["Interrupted", 2]


async def test_L17_an_answer_that_nobody_waits_for_is_cut_short(world: World, mail: Mail) -> None:
    """Its delegation was cancelled: the session is Idle, and that work on it has stopped is proven."""
    await mail.open()
    await world.create(delegation("job").to("m", session="s").asking(FOR_EVER))
    await taken(world, "job")
    await mail.phase("Awaiting")
    await world.cancel("job")
    (turn,) = await mail.has_turns(1)
    assert [turn["outcome"], turn["reason"]] == ["Interrupted", "DelegationEnded"]
    await mail.rests(world)
    found = await world.admin.get(DELEGATIONS, world.namespace, "job")
    assert condition_is_true(found["status"]["conditions"], ConditionType.CANCEL_ACKNOWLEDGED)
    assert [(await mail.status())["phase"], await mail.waiting()] == ["Idle", {}]


async def test_L17_calls_end_with_the_delegation_they_were_for(world: World, mail: Mail) -> None:
    """A session that Executes for one that was cancelled."""
    await worker(world, mail)
    await world.create(delegation("job").to("d", session="s").asking(CALL))
    (call,) = (await mail.phase("Executing"))["openToolCalls"]
    await world.cancel("job")
    turn = (await mail.has_turns(2))[1]
    assert [turn["outcome"], heard(turn)] == ["Interrupted", ["interrupted"]]
    await taken(world, call["delegation"], "Cancelled")
    assert (await mail.status()).get("serving") is None


async def test_L17_only_the_prompt_that_nobody_waits_for_is_taken_out(world: World, mail: Mail) -> None:
    """It is still in the mailbox: the answer under way goes on, and the model never hears of it."""
    await mail.change_agent(maxActiveDelegations=2)
    await mail.open()
    await world.create(delegation("job").to("m", session="s").asking("::wait 60\nfirst"))
    await mail.phase("Awaiting")
    await world.create(delegation("late").to("m", session="s").asking("second"))
    await taken(world, "late")
    await world.cancel("late")
    await taken(world, "late", "Cancelled")
    await world.pass_time(61)
    turns = await mail.has_turns(2)
    assert [turn["outcome"] for turn in turns] == ["Answered", "Interrupted"]
    assert "second" not in str(turns)
    await taken(world, "job", "Completed")
    assert [await mail.waiting(), (await mail.status())["usage"]["calls"], asked(world)] == [{}, 1, 1]
    assert calls(turns[0]) == []


async def test_L17_a_suspended_agents_mailbox_lets_go_of_what_was_cancelled(world: World, mail: Mail) -> None:
    """Nobody needs to be asked for that."""
    await mail.open()
    await mail.tells(phase="Idle")
    other = Other(world)
    await other.claim()
    await world.create(delegation("job").to("m", session="s").asking("hello"))
    await taken(world, "job")
    await mail.change_agent(suspend=True)
    await mail.rests(world)
    await other.release(phase="Idle")
    assert (await mail.condition("Blocked", "True"))["reason"] == "AgentSuspended"
    await world.cancel("job")
    (turn,) = await mail.has_turns(1)
    assert [turn["outcome"], turn["reason"], await mail.waiting()] == ["Interrupted", "DelegationEnded", {}]
    assert asked(world) == 0


async def test_L17_an_interrupt_between_the_claim_and_the_call_counts(stopped_world: World, mail: Mail) -> None:
    """Whoever asks sees the session Awaiting: the message that it is about to read is settled, and not asked about."""
    kube = Faulty(stopped_world.operator_kube)
    await stopped_world.start(kube)
    await mail.open()
    await mail.tells(phase="Idle")
    asked_for: list[str] = []

    async def interrupt(path: Collection, name: str) -> None:
        if path == MESSAGES and name == "m1" and not asked_for:
            asked_for.append(name)
            await mail.interrupt("stop")
            await eventually(lambda: stopped_world.operator.seen.mailboxes.sessions[mail.ref("s")].interrupt == "stop")
            await stopped_world.operator.seen.queue.idle()

    kube.before_get = interrupt
    await mail.send("::wait 80000", name="m1")
    (turn,) = await mail.has_turns(1)
    assert [turn["outcome"], turn["reason"]] == ["Interrupted", "Interrupted"]
    assert [message["name"] for message in turn["consumed"]] == ["m1"]
    assert await mail.waiting() == {}
