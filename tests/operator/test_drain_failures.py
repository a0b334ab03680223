"""What comes of calls that fail, by the real client of the Messages API against a local server (L9 to L13)."""

from collections.abc import AsyncIterator

import pytest

from belay_kube.client import SESSIONS
from llmanswers import Slowly, cuts, errs, fails, hangs, says
from llmserver import LlmServer, llm_server
from llmstream import Stream
from waiting import eventually

from .mail import Mail, counted, heard, raised, said
from .world import LONG_STEP, World

UNANSWERABLE = "::fail 529 1000"
"""To the echo provider: no answer, and a wait that is too long to be waited for in place."""


@pytest.fixture
async def llm() -> AsyncIterator[LlmServer]:
    """The provider; what it was asked must have been whole conversations, whatever happened."""
    async with llm_server() as server:
        server.keys = {"sk-1"}
        yield server
    assert server.refused == []


@pytest.fixture
async def keyed(mail: Mail, llm: LlmServer) -> Mail:
    """Session `s` of an agent whose key the operator was granted by name."""
    await mail.keyed_agent(llm.url)
    await mail.open(agent="k")
    return mail


async def retries(world: World, number: int, reason: str = "Overloaded") -> None:
    """Return once so many calls have failed in passing, and the wait for the next has begun."""
    await eventually(lambda: counted(world, "belay_model_retries_total", reason=reason) == number)
    await world.settled()


async def test_L4_a_key_is_read_by_the_name_that_was_granted(world: World, keyed: Mail, llm: LlmServer) -> None:
    """By a Role for this one Secret; what was spent is what the provider counted."""
    llm.will(says("fine"))
    await keyed.send("how are you?")
    (turn,) = await keyed.has_turns(1)
    assert [said(turn), turn["model"], turn["stopReason"]] == ["fine", "model-1-served", "end_turn"]
    assert llm.requests[0].key == "sk-1"
    usage = (await keyed.status())["usage"]
    assert usage == turn["usage"]
    assert [usage["calls"], usage["cacheReadTokens"]] == [1, 300]
    assert world.is_mine(await keyed.kube.get(SESSIONS, keyed.namespace, "s"))


# --- L9 ---


async def test_L9_a_message_returns_to_its_sender(world: World, keyed: Mail, llm: LlmServer) -> None:
    """Bounced, with the reason; no answered turn, Idle, an event, and nothing is raised. The next goes on (L13)."""
    llm.will(fails(400, "invalid_request_error", "too strange"), says("hello yourself"))
    name = await keyed.send("strange", bounceBack=True)
    await keyed.send("hello")
    turns = await keyed.has_turns(2)
    assert [(t["outcome"], t.get("reason")) for t in turns] == [("Bounced", "Rejected"), ("Answered", None)]
    status = await keyed.returned(name, "Bounced")
    assert status["reason"] == "Rejected"
    assert "too strange" in status["message"]
    assert "too strange" in (await keyed.event("Bounced"))["note"]
    assert (await keyed.status())["phase"] == "Idle"
    assert raised(world) == 0
    assert len(llm.requests[1].body["messages"]) == 1


# --- L10 ---


async def test_L10_a_failed_round_leaves_everything_where_it_was(world: World, mail: Mail) -> None:
    """The session Idle with the error, the message in the mailbox, no turn; raised, and tried again after a pause."""
    await mail.open()
    name = await mail.send(UNANSWERABLE)
    status = await mail.tells(phase="Idle", failedRounds=1)
    assert status["lastError"]["reason"] == "Overloaded"
    assert "529" in status["lastError"]["message"]
    assert [list(await mail.waiting()), await mail.turns(), raised(world)] == [[name], [], 1]
    assert "claim" not in status
    await world.pass_time(0.9)
    await mail.rests(world)
    assert (await mail.status())["failedRounds"] == 1
    await world.pass_time(0.3)
    await mail.tells(phase="Idle", failedRounds=2)


async def test_L10_what_always_fails_is_parked_and_the_next_goes_on(world: World, mail: Mail) -> None:
    """After five rounds, with waits between them that grow, a reason and an event."""
    await mail.open()
    name = await mail.send(UNANSWERABLE)
    await mail.send("hello")
    for failed in (1, 2, 3, 4):
        await mail.tells(phase="Idle", failedRounds=failed)
        await world.pass_time(failed**4 - 0.5, step=LONG_STEP)
        await mail.rests(world)
        assert (await mail.status())["failedRounds"] == failed
        await world.pass_time(failed**4 * 0.15 + 0.6, step=LONG_STEP)
    status = await mail.returned(name, "Parked")
    assert [status["reason"], raised(world)] == ["KeepsFailing", 4]
    turns = await mail.has_turns(2)
    assert [turn["outcome"] for turn in turns] == ["Parked", "Answered"]
    assert heard(turns[1]) == ["hello"]
    assert "failedRounds" not in await mail.status()
    assert "5 rounds failed" in (await mail.event("Parked"))["note"]


async def test_L10_what_will_never_succeed_is_parked_at_once(world: World, keyed: Mail, llm: LlmServer) -> None:
    """A 4xx other than 401, 403, 429."""
    llm.will(fails(413, "request_too_large"))
    name = await keyed.send("much")
    assert (await keyed.returned(name, "Parked"))["reason"] == "Rejected"
    assert [turn["outcome"] for turn in await keyed.has_turns(1)] == ["Parked"]
    await keyed.rests(world)
    assert len(llm.requests) == 1


# --- L11 ---


async def test_L11_a_refused_key_is_not_tried_again_until_it_is_another(
    world: World, keyed: Mail, llm: LlmServer
) -> None:
    """Raised, with a condition and an event; the message waits, however long that takes."""
    llm.keys = {"sk-2"}
    name = await keyed.send("hello")
    condition = await keyed.condition("AuthenticationRequired", "True")
    assert condition["reason"] == "AuthenticationFailed"
    assert "401" in (await keyed.event("AuthenticationRequired"))["note"]
    assert raised(world) == 1
    await world.pass_time(600, step=LONG_STEP)
    await keyed.rests(world)
    assert [len(llm.requests), list(await keyed.waiting())] == [1, [name]]
    assert "sk-" not in str(await keyed.status())
    await keyed.key("sk-2")
    await world.pass_time(61)
    await keyed.has_turns(1)
    assert (await keyed.condition("AuthenticationRequired", "False"))["reason"] == "Authenticated"


async def test_L11_a_refused_key_returns_what_bounces_and_is_told_all_the_same(
    world: World, keyed: Mail, llm: LlmServer
) -> None:
    """Bounced as L9, but raised, with condition and event; the next message waits for another key."""
    llm.keys = {"sk-2"}
    name = await keyed.send("hello", bounceBack=True)
    assert (await keyed.returned(name, "Bounced"))["reason"] == "AuthenticationFailed"
    await keyed.condition("AuthenticationRequired", "True")
    await keyed.event("AuthenticationRequired")
    await keyed.rests(world)
    assert [raised(world), (await keyed.status())["phase"]] == [1, "Idle"]
    await keyed.send("and now?", bounceBack=True)
    await keyed.rests(world)
    await world.pass_time(120)
    await keyed.rests(world)
    assert len(llm.requests) == 1
    await keyed.key("sk-2")
    await world.pass_time(61)
    assert [turn["outcome"] for turn in await keyed.has_turns(2)] == ["Bounced", "Answered"]


async def test_L11_a_key_that_is_replaced_while_the_old_one_is_tried_counts(
    world: World, keyed: Mail, llm: LlmServer
) -> None:
    """What was refused is the old one, though the new one was there when that came out."""

    async def rotate(stream: Stream) -> None:
        await keyed.key("sk-2")
        llm.keys = {"sk-2"}
        await fails(401, "authentication_error")(stream)

    llm.will(rotate)
    await keyed.send("hello")
    await keyed.condition("AuthenticationRequired", "True")
    await world.pass_time(61)
    await keyed.has_turns(1)


async def test_L11_a_key_that_nobody_granted_is_asked_for(world: World, mail: Mail, llm: LlmServer) -> None:
    """Nobody is called without it; the Role that grants it is all it takes."""
    await mail.keyed_agent(llm.url, granted=False)
    await mail.open(agent="k")
    await mail.send("hello")
    condition = await mail.condition("AuthenticationRequired", "True")
    assert condition["reason"] == "KeyMissing"
    assert "--resource-name=llm" in condition["message"]
    assert llm.requests == []
    await mail.grant_key()
    await world.pass_time(61)
    await mail.has_turns(1)


async def test_L11_a_corrected_agent_is_tried_at_once(world: World, mail: Mail) -> None:
    """Its generation is seen to change; nothing waits for the next look."""
    await mail.agent("x", {"provider": "typing-error", "name": "y"})
    await mail.open(agent="x")
    await mail.send("hello")
    assert (await mail.condition("Blocked", "True"))["reason"] == "ProviderUnknown"
    await mail.change_agent("x", model={"provider": "echo"})
    await mail.has_turns(1)
    await mail.condition("Blocked", "False")
    assert raised(world) == 1


async def test_L11_what_bounces_off_a_wrong_configuration_says_so_too(world: World, mail: Mail) -> None:
    """The next message waits for a correction, and a condition says for which."""
    await mail.agent("x", {"provider": "typing-error", "name": "y"})
    await mail.open(agent="x")
    name = await mail.send("hello", bounceBack=True)
    assert (await mail.returned(name, "Bounced"))["reason"] == "ProviderUnknown"
    assert (await mail.condition("Blocked", "True"))["reason"] == "ProviderUnknown"
    await mail.send("and now?", bounceBack=True)
    await mail.rests(world)
    assert len(await mail.turns()) == 1
    await mail.change_agent("x", model={"provider": "echo"})
    assert [turn["outcome"] for turn in await mail.has_turns(2)] == ["Bounced", "Answered"]
    await mail.condition("Blocked", "False")


# --- L12 ---


async def test_L12_what_passes_is_asked_again_in_place(world: World, keyed: Mail, llm: LlmServer) -> None:
    """Five times, 1, 16, 81 and 256 seconds apart and up to 15 % more; then it is a failed round, and visible."""
    llm.otherwise = fails(529, "overloaded_error")
    name = await keyed.send("hello")
    for attempt in (1, 2, 3, 4):
        await retries(world, attempt)
        await world.pass_time(attempt**4 - 0.1, step=LONG_STEP)
        assert [len(llm.requests), raised(world)] == [attempt, 0]
        if attempt > 1:
            progress = (await keyed.status())["progress"]
            assert f"attempt {attempt + 1} of 5" in progress
        await world.pass_time(attempt**4 * 0.15 + 0.2, step=LONG_STEP)
        await llm.asked(attempt + 1)
    status = await keyed.tells(failedRounds=1)
    assert status["lastError"]["reason"] == "Overloaded"
    assert [list(await keyed.waiting()), raised(world), await keyed.turns()] == [[name], 1, []]


async def test_L12_a_provider_is_not_asked_before_it_wants_to_be(world: World, keyed: Mail, llm: LlmServer) -> None:
    """Its retry-after is honoured."""
    llm.will(fails(429, "rate_limit_error", retry_after="40"), says("fine"))
    await keyed.send("hello")
    await retries(world, 1)
    await world.pass_time(39.9)
    assert len(llm.requests) == 1
    await world.pass_time(6.2)
    (turn,) = await keyed.has_turns(1)
    assert said(turn) == "fine"


async def test_L12_one_answer_comes_of_all_that_breaks(world: World, keyed: Mail, llm: LlmServer) -> None:
    """A connection that breaks, a 500, an error within the stream: one turn, which holds the last answer alone."""
    llm.will(cuts("one"), fails(500), errs("overloaded_error", after="three"), says("four"))
    await keyed.send("hello")
    for attempt, reason in ((1, "Unreachable"), (2, "Unreachable"), (1, "Overloaded")):
        await retries(world, attempt, reason)
        await world.pass_time((len(llm.requests) ** 4) * 1.15 + 0.1, step=LONG_STEP)
    (turn,) = await keyed.has_turns(1)
    assert [said(turn), turn["usage"]["calls"], len(llm.requests)] == ["four", 1, 4]


async def test_L12_a_wait_holds_no_place_in_the_pool(stopped_world: World, mail: Mail, llm: LlmServer) -> None:
    """With one place: while one session waits for its retry, another is answered; while one is asked, it isn't."""
    await stopped_world.start(model_calls=1)
    await mail.keyed_agent(llm.url)
    slow = Slowly("at last")
    llm.will(fails(529, "overloaded_error"), slow)
    await mail.open(agent="k")
    await mail.send("hello")
    await retries(stopped_world, 1)
    await mail.open("t", agent="k")
    await mail.send("quick", session="t")
    await eventually(slow.begun.is_set)
    await mail.open("u", agent="k")
    await mail.send("me, too", session="u")
    await stopped_world.settled()
    assert [len(llm.requests), (await mail.status("u")).get("phase")] == [2, "Idle"]
    slow.release()
    for session in ("t", "u"):
        await mail.has_turns(1, session)
    await stopped_world.pass_time(2)
    await mail.has_turns(1)


# --- L13 ---


async def test_L13_after_a_failed_round_others_are_drained(world: World, mail: Mail) -> None:
    """What failed waits for its turn again; another session of the agent is not held up, nor is later mail for ever."""
    await mail.open()
    await mail.open("t")
    await mail.send(UNANSWERABLE)
    await mail.tells(failedRounds=1)
    await mail.send("hello", session="t")
    await mail.has_turns(1, "t")
    assert await mail.turns() == []


async def test_L12_a_call_that_goes_on_for_too_long_is_given_up(world: World, mail: Mail, llm: LlmServer) -> None:
    """spec.model.timeoutSeconds bounds one call; the next attempt is answered."""
    await mail.keyed_agent(llm.url, timeoutSeconds=1)
    await mail.open(agent="k")
    llm.will(hangs(), says("fine"))
    await mail.send("hello")
    await retries(world, 1, "Unreachable")
    await world.pass_time(1.3)
    (turn,) = await mail.has_turns(1)
    assert said(turn) == "fine"
