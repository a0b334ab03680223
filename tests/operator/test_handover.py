"""Delegations of Model agents on the real API server with the operator's account: in, worked on, ended (D8, D9, L9)."""

from collections.abc import AsyncIterator

import pytest

from belay_api.names import Ref, opened_session_name
from belay_kube.client import AGENTS, DELEGATIONS, MESSAGES, SESSIONS, TURNS, Json
from waiting import eventually

from .builders import DelegationBuilder, delegation
from .mail import Mail, heard
from .world import World

WORKS = "::wait 80000"
"""A prompt whose answer takes longer than any test."""


@pytest.fixture
async def mail(world: World) -> AsyncIterator[Mail]:
    """A Model agent `m` with room for plenty."""
    made = Mail(world.admin, world.namespace)
    await made.agent(maxActiveDelegations=20)
    yield made
    for collection in (SESSIONS, TURNS, MESSAGES):
        await world.admin.delete(collection, world.namespace, "")


def asked(prompt: str, name: str = "d", session: str | None = None, **inputs: str) -> DelegationBuilder:
    """A delegation to agent `m`."""
    return delegation(name).to("m", session).asking(prompt, **inputs)


async def ended(world: World, name: str = "d") -> Json:
    """The delegation once it has ended."""

    async def found() -> Json | None:
        obj = await world.admin.get(DELEGATIONS, world.namespace, name)
        return obj if (obj.get("status") or {}).get("completionTime") else None

    return await eventually(found)


async def session_of(world: World, name: str = "d") -> str:
    """The AgentSession that works on a delegation, once it is claimed for that."""

    async def found() -> str | None:
        session = (await world.status(name)).get("sessionId")
        if not session:
            return None
        listed = await world.admin.list(SESSIONS, world.namespace, fieldSelector=f"metadata.name={session}")
        phases = [(obj.get("status") or {}).get("phase") for obj in listed["items"]]
        return session if phases == ["Awaiting"] else None

    return await eventually(found)


def said(obj: Json) -> list[str]:
    """Phase and reason."""
    return [obj["status"]["phase"], obj["status"]["reason"]]


def proven(obj: Json) -> set[str]:
    """The conditions that are True."""
    return {c["type"] for c in obj["status"].get("conditions") or () if c["status"] == "True"}


async def test_D8_a_prompt_becomes_a_result(world: World, mail: Mail) -> None:
    """In a session of its own, which goes with it; nothing stays in the mailbox."""
    await world.create(asked("build it"))
    obj = await ended(world)
    assert said(obj) == ["Completed", "Completed"]
    assert obj["status"]["result"] == {"text": "build it"}
    assert proven(obj) == {"Finished", "Complete"}
    name = opened_session_name("m", obj["metadata"]["uid"])
    assert obj["status"]["sessionId"] == name
    assert obj["status"]["acceptedTime"]
    session = await world.admin.get(SESSIONS, world.namespace, name)
    assert session["spec"]["parentRef"] == {"kind": "Delegation", "name": "d"}
    assert [owner["uid"] for owner in session["metadata"]["ownerReferences"]] == [obj["metadata"]["uid"]]
    assert await mail.waiting(name) == {}


async def test_inputs_go_with_the_prompt(world: World, mail: Mail) -> None:
    """Delimited, behind it."""
    await world.create(asked("build it", branch="main"))
    obj = await ended(world)
    (turn,) = await mail.has_turns(1, obj["status"]["sessionId"])
    assert heard(turn) == ['build it\n\n<inputs>\n"branch": "main"\n</inputs>']


async def test_work_may_join_a_conversation(world: World, mail: Mail) -> None:
    """Two delegations name one session: one conversation, one turn each, and it stays when they are gone."""
    await mail.open("chat")
    await world.create(asked("first", "d", "chat"), asked("second", "e", "chat"))
    assert [(await ended(world, name))["status"]["result"]["text"] for name in "de"] == ["first", "second"]
    turns = await mail.has_turns(2, "chat")
    assert sorted(text for turn in turns for text in heard(turn)) == ["first", "second"]
    session = await world.admin.get(SESSIONS, world.namespace, "chat")
    assert "ownerReferences" not in session["metadata"]


async def test_a_session_that_is_named_is_opened(world: World, mail: Mail) -> None:
    """It is nobody's: later work goes on in it."""
    await world.create(asked("first", "d", "chat"))
    assert (await ended(world))["status"]["sessionId"] == "chat"
    session = await world.admin.get(SESSIONS, world.namespace, "chat")
    assert "ownerReferences" not in session["metadata"]
    assert "parentRef" not in session["spec"]


async def test_another_agents_session_is_refused(world: World, mail: Mail) -> None:
    """Failed, saying whose it is; nothing was put into it, and nobody is owed an answer."""
    await mail.agent("other")
    await mail.open("chat", "other")
    await world.create(asked("hello", "d", "chat"))
    obj = await ended(world)
    assert said(obj) == ["Failed", "SessionMismatch"]
    assert "is of agent other, not of m" in obj["status"]["message"]
    assert "sessionId" not in obj["status"]
    assert await mail.waiting("chat") == {}


async def test_a_session_that_cannot_be_named_so_is_refused(world: World, mail: Mail) -> None:
    """sessionId is the name of an object here."""
    await world.create(asked("hello", "d", "My_Chat"))
    obj = await ended(world)
    assert said(obj) == ["Failed", "SessionMismatch"]
    assert "dispatchedTime" not in obj["status"]


async def test_L9_a_prompt_that_is_returned_fails_its_delegation(world: World, mail: Mail) -> None:
    """Bounced with the reason; the session is there for more."""
    await world.create(asked("::fail 400"))
    obj = await ended(world)
    assert said(obj) == ["Failed", "ModelFailed"]
    (turn,) = await mail.has_turns(1, obj["status"]["sessionId"])
    assert turn["outcome"] in ("Bounced", "Parked")
    assert obj["status"]["message"] == turn["message"]


async def test_a_failed_attempt_is_followed_by_the_next(world: World, mail: Mail) -> None:
    """As retry has it, in the same session, by a prompt of its own; then it fails."""
    await world.create(asked("::fail 400").attempts(2, backoff=0))
    obj = await ended(world)
    assert [*said(obj), obj["status"]["attempt"]] == ["Failed", "ModelFailed", 2]
    assert "Retried" in proven(obj)
    turns = await mail.has_turns(2, obj["status"]["sessionId"])
    assert len({message["name"] for turn in turns for message in turn["consumed"]}) == 2


@pytest.mark.parametrize(
    ("script", "expected", "words"),
    [
        pytest.param("::say I will not\n::stop refusal", ["Failed", "ModelRefused"], "I will not", id="refused"),
        pytest.param("::say too lo\n::stop max_tokens", ["Completed", "Completed"], "max_tokens", id="cut"),
    ],
)
async def test_an_answer_that_is_none_or_half_says_so(
    world: World, mail: Mail, script: str, expected: list[str], words: str
) -> None:
    """A refusal is a failure, a cut answer a result with a note."""
    await world.create(asked(script))
    obj = await ended(world)
    assert said(obj) == expected
    assert words in obj["status"]["message"]


async def test_a_result_beyond_64_KiB_is_cut_visibly(world: World, mail: Mail) -> None:
    """The API server takes it, and it says where the rest is."""
    await world.create(asked('::repeat "é" 50000'))
    obj = await ended(world)
    assert said(obj) == ["Completed", "Completed"]
    assert f"kubectl get sessionturn {obj['status']['sessionId']}-1" in obj["status"]["result"]["text"]


async def test_D9_a_cancel_cuts_the_round_short_and_is_proven(world: World, mail: Mail) -> None:
    """Cancelled at once; the model is asked no more, and then it is acknowledged."""
    await world.create(asked(WORKS))
    session = await session_of(world)
    await world.cancel("d")
    assert said(await ended(world)) == ["Cancelled", "Cancelled"]

    async def acknowledged() -> bool:
        obj = await world.admin.get(DELEGATIONS, world.namespace, "d")
        return {"CancelRequested", "CancelDelivered", "CancelAcknowledged"} <= proven(obj)

    await eventually(acknowledged)
    (turn,) = await mail.has_turns(1, session)
    assert turn["outcome"] == "Interrupted"
    assert await mail.waiting(session) == {}


async def test_L17_work_whose_round_a_person_interrupts_fails(world: World, mail: Mail) -> None:
    """Nobody would answer it any more; it isn't tried again."""
    await world.create(asked(WORKS).attempts(3))
    session = await session_of(world)
    await mail.phase("Awaiting", session)
    await mail.interrupt("stop", session)
    assert said(await ended(world)) == ["Failed", "ModelFailed"]


async def test_work_whose_session_is_deleted_fails(world: World, mail: Mail) -> None:
    """SessionDeleted; there is nobody to answer for it."""
    await world.create(asked(WORKS))
    session = await session_of(world)
    await world.admin.delete(SESSIONS, world.namespace, session)
    assert said(await ended(world)) == ["Failed", "SessionDeleted"]


async def test_work_in_hand_beats_and_is_never_orphaned(world: World, mail: Mail) -> None:
    """However long the model takes: one beat each quarter of the threshold, and not Stuck."""
    await world.create(asked(f"::say a moment\n{WORKS}").stuck_after(40))
    await session_of(world)
    await world.pass_time(100, step=10)
    status = await world.status("d")
    assert [status["phase"], status["progress"]["message"]] == ["InProgress", "a moment"]
    assert beat_age(world) <= 20


def beat_age(world: World) -> float:
    """Seconds since the last beat of `d`."""
    work = world.operator.seen.index.work[Ref(world.namespace, "d")]
    assert work.beat
    return (world.clock.now() - work.beat).total_seconds()


async def test_D4_a_model_agents_slots_are_kept(world: World, mail: Mail) -> None:
    """One at a time: the second waits for the first."""
    await mail.agent("one")
    await world.create(delegation("d").to("one").asking(WORKS))
    await session_of(world)
    await world.create(delegation("e").to("one").asking("hello"))
    assert await world.told("e") == "Queued AgentBusy"
    await world.cancel("d")
    assert said(await ended(world, "e")) == ["Completed", "Completed"]


async def test_a_model_agent_shows_what_it_has_spent(world: World, mail: Mail) -> None:
    """Online by itself; sessions and usage are counted."""
    await world.create(asked("hello"))
    await ended(world)

    async def counted() -> Json | None:
        await world.pass_time(6)
        status = (await world.admin.get(AGENTS, world.namespace, "m")).get("status") or {}
        return status if (status.get("usage") or {}).get("calls") == 1 else None

    status = await eventually(counted)
    assert [status["routable"], status["liveSessions"]] == [True, 1]
    assert {c["type"]: c["status"] for c in status["conditions"]} == {"Ready": "True", "Online": "True"}


# --- sessions as parents ---


def below(session: str, name: str = "c") -> DelegationBuilder:
    """Work for a Channel agent that isn't there, a part of a session."""
    return delegation(name).to("worker").under(session, "AgentSession")


async def test_D6_work_below_a_session_waits_for_it(world: World, mail: Mail) -> None:
    """Pending until it comes, then taken up."""
    await world.agent("worker")
    await world.create(below("chat"))
    assert await world.told("c") == "Pending AgentNotFound"
    assert "AgentSession chat" in (await world.status("c"))["message"]
    await mail.open("chat")
    assert await eventually_told(world, "c", "Queued AgentOffline")


async def test_D9_work_below_a_session_ends_with_it(world: World, mail: Mail) -> None:
    """Deleted: cancelled, as below a deleted delegation."""
    await world.agent("worker")
    await mail.open("chat")
    await world.create(below("chat"))
    assert await eventually_told(world, "c", "Queued AgentOffline")
    await world.admin.delete(SESSIONS, world.namespace, "chat")
    assert said(await ended(world, "c")) == ["Cancelled", "ParentDeleted"]


async def test_D9_a_cancel_goes_on_below_a_session(world: World, mail: Mail) -> None:
    """The session was opened for the delegation: what is below it, is below that."""
    await world.agent("worker")
    await world.create(asked(WORKS))
    session = await session_of(world)
    await world.create(below(session))
    assert await eventually_told(world, "c", "Queued AgentOffline")
    await world.cancel("d")
    assert said(await ended(world, "c")) == ["Cancelled", "ParentCancelled"]


async def test_D6_an_agent_does_not_delegate_to_itself_from_its_session(world: World, mail: Mail) -> None:
    """The session's agent is above."""
    await mail.open("chat")
    await world.create(below("chat").to("m"))
    assert said(await ended(world, "c")) == ["Failed", "AgentAboveInTree"]


async def eventually_told(world: World, name: str, expected: str) -> bool:
    """Whether it comes to say so."""

    async def found() -> bool:
        return await world.told(name) == expected

    return await eventually(found)
