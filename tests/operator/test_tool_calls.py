"""Tool calls on a real API server: handed out, waited for, and each answered once (L14, L15, D8)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from belay_api.meta import ANNOTATION_TOOL_USE, LABEL_SESSION
from belay_api.names import Ref
from belay_api.pendingmessage import MAX_CONTENT_BYTES
from belay_kube.client import (
    AGENTS,
    DELEGATIONS,
    MESSAGES,
    PERMISSION_REQUESTS,
    SESSIONS,
    TURNS,
    Collection,
    Json,
    Kube,
)
from belay_kube.errors import Forbidden, Unreachable
from belay_operator.decisions.calls import Runs, Traits
from belay_operator.decisions.outcomes import Response, failure
from belay_operator.drain.tools.registry import Call, Registry
from waiting import eventually

from .tools_site import BEFORE, ME, Played, Site, quick, raw, use

DELEGATE: Json = {"name": "delegate", "agents": ["helper", "other"]}
ASK: Json = {"name": "delegate", "agents": ["helper"], "permission": "Ask"}
CHORE = use("delegate", agent="helper", prompt="help me")
QUOTAS = Collection("api/v1", "resourcequotas")
ONCE = Traits(Runs.IN_PROCESS, idempotent=False)


@pytest.fixture
async def site(admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str) -> AsyncIterator[Site]:
    """A namespace in which nobody but the test acts."""
    made = Site(admin_kube, operator_kube, gateway_kube, namespace)
    yield made
    await made.running.close()
    for collection in (SESSIONS, DELEGATIONS, AGENTS):
        await admin_kube.delete(collection, namespace, "")


async def opened(site: Site, *tools: Json) -> None:
    """Agent `m` with these tools, and its session."""
    await site.agent(*tools)
    await site.open()


# --- what is answered at once --------------------------------------------------------------------------------------


WRONG: dict[str, tuple[Json, str]] = {
    "unknown": (use("fly"), "there is no tool fly; your tools are: delegate"),
    "registered, not given to this agent": (use("work"), "there is no tool work; your tools are: delegate"),
    "denied": (use("hammer"), "you may not use the tool hammer: the permission of your Agent is Deny"),
    "no JSON": (raw("delegate", '{"agent": '), "the arguments of delegate are not a JSON object: Expecting value"),
    "a list": (raw("delegate", "[1]"), "the arguments of delegate are not a JSON object: it is a list"),
    "NaN": (raw("delegate", '{"priority": NaN}'), "the arguments of delegate are not a JSON object: NaN is no JSON"),
    "one key twice": (
        raw("delegate", '{"agent": "helper", "prompt": "x", "agent": "other"}'),
        'the arguments of delegate are not a JSON object: the key "agent" is given more than once; call it again',
    ),
    "one key twice, further down": (
        raw("delegate", '{"agent": "helper", "prompt": "x", "inputs": {"a": "1", "a": "2"}}'),
        'the arguments of delegate are not a JSON object: the key "a" is given more than once',
    ),
    "too deep": (raw("delegate", "[" * 20_000), "the arguments of delegate are not a JSON object: it is nested"),
    "nothing": (raw("delegate", ""), "the arguments of delegate were refused: agent: Field required; prompt: Field"),
    "a wrong type": (
        use("delegate", agent="helper", prompt=7),
        "the arguments of delegate were refused: prompt: Input",
    ),
    "one too many": (
        use("delegate", agent="helper", prompt="x", color="red"),
        "the arguments of delegate were refused: color: Extra inputs are not permitted",
    ),
    "not on the list": (
        use("delegate", agent="boss", prompt="x"),
        "the arguments of delegate were refused: you may not delegate to boss; you may to: helper, other",
    ),
    "nobody to reply to": (use("reply", text="x"), "the arguments of reply were refused: there is nobody to reply to"),
    "it breaks": (use("broken"), "the tool broken failed: no steam"),
    "it fails": (use("failing"), "out of paper"),
}


def breaks(call: Call) -> Response:
    """A tool that raises."""
    raise RuntimeError("no steam")


@pytest.mark.parametrize(("block", "expected"), WRONG.values(), ids=WRONG)
async def test_L14_what_goes_wrong_is_the_response(site: Site, block: Json, expected: str) -> None:
    """An error response at once; nothing else is made, and nothing is lost."""
    tools = [quick(breaks, "broken"), quick(lambda _: failure("out of paper"), "failing")]
    site.restart(tools=[*tools, quick(lambda _: Response("done")), quick(breaks, "hammer")])
    named = [{"name": "broken"}, {"name": "failing"}, {"name": "hammer", "permission": "Deny"}]
    await opened(site, DELEGATE, *named)
    await site.answers(block)
    (content, success) = await site.response() or ("", True)
    assert (content[: len(expected)], success) == (expected, False)
    assert (await site.admin.list(DELEGATIONS, site.namespace))["items"] == []
    await site.look()
    assert len(await site.responses()) == 1


async def test_L14_a_tool_that_answers_at_once(site: Site) -> None:
    """Its words are a ToolResponse by that tool, owned by the session, named after the call; what is too long is cut,
    and says so; what models aren't handed is taken out."""
    site.restart(tools=[quick(lambda call: Response(f"{call.arguments['say']}" * call.arguments["times"]))])
    await opened(site, {"name": "work"})
    await site.answers(use("work", "short", say="hé\0", times=1), use("work", "long", say="é", times=40_000))
    message = await site.admin.get(MESSAGES, site.namespace, site.name("short"))
    assert message["spec"] == {
        "sessionRef": {"name": "s"},
        "type": "ToolResponse",
        "source": {"kind": "Tool", "name": "work"},
        "content": "hé\ufffd",
        "toolUseId": "short",
        "success": True,
        "bounceBack": False,
    }
    assert message["metadata"]["ownerReferences"][0]["uid"] == site.session.uid
    content, success = await site.response("long") or ("", False)
    assert success
    assert len(content.encode()) <= MAX_CONTENT_BYTES
    assert content.endswith("of 80000 bytes are above]")


async def test_L14_what_passes_by_itself_is_tried_again(site: Site) -> None:
    """A tool that can't reach the API server just then is no failed tool: the hand-over is repeated, and every call of
    the answer is answered once."""
    down = [Unreachable("the API server is away")]

    def does(call: Call) -> Response:
        if down:
            raise down.pop()
        return Response("done")

    site.restart(tools=[quick(does)])
    await opened(site, {"name": "work"}, DELEGATE)
    with pytest.raises(Unreachable):
        await site.answers(use("fly", "1"), use("work", "2"), CHORE, release=False)
    assert set(await site.responses()) == {"1"}
    turn = (await site.store.turn(site.ref("s"), 1) or {})["spec"]
    await site.finishes(turn)
    assert {call: success for call, (_, success) in (await site.responses()).items()} == {"1": False, "2": True}
    assert await site.made("c")


async def test_the_agent_went_meanwhile(site: Site) -> None:
    """Its calls are answered all the same."""
    await opened(site, DELEGATE)
    await site.admin.delete(AGENTS, site.namespace, "m")
    site.seen.gone_agent(site.ref("m"))
    session = site.session
    calls = site.calls.opened(session, None, [CHORE])
    turn = {"sequence": 1, "outcome": "Answered", "assistant": [CHORE]}
    await site.calls.dispatch(session, None, turn, calls)
    assert await site.response() == (f"agent m does not exist in namespace {site.namespace}: create it", False)


# --- delegate ------------------------------------------------------------------------------------------------------


async def test_L14_delegate_makes_a_delegation_once(site: Site) -> None:
    """In the name of whoever asked for what the session works on, with all that the model said; found by label; done
    again after a crash it is the same one."""
    await opened(site, DELEGATE)
    await site.served("task", requester="belay-admin", topic="build")
    block = use("delegate", agent="helper", prompt="help", inputs={"a": "1"}, deadlineSeconds=60, priority=5)
    await site.answers(block, release=False)
    site.restart()
    await site.look()
    await site.finishes((await site.store.turn(site.ref("s"), 1) or {})["spec"])
    made = await site.delegation("c")
    assert made["spec"] == {
        "agentRef": {"name": "helper"},
        "task": {"prompt": "help", "inputs": {"a": "1"}},
        "priority": 5,
        "deadlineSeconds": 60,
        "parentRef": {"kind": "Delegation", "name": "task"},
        "requester": "belay-admin",
        "topic": "build",
        "desiredState": "Running",
    }
    marks = made["metadata"]
    assert (marks["labels"], marks["annotations"]) == ({LABEL_SESSION: "s"}, {ANNOTATION_TOOL_USE: "c"})
    (call,) = site.session.open_calls
    assert (call.delegation, call.permission, call.timeout) == (marks["name"], None, None)
    assert await site.look() is None
    assert await site.responses() == {}


async def test_D8_without_a_delegation_the_session_is_the_parent(site: Site) -> None:
    """People talk to it, so nobody else asks."""
    await opened(site, DELEGATE)
    await site.answers(CHORE)
    spec = (await site.delegation("c"))["spec"]
    assert spec["parentRef"] == {"kind": "AgentSession", "name": "s"}
    assert not {"requester", "topic"} & spec.keys()


async def test_L14_a_refused_delegation_is_answered_in_the_servers_words(site: Site) -> None:
    """By the contract, by a quota: what the API server says is what the model reads."""
    await opened(site, DELEGATE)
    hard = {"count/delegations.belay.dev": "0"}
    await site.admin.create(QUOTAS, site.namespace, {"metadata": {"name": "few"}, "spec": {"hard": hard}})

    async def in_force() -> bool:
        # What the controller that counts would write once it has looked for new types, which it does every 30 s.
        counted = {"status": {"hard": hard, "used": hard}}
        await site.admin.patch(QUOTAS, site.namespace, "few", counted, subresource="status")
        try:
            await site._make(
                DELEGATIONS, "Delegation", "probe", {"agentRef": {"name": "helper"}, "task": {"prompt": "do it"}}
            )
        except Forbidden:
            return True
        await site.admin.delete(DELEGATIONS, site.namespace, "probe")
        return False

    await eventually(in_force)
    await site.answers(CHORE, use("delegate", "nul", agent="helper", prompt="a\0"))
    for call, words in (("c", "exceeded quota: few"), ("nul", "contains a NUL character")):
        content, success = await site.response(call) or ("", True)
        assert content.startswith("the delegation to helper was refused: ")
        assert (words in content, success) == (True, False)


ENDS: dict[str, tuple[str, Json, str, bool]] = {
    "text": ("Completed", {"result": {"text": "42"}}, "42", True),
    "data and address": (
        "Completed",
        {"result": {"data": {"n": 1}, "uri": "s3://x"}},
        '{{"n": 1}}\nThe result is at s3://x',
        True,
    ),
    "Failed": (
        "Failed",
        {"reason": "DeadlineExceeded", "message": "too slow"},
        "delegation {name} is Failed (DeadlineExceeded): too slow",
        False,
    ),
    "Cancelled": (
        "Cancelled",
        {"reason": "AgentOffline", "message": "it left"},
        "delegation {name} is Cancelled (AgentOffline): it left",
        False,
    ),
}


@pytest.mark.parametrize(("phase", "status", "content", "success"), ENDS.values(), ids=ENDS)
async def test_L14_D8_the_end_of_a_delegation_is_the_response(
    site: Site, phase: str, status: Json, content: str, success: bool
) -> None:
    """Whatever phase it ends in, once, also when another process of the operator looks."""
    await opened(site, DELEGATE)
    await site.answers(CHORE)
    await site.ends(site.name("c"), phase, **status)
    site.restart("operator-2")
    await site.look()
    await site.look()
    assert await site.responses() == {"c": (content.format(name=site.name("c")), success)}


async def test_L14_D8_a_deleted_delegation_is_answered(site: Site) -> None:
    """Its end isn't known; it isn't made again."""
    await opened(site, DELEGATE)
    await site.answers(CHORE)
    await site.delete(site.name("c"))
    await site.look()
    expected = f"delegation {site.name('c')} was deleted before its end was known"
    assert await site.responses() == {"c": (expected, False)}
    assert not await site.made("c")


async def test_L14_several_calls_each_have_their_response(site: Site) -> None:
    """Of one answer, in any order; the others wait."""
    await opened(site, DELEGATE)
    await site.answers(*({**CHORE, "toolUseId": call} for call in ("1", "2", "3")))
    await site.ends(site.name("2"), "Completed", result={"text": "two"})
    await site.look()
    assert await site.responses() == {"2": ("two", True)}
    await site.ends(site.name("1"), "Completed", result={"text": "one"})
    await site.ends(site.name("3"), "Failed", reason="AgentFailed", message="no")
    await site.look()
    assert {call: content for call, (content, _) in (await site.responses()).items()} == {
        "1": "one",
        "2": "two",
        "3": f"delegation {site.name('3')} is Failed (AgentFailed): no",
    }


async def test_L15_a_response_is_not_sent_twice(site: Site) -> None:
    """What the operator sees may be old: a call that was answered, and whose round is over, is not answered again."""
    await opened(site, DELEGATE)
    await site.answers(CHORE)
    await site.ends(site.name("c"), "Completed", result={"text": "42"})
    await site.see()
    obj = await site.operator.get(SESSIONS, site.namespace, "s")
    await site.operator.patch_status(SESSIONS, obj, {"phase": "Idle", "openToolCalls": None})
    assert site.session.open_calls
    await site.calls.tend(site.session, None)
    assert await site.responses() == {}


# --- time ----------------------------------------------------------------------------------------------------------


async def test_L15_an_overdue_call_times_out_and_its_delegation_is_cancelled(site: Site) -> None:
    """Not a second earlier; the child says why it was ended."""
    await opened(site, {**DELEGATE, "timeoutSeconds": 60})
    await site.answers(CHORE)
    due = site.clock.now() + (await _left(site))
    await site.clock.advance(59)
    assert await site.look() == due
    assert await site.responses() == {}
    await site.clock.advance(1)
    await site.look()
    assert await site.responses() == {"c": ("timed out after 60 seconds", False)}
    why = "the tool call of AgentSession s that waited for it timed out after 60 seconds"
    assert await site.phase(site.name("c")) == f"Cancelled: {why}"


async def _left(site: Site) -> Any:
    again = await site.look()
    assert again
    return again - site.clock.now()


async def test_L15_a_result_that_came_in_time_counts(site: Site) -> None:
    """Though nobody looked before the call was overdue."""
    await opened(site, {**DELEGATE, "timeoutSeconds": 60})
    await site.answers(CHORE)
    await site.ends(site.name("c"), "Completed", result={"text": "42"})
    await site.clock.advance(61)
    await site.look()
    assert await site.responses() == {"c": ("42", True)}


async def test_L17_the_delegations_of_an_interrupted_round_are_cancelled(site: Site) -> None:
    """Those that go on; the others stay as they ended."""
    await opened(site, DELEGATE)
    await site.answers(*({**CHORE, "toolUseId": call} for call in ("1", "2")))
    await site.ends(site.name("1"), "Completed", result={"text": "one"})
    await site.calls.closed(site.session)
    assert (await site.phase(site.name("1"))).startswith("Completed")
    why = "Cancelled: AgentSession s, which waited for it, was interrupted"
    assert await site.phase(site.name("2")) == why
    assert (await site.delegation("2"))["status"]["reason"] == "ParentCancelled"


# --- permission ----------------------------------------------------------------------------------------------------


async def test_a_tool_of_permission_ask_waits_for_people(site: Site) -> None:
    """Who decides sees tool, session and arguments; nothing is started before; then it is, and runs as any other."""
    await opened(site, {**ASK, "timeoutSeconds": 60})
    await site.served("task")
    await site.answers(CHORE)
    request = await site.request("c")
    assert request["spec"] == {
        "agentRef": {"name": "m"},
        "sessionId": "s",
        "requestId": "c",
        "tool": "delegate",
        "description": "The model of AgentSession s wants to use the tool delegate.",
        "inputPreview": '{"agent": "helper", "prompt": "help me"}',
        "expiresAfterSeconds": 60,
        "delegationRef": {"name": "task"},
    }
    assert request["metadata"]["ownerReferences"][0]["uid"] == site.session.uid
    assert await site.look() == site.session.open_calls[0].started + (await _left(site))
    assert not await site.made("c")
    await site.decide("c", "Allow")
    await site.look()
    assert (await site.delegation("c"))["spec"]["parentRef"]["name"] == "task"
    await site.ends(site.name("c"), "Completed", result={"text": "42"})
    await site.look()
    assert await site.responses() == {"c": ("42", True)}


async def test_who_decides_sees_whom_a_model_delegates_to(site: Site) -> None:
    """Whatever it writes before that, and in whatever way; the turn that is named holds the rest."""
    await opened(site, ASK)
    prompt = "good " * 2000
    await site.answers(raw("delegate", f'{{"prompt": "{prompt}",\n\n"\\u0061gent": "helper"}}'))
    shown = (await site.request("c"))["spec"]["inputPreview"]
    assert shown.startswith('{"agent": "helper", "prompt": "good good ')
    assert 4090 < len(shown) <= 4096
    turn = shown.split("kubectl get sessionturn ")[1].split()[0]
    assert prompt in (await site.admin.get(TURNS, site.namespace, turn))["spec"]["assistant"][0]["input"]


@pytest.mark.parametrize(
    ("behavior", "expected"),
    [
        ("Deny", "belay-admin denied the use of delegate: too dear"),
        (None, "the use of delegate was not allowed: nobody decided within 60s"),
    ],
    ids=["Denied", "Expired"],
)
async def test_L14_what_is_not_allowed_is_answered(site: Site, behavior: str | None, expected: str) -> None:
    """By whom, and why; nothing is made."""
    await opened(site, ASK)
    await site.answers(CHORE)
    await site.decide("c", behavior, "too dear")
    await site.look()
    assert await site.responses() == {"c": (expected, False)}
    assert not await site.made("c")


async def test_L14_a_deleted_request_is_answered(site: Site) -> None:
    """Nobody can allow it any more."""
    await opened(site, ASK)
    await site.answers(CHORE)
    await site.admin.delete(PERMISSION_REQUESTS, site.namespace, site.name("c"))
    site.seen.gone_permission(site.ref(site.name("c")))
    await site.look()
    expected = f"the use of delegate was not allowed: PermissionRequest {site.name('c')} was deleted"
    assert await site.responses() == {"c": (expected, False)}


async def test_a_call_that_makes_no_sense_is_not_asked_for(site: Site) -> None:
    """People decide on nothing that could not be done."""
    await opened(site, ASK)
    await site.answers(use("delegate", agent="boss", prompt="x"))
    assert (await site.admin.list(PERMISSION_REQUESTS, site.namespace))["items"] == []
    assert (await site.response() or ("", True))[1] is False


async def test_L14_an_allowed_delegation_that_is_deleted_is_not_made_again(site: Site) -> None:
    """It was started once."""
    await opened(site, ASK)
    await site.answers(CHORE)
    await site.decide("c", "Allow")
    await site.look()
    await site.delete(site.name("c"))
    await site.look()
    assert (await site.response() or ("", True))[
        0
    ] == f"delegation {site.name('c')} was deleted before its end was known"


async def test_L14_a_call_whose_turn_is_gone_is_answered(site: Site) -> None:
    """Somebody deleted the turn while people were asked: nobody knows what was to be done."""
    await opened(site, ASK)
    await site.answers(CHORE)
    await site.admin.delete(TURNS, site.namespace, "s-1")
    await site.decide("c", "Allow")
    await site.look()
    assert await site.responses() == {
        "c": ("the tool delegate failed: what it was called with is no longer known", False)
    }


# --- tools that run in this process --------------------------------------------------------------------------------


async def test_L14_a_tool_in_this_process_starts_once_the_session_says_so(site: Site) -> None:
    """Not before the release, and then once; what it returns is the response."""
    tool = Played("work", ONCE, lambda _: Response("done"))
    site.restart(tools=[tool])
    await opened(site, {"name": "work"})
    await site.answers(use("work"), release=False)
    assert tool.started == []
    await site.finishes((await site.store.turn(site.ref("s"), 1) or {})["spec"])
    await eventually(lambda: tool.started)
    await site.look()
    await site.look()
    assert await site.responses() == {"c": ("done", True)}
    assert tool.started == ["c"]


@pytest.mark.parametrize(
    ("idempotent", "content"),
    [(False, "interrupted: the process that ran work ended; it may or may not have had its effect"), (True, "done")],
)
async def test_L14_a_tool_whose_process_died(site: Site, idempotent: bool, content: str) -> None:
    """It is answered "interrupted", and not run again unless it says that it may be."""
    tool = Played("work", Traits(Runs.IN_PROCESS, idempotent=idempotent), lambda _: Response("done"))
    site.restart(BEFORE, tools=[Played("work", tool.traits, lambda _: None)])
    await opened(site, {"name": "work"})
    await site.answers(use("work"))
    await site.running.close()
    site.restart(ME, tools=[tool])
    await eventually(lambda: _answered(site))
    assert await site.responses() == {"c": (content, idempotent)}
    assert tool.started == (["c"] if idempotent else [])


async def _answered(site: Site) -> bool:
    await site.look()
    return bool(await site.responses())


async def test_a_tool_that_waited_for_people_was_run_by_nobody_before(site: Site) -> None:
    """The process that asked them is gone; the one that sees the decision come starts the tool."""
    tool = Played("work", ONCE, lambda _: Response("done"))
    site.restart(BEFORE, tools=[Played("work", ONCE, lambda _: None)])
    await opened(site, {"name": "work", "permission": "Ask"})
    await site.answers(use("work"))
    site.restart(ME, tools=[tool])
    await site.look()
    await site.decide("c", "Allow")
    await eventually(lambda: _answered(site))
    assert await site.responses() == {"c": ("done", True)}


async def test_L15_a_tool_that_hangs_is_ended(site: Site) -> None:
    """At its timeout; the same when nobody waits any more."""

    class Hangs(Played):
        ended: list[str] = []  # noqa: RUF012 - one for both calls

        async def start(self, call: Call) -> Response | None:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.append(call.id)
            return None

    site.restart(tools=[Hangs("work", ONCE, lambda _: None), Hangs("wait", ONCE, lambda _: None)])
    await opened(site, {"name": "work", "timeoutSeconds": 60}, {"name": "wait"})
    await site.answers(use("work"), use("wait", "w"))
    await eventually(lambda: asyncio.sleep(0, len(asyncio.all_tasks()) > 1))
    assert await site.look() == site.session.open_calls[0].started + (await _left(site))
    await site.clock.advance(60)
    await site.look()
    await eventually(lambda: Hangs.ended == ["c"])
    assert await site.responses() == {"c": ("timed out after 60 seconds", False)}
    await site.calls.closed(site.session)
    await eventually(lambda: Hangs.ended == ["c", "w"])


# --- reply ---------------------------------------------------------------------------------------------------------


async def test_D8_reply_completes_what_the_session_works_on(site: Site) -> None:
    """With text, data and address; a second one changes nothing and says so; the same again is what a crash repeats."""
    await opened(site)
    await site.served("one")
    await site.served("two")
    await site.answers(use("reply", "1", text="42", data={"n": 1}, uri="s3://x"))
    assert await site.response("1") == ("delivered: one, two is Completed with it", True)
    for name in ("one", "two"):
        status = (await site.admin.get(DELEGATIONS, site.namespace, name))["status"]
        assert status["result"] == {"text": "42", "data": {"n": 1}, "uri": "s3://x"}
        assert (status["phase"], status["reason"]) == ("Completed", "Completed")
    await site.finishes((await site.store.turn(site.ref("s"), 1) or {})["spec"])
    assert await site.response("1") == ("delivered: one, two is Completed with it", True)
    await site.answers(use("reply", "2", text="43"))
    content, success = await site.response("2") or ("", False)
    assert (content.split(":")[0], success) == ("a result was delivered already", True)


NO_REPLIES: dict[str, tuple[Json, str]] = {
    "nothing": (use("reply"), "the arguments of reply were refused: give text, data or uri"),
    "empty": (use("reply", text=""), "the arguments of reply were refused: give text, data or uri"),
    "longer than its arguments": (
        raw("reply", f'{{"data": {{"x": [{",".join(["1e9"] * 10_000)}]}}}}'),
        "the arguments of reply were refused: the reply is 130007 bytes, at most 65536 are taken",
    ),
    "no number": (raw("reply", '{"data": {"x": 1e999}}'), "the arguments of reply were refused: data: Value error"),
}


@pytest.mark.parametrize(("block", "expected"), NO_REPLIES.values(), ids=NO_REPLIES)
async def test_L14_a_reply_that_can_not_be_delivered(site: Site, block: Json, expected: str) -> None:
    """It says why, and the delegation goes on."""
    await opened(site)
    await site.served("task")
    await site.answers(block)
    content, success = await site.response() or ("", True)
    assert (content[: len(expected)], success) == (expected, False)
    assert (await site.phase("task")).startswith("InProgress")


async def test_L14_a_reply_to_what_has_ended(site: Site) -> None:
    """The model learns that nobody wants it any more."""
    await opened(site)
    await site.served("task")
    await site.ends("task", "Cancelled", reason="Cancelled", message="enough")
    await site.answers(use("reply", text="42"))
    assert await site.response() == ("not delivered: delegation task is Cancelled", False)


# --- what a model is told ------------------------------------------------------------------------------------------


async def test_a_model_is_told_of_the_tools_it_may_use(site: Site) -> None:
    """`delegate` with the agents it may name and what each is good for, `reply` while there is somebody to reply to,
    also when that is only just in the mailbox; none that is denied; schemas that say what is required."""
    await site.agent(name="helper", description="Knows\nit all.")
    site.restart(tools=[quick(breaks, "hammer")])
    await opened(site, DELEGATE, {"name": "hammer", "permission": "Deny"})
    (delegate,) = _offered(site)
    assert "- helper: Knows it all.\n- other" in delegate.description
    assert delegate.schema["properties"]["agent"]["enum"] == ["helper", "other"]
    assert delegate.schema["required"] == ["agent", "prompt"]
    assert delegate.schema["properties"]["deadlineSeconds"]["type"] == "integer"
    await site.store.send(site.session, "prompt", "do it", ("Delegation", "task"))
    await site.see()
    assert [one.name for one in _offered(site)] == ["delegate", "reply"]


def _offered(site: Site) -> list[Any]:
    return site.calls.definitions(site.session, site.seen.index.agents[site.session.agent])


def test_a_registry_refuses_tools_that_can_not_be_told_apart_or_repeated() -> None:
    """Two of one name; one that is repeated after a crash and may not be."""
    registry = Registry([quick(breaks)])
    with pytest.raises(ValueError, match="two tools of the name work"):
        registry.add(quick(breaks))
    with pytest.raises(ValueError, match="make it idempotent, or run it InProcess"):
        registry.add(Played("once", Traits(Runs.AT_ONCE, idempotent=False), breaks))


# --- strays --------------------------------------------------------------------------------------------------------


async def test_L15_a_response_to_a_call_that_is_not_open_is_parked_and_recorded(site: Site) -> None:
    """With the reason, and an Event on the session; not the first response of an open call, and not while the model is
    asked, whose answer may open it."""
    await opened(site, DELEGATE)
    await site.answers(CHORE)
    for name, call in (("first", "c"), ("second", "c"), ("other", "x")):
        spec = {"sessionRef": {"name": "s"}, "type": "ToolResponse", "toolUseId": call, "content": name}
        await site._make(MESSAGES, "PendingMessage", name, spec, site.operator)
    claim = {"holderIdentity": ME, "token": "t", "renewTime": "2026-01-01T00:00:00.000000Z", "durationSeconds": 30}
    await site.status(phase="Awaiting", claim=claim)
    assert [await stray(site, name) for name in ("first", "second", "other")] == [False] * 3
    await site.status(phase="Executing", claim=None)
    assert [await stray(site, name) for name in ("first", "second", "other")] == [False, True, True]
    parked = await site.admin.get(MESSAGES, site.namespace, "other")
    assert (parked["status"]["phase"], parked["status"]["reason"]) == ("Parked", "NotOpen")
    assert parked["status"]["message"] == "no tool call x is open, or it has its response already"
    assert [await stray(site, name) for name in ("second", "other")] == [False, False]
    event = site.recorder._queue.get_nowait()
    assert (event["reason"], event["regarding"]["name"], event["type"]) == ("NotOpen", "s", "Warning")


async def stray(site: Site, name: str) -> bool:
    """Whether it was parked."""
    await site.see()
    return await site.calls.stray(site.seen.mailboxes.messages[Ref(site.namespace, name)])
