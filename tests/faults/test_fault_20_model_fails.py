"""Fault 20: the model fails in every way there is, by the real client of the Messages API, with a key that was granted.

The mailbox is kept or returned, tries are bounded, why is said, and the next message goes on.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import SESSIONS, Json, Kube
from faults.conversing import Mail, conversing, heard, said
from faults.invariants import History, recorded
from faults.operating import World, delegation
from llmanswers import Behaviour, Call, calls, cuts, ends_early, errs, fails, falls_silent, giant, hangs, says
from llmserver import LlmServer, llm_server
from waiting import eventually

T = TypeVar("T")
KEY = "sk-1"
MOST_TRIES = 5
"""Of one call (L12)."""
STEP = 30
SHORT = 2
"""Seconds for one answer, where none comes."""
SECONDS = 90.0


@dataclass
class Scene:
    """A Model agent `k` with session `s`, its model, and the operator."""

    world: World
    mail: Mail
    llm: LlmServer
    history: History
    """Of sessions."""

    async def until(self, so: Callable[[], Awaitable[T | None]]) -> T:
        """Time passes whenever no call is under way, until something is so, which is returned."""

        async def check() -> T | None:
            found = await so()
            if not found and all(asked.over.is_set() for asked in self.llm.requests):
                await self.world.pass_time(STEP, STEP)
            return found

        return await eventually(check, SECONDS)

    def failures(self) -> list[Json]:
        """What was told of the rounds of session `s` that failed: as it was given back, mail and all."""
        told = [obj.get("status") or {} for run in self.history.versions.values() for obj in run]
        return [status for status in told if status.get("phase") == "Idle" and status.get("failedRounds")]

    async def turns(self, number: int, session: str = "s") -> list[Json]:
        """The turns of a session once there are so many and it is released."""

        async def there() -> list[Json] | None:
            turns, status = await self.mail.turns(session), await self.mail.status(session)
            return turns if len(turns) >= number and status.get("turns") == len(turns) else None

        return await self.until(there)

    async def patience(self, behaviour: Behaviour) -> None:
        """Have an answer waited for only as long as it takes to tell that it never comes."""
        if behaviour in ENDLESS:
            await self.mail.change_agent("k", model={"timeoutSeconds": SHORT})

    async def delegate(self, name: str) -> Json:
        """Delegate to the agent; the status once that has ended."""
        await self.world.create(delegation(name).to("k").asking(f"do {name}"))

        async def ended() -> Json | None:
            status = await self.world.status(name)
            return status if status.get("completionTime") else None

        return await self.until(ended)

    async def session_of(self, name: str) -> str:
        """The session that was opened for a delegation."""
        listed = await self.world.admin.list(
            SESSIONS, self.world.namespace, fieldSelector=f"spec.parentRef.name={name}"
        )
        (obj,) = listed["items"]
        return str(obj["metadata"]["name"])


@pytest.fixture
async def scene(
    installed: ControlPlane, admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str
) -> AsyncIterator[Scene]:
    """It runs; what the model was asked was always a whole conversation."""
    kubes = admin_kube, operator_kube, gateway_kube
    async with (
        llm_server() as llm,
        recorded(admin_kube, namespace, SESSIONS) as history,
        conversing(installed, kubes, namespace) as (world, mail),
    ):
        llm.keys = {KEY}
        await mail.keyed_agent(llm.url)
        await mail.change_agent("k", tools=[{"name": "delegate", "agents": ["mason"]}], maxActiveDelegations=9)
        await mail.open(agent="k")
        await world.start()
        yield Scene(world, mail, llm, history)
        assert llm.refused == []


HANGS, SILENT = hangs(), falls_silent()
ENDLESS = (HANGS, SILENT)
PASSING = [
    pytest.param(fails(429, "rate_limit_error", "slow down"), "Overloaded", "slow down", id="429"),
    pytest.param(fails(529, "overloaded_error", "so many"), "Overloaded", "so many", id="529"),
    pytest.param(fails(500, message="oh dear"), "Unreachable", "oh dear", id="500"),
    pytest.param(HANGS, "Unreachable", f"within {SHORT}s", id="hangs"),
    pytest.param(SILENT, "Unreachable", f"within {SHORT}s", id="falls silent"),
    pytest.param(cuts(), "Unreachable", "no whole answer", id="cuts the stream"),
    pytest.param(ends_early(), "Unreachable", "broke off", id="ends early"),
    pytest.param(errs("overloaded_error", "enough"), "Overloaded", "enough", id="an error in the stream"),
]


@pytest.mark.parametrize(("behaviour", "reason", "why"), PASSING)
async def test_L12_fault_20_a_message_waits_for_a_model_that_comes_back(
    scene: Scene, behaviour: Behaviour, reason: str, why: str
) -> None:
    """Five tries, then the session says why and keeps its mail; the next round answers it, and the next message."""
    await scene.patience(behaviour)
    scene.llm.will(*[behaviour] * MOST_TRIES, says("sorry, I was away"), says("yes?"))
    await scene.mail.send("hello")
    (turn,) = await scene.turns(1)
    assert [heard(turn), said(turn)] == [["hello"], "sorry, I was away"]
    assert len(scene.llm.requests) == MOST_TRIES + 1
    (failure,) = scene.failures()
    assert [failure["failedRounds"], failure["lastError"]["reason"]] == [1, reason]
    assert why in failure["lastError"]["message"]
    assert "lastError" not in await scene.mail.status()
    await scene.mail.send("next")
    _, turn = await scene.turns(2)
    assert [heard(turn), said(turn)] == [["next"], "yes?"]
    assert len(scene.llm.requests) == MOST_TRIES + 2


@pytest.mark.parametrize(("behaviour", "reason", "why"), PASSING)
async def test_L9_fault_20_a_delegation_fails_with_what_the_model_said(
    scene: Scene, behaviour: Behaviour, reason: str, why: str
) -> None:
    """Five tries, then its prompt is Bounced and it is Failed and says why; the next one is done."""
    await scene.patience(behaviour)
    scene.llm.will(*[behaviour] * MOST_TRIES, says("done"))
    status = await scene.delegate("first")
    assert [status["phase"], status["reason"]] == ["Failed", "ModelFailed"]
    assert why in status["message"]
    (turn,) = await scene.turns(1, await scene.session_of("first"))
    assert [turn["outcome"], turn["reason"]] == ["Bounced", reason]
    assert len(scene.llm.requests) == MOST_TRIES
    status = await scene.delegate("second")
    assert [status["phase"], status["result"]] == ["Completed", {"text": "done"}]
    assert len(scene.llm.requests) == MOST_TRIES + 1


@pytest.mark.parametrize(
    ("behaviour", "stop", "words", "told"),
    [
        pytest.param(says("I won't", stop_reason="refusal"), "refusal", "I won't",
                     ["Failed", "ModelRefused", "I won't"], id="refuses"),
        pytest.param(says("half of", stop_reason="max_tokens"), "max_tokens", "half of",
                     ["Completed", "Completed", "incomplete: max_tokens"], id="max_tokens"),
        pytest.param(giant(), "cut", "cut here: an answer holds at most 384 KiB",
                     ["Completed", "Completed", "incomplete: cut"], id="200k tokens"),
    ],
)  # fmt: skip
async def test_L4_fault_20_an_answer_that_is_no_whole_one_is_kept_and_says_so(
    scene: Scene, behaviour: Behaviour, stop: str, words: str, told: list[str]
) -> None:
    """In the turn to a person, in the status of a delegation; each was asked for once, and the next goes on."""
    scene.llm.will(behaviour, says("next"), behaviour, says("done"))
    await scene.mail.send("hello")
    (turn,) = await scene.turns(1)
    assert [turn["outcome"], turn["stopReason"], words in said(turn)] == ["Answered", stop, True]
    await scene.mail.send("and now?")
    _, turn = await scene.turns(2)
    assert said(turn) == "next"
    status = await scene.delegate("first")
    phase, reason, message = told
    assert [status["phase"], status["reason"], message in status["message"]] == [phase, reason, True]
    assert len((status.get("result") or {}).get("text", "").encode()) <= 64 * 1024
    assert (await scene.delegate("second"))["result"] == {"text": "done"}
    assert len(scene.llm.requests) == 4


@pytest.mark.parametrize("written", ['{"agent": "mas', "[1]", "no JSON", '{"agent": "mason"}', '{"agent": 7}'])
async def test_L14_fault_20_malformed_arguments_are_answered(scene: Scene, written: str) -> None:
    """With what is wrong with them, as the call's response; the model goes on from there."""
    scene.llm.will(calls(Call("delegate", written)), says("my mistake"))
    status = await scene.delegate("first")
    assert [status["phase"], status["result"]] == ["Completed", {"text": "my mistake"}]
    _, turn = await scene.turns(2, await scene.session_of("first"))
    (block,) = turn["user"]
    assert [block["type"], block["toolUseId"], block["isError"]] == ["ToolResult", "toolu_1", True]
    assert "delegate" in block["text"]
    await scene.mail.send("next")
    (turn,) = await scene.turns(1)
    assert said(turn) == "ok"


async def test_L10_fault_20_a_message_that_is_refused_is_parked(scene: Scene) -> None:
    """At once; the next is answered as if it had never been, and a delegation that is refused fails."""
    scene.llm.will(fails(400, "invalid_request_error", "too strange"), says("hello"))
    name = await scene.mail.send("strange")
    await scene.mail.send("next")
    parked, answered = await scene.turns(2)
    assert [parked["outcome"], parked["reason"], "too strange" in parked["message"]] == ["Parked", "Rejected", True]
    assert [answered["outcome"], heard(answered)] == ["Answered", ["next"]]
    status = (await scene.mail.waiting())[name]["status"]
    assert [status["phase"], status["reason"], "too strange" in status["message"]] == ["Parked", "Rejected", True]
    assert len(scene.llm.requests[1].body["messages"]) == 1
    scene.llm.will(fails(400, "invalid_request_error", "stranger still"))
    status = await scene.delegate("first")
    assert [status["phase"], status["reason"]] == ["Failed", "ModelFailed"]
    assert "stranger still" in status["message"]
    assert (await scene.delegate("second"))["phase"] == "Completed"
    assert len(scene.llm.requests) == 4


async def test_L11_fault_20_a_key_that_is_refused_is_asked_for(scene: Scene) -> None:
    """Mail waits, a delegation fails, the session says that a key is needed; nothing is tried until there is one."""
    scene.llm.keys = {"sk-2"}
    name = await scene.mail.send("hello")
    condition = await scene.mail.condition("AuthenticationRequired", "True")
    assert condition["reason"] == "AuthenticationFailed"
    await scene.world.pass_time(600, STEP)
    assert [list(await scene.mail.waiting()), len(scene.llm.requests)] == [[name], 1]
    status = await scene.delegate("first")
    assert [status["phase"], status["reason"], "401" in status["message"]] == ["Failed", "ModelFailed", True]
    session = await scene.session_of("first")
    assert (await scene.mail.condition("AuthenticationRequired", "True", session))["reason"] == "AuthenticationFailed"
    assert len(scene.llm.requests) == 2
    await scene.mail.key("sk-2")
    (turn,) = await scene.turns(1)
    assert [heard(turn), said(turn)] == [["hello"], "ok"]
    assert (await scene.mail.condition("AuthenticationRequired", "False"))["reason"] == "Authenticated"
    assert (await scene.delegate("second"))["phase"] == "Completed"
    assert len(scene.llm.requests) == 4
