"""`belay chat` on a real API server; what the operator's drain does there is played with its account."""

import asyncio
import json
from pathlib import Path

import pytest

from accounts import SERVICE_ACCOUNTS, bind, username
from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, MESSAGES, SESSIONS, Json, Kube
from client.belay_command import Said
from client.chat_process import Run, Talk, beside
from client.played_drain import AT, PlayedDrain, call, result, text
from crds_cases import agent
from waiting import eventually

OPEN = {"id": "u1", "tool": "delegate", "startedTime": AT}


# --- one message ---


async def test_L4_an_answer_is_printed(admin_kube: Kube, namespace: str, run: Run, drain: PlayedDrain) -> None:
    """On standard output, alone; the message is the session's, bears no source, and comes back if it can't be read."""
    chat = beside(run("m", "-", stdin=b"what is 2+2?\n"))
    message = await drain.message()
    session = await drain.session(message)
    spec = {key: value for key, value in message["spec"].items() if key != "sessionRef"}
    assert spec == {"type": "UserMessage", "content": "what is 2+2?\n", "bounceBack": True}
    owners = [(o["kind"], o["name"], o["uid"]) for o in message["metadata"]["ownerReferences"]]
    assert owners == [("AgentSession", session["metadata"]["name"], session["metadata"]["uid"])]
    assert session["spec"]["agentRef"]["name"] == "m"
    await drain.answers(message, 1, "4\nof course")
    said = await chat
    name = session["metadata"]["name"]
    assert (said.code, said.out) == (0, "4\nof course\n"), said
    assert said.err.splitlines() == [
        "turn 1: Answered",
        f"belay: to go on: belay chat m --session {name} -n {namespace}",
    ]
    assert name.startswith("m-")


async def test_L5_turns_and_tools_are_told_as_they_happen(run: Run, drain: PlayedDrain) -> None:
    """What the answer grows by, each call, its delegation, its response as it comes, then the answer."""
    chat = beside(run("m", "build it"))
    message = await drain.message()
    await drain.claim(message, "Asking the")
    said = [text("Asking the worker."), call("u1")]
    usage = {"calls": 1, "inputTokens": 7, "outputTokens": 3}
    await drain.turn(message, 1, settles=(message,), assistant=said, stopReason="tool_use", usage=usage)
    await drain.lands(message, 1, phase="Executing", openToolCalls=[{**OPEN, "delegation": "call-d"}])
    response = await drain.responds(message, "u1", "built\x1b[31m")
    await drain.claim(message)
    told = [result("u1", "built\x1b[31m")]
    await drain.turn(message, 2, settles=(response,), user=told, assistant=[text("Done.")], stopReason="max_tokens")
    await drain.lands(message, 2)
    ended_so = await chat
    assert (ended_so.code, ended_so.out) == (0, "Done.\n"), ended_so
    lines = ended_so.err.splitlines()
    expected = [
        "Asking the worker.",
        'calls delegate {"agent": "worker"}',
        "turn 1: Answered 7 tokens in, 3 out",
        "delegate answered: built [31m",
        "turn 2: Answered (max_tokens)",
    ]
    assert [line for line in lines if line in expected] == expected, lines
    assert "\x1b" not in ended_so.err


async def test_L14_a_permission_is_told_with_what_to_do(namespace: str, talk: Talk, drain: PlayedDrain) -> None:
    """The round waits for people: the line to answer with."""
    async with talk("go") as chat:
        message = await drain.message()
        await drain.turn(message, 1, settles=(message,), assistant=[call("u1")])
        asks = [{**OPEN, "permissionRequest": "call-p", "delegation": "call-p"}]
        await drain.lands(message, 1, phase="Executing", openToolCalls=asks)
        await chat.tells(f"delegate waits for permission: belay approve call-p -n {namespace}, or belay deny")
        await drain.turn(message, 2, user=[result("u1", "no", failed=True)], assistant=[text("a pity")])
        await drain.lands(message, 2)
        assert await chat.ended() == (0, "a pity\n"), chat.lines
    assert not [line for line in chat.lines if "belay why" in line]


async def test_no_answer_in_time(admin_kube: Kube, namespace: str, run: Run, drain: PlayedDrain) -> None:
    """Exit code 6; the message stays where it is."""
    said = await run("m", "hello", "--timeout", "5s")
    assert (said.code, said.out) == (6, ""), said
    assert "belay: no answer within 5s; what was said stays in session m-" in said.err
    assert len((await admin_kube.list(MESSAGES, namespace))["items"]) == 1


@pytest.mark.parametrize("outcome", ["Bounced", "Parked"])
async def test_L9_L10_what_comes_back_fails(run: Run, drain: PlayedDrain, outcome: str) -> None:
    """Exit code 1, nothing on standard output, the reason once, and where to go on."""
    chat = beside(run("m", "hello"))
    message = await drain.message()
    why = {"reason": "Overloaded", "message": "529 from the provider, five times"}
    await drain.turn(message, 1, outcome, settles=(message,), **why)
    said = await chat
    assert (said.code, said.out) == (1, ""), said
    first, last = said.err.splitlines()
    assert first == f"belay: not answered: {outcome} (Overloaded): 529 from the provider, five times"
    assert last.startswith("belay: to go on: belay chat m --session m-")


async def test_L10_L11_trouble_is_told_while_the_message_waits(talk: Talk, drain: PlayedDrain) -> None:
    """lastError, and a condition with what to do about it."""
    error = {"reason": "Unreachable", "message": "connection refused", "time": AT}
    condition = {
        "type": "AuthenticationRequired",
        "status": "True",
        "reason": "AuthenticationFailed",
        "message": "401: invalid x-api-key",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    async with talk("hello") as chat:
        message = await drain.message()
        await drain.stands(message, phase="Idle", lastError=error)
        await drain.stands(message, conditions=[condition], failedRounds=1)
        await chat.tells("no answer (Unreachable): connection refused")
        await chat.tells(
            "AuthenticationRequired (AuthenticationFailed): 401: invalid x-api-key; to do: put a valid key into the "
            "Secret that spec.model.apiKeySecretRef of agent m names; it goes on by itself within a minute"
        )
        await drain.answers(message, 1, "yes")
        assert await chat.ended() == (0, "yes\n"), chat.lines


async def test_json_prints_turns(run: Run, drain: PlayedDrain) -> None:
    """`-o json`: each turn as a line of JSON, and no words beside it."""
    chat = beside(run("m", "go", "-o", "json"))
    message = await drain.message()
    await drain.turn(message, 1, settles=(message,), assistant=[call("u1")])
    await drain.turn(message, 2, assistant=[text("done")])
    await drain.lands(message, 2)
    said = await chat
    turns = [json.loads(line)["spec"] for line in said.out.splitlines()]
    assert [(t["sequence"], t["assistant"][0]["type"]) for t in turns] == [(1, "ToolUse"), (2, "Text")], said


# --- Ctrl-C ---


async def test_L17_ctrl_c_interrupts_the_answer(talk: Talk, drain: PlayedDrain) -> None:
    """A fresh interruptRequest; over when the round was cut short."""
    async with talk("go") as chat:
        message = await drain.message()
        await drain.claim(message, "Once upon")
        await chat.tells("… Once upon")
        chat.ctrl_c()
        await chat.tells("interrupting; Ctrl-C once more leaves it as it is")
        assert (await drain.session(message))["spec"]["interruptRequest"].startswith("chat-")
        await drain.turn(message, 1, "Interrupted", settles=(message,), reason="Interrupted", message="as asked")
        assert await chat.ended() == (130, ""), chat.lines
    assert "belay: not answered: Interrupted (Interrupted): as asked" in chat.lines


async def test_L17_anothers_interrupt_is_a_failure(talk: Talk, drain: PlayedDrain) -> None:
    """Exit code 1: nobody pressed anything here."""
    async with talk("go") as chat:
        message = await drain.message()
        await drain.turn(message, 1, "Interrupted", settles=(message,), reason="Interrupted")
        assert await chat.ended() == (1, ""), chat.lines


async def test_L17_a_second_ctrl_c_leaves(talk: Talk, drain: PlayedDrain) -> None:
    """Also when nobody acts on the interrupt."""
    async with talk("go") as chat:
        await drain.claim(await drain.message())
        chat.ctrl_c()
        await chat.tells("interrupting")
        chat.ctrl_c()
        assert await chat.ended() == (130, ""), chat.lines
    assert "belay: not waited for any longer; what was said stays in session m-" in chat.lines[-2]
    assert chat.lines[-1].startswith("belay: to go on: belay chat m --session m-")


async def test_ctrl_c_takes_an_unread_message_back(
    admin_kube: Kube, namespace: str, talk: Talk, drain: PlayedDrain
) -> None:
    """Nobody works on it: it is deleted, and nothing is interrupted."""
    async with talk("go") as chat:
        message = await drain.message()
        chat.ctrl_c()
        assert await chat.ended() == (130, ""), chat.lines
    assert "belay: not answered: taken back before it was read" in chat.lines
    assert (await admin_kube.list(MESSAGES, namespace))["items"] == []
    assert "interruptRequest" not in (await drain.session(message))["spec"]


# --- a conversation ---


async def test_L8_a_line_each_in_one_session(admin_kube: Kube, namespace: str, run: Run, drain: PlayedDrain) -> None:
    """Without MESSAGE: a message a line, all in one session, which the first opens; empty lines say nothing."""
    chat = beside(run("m", stdin=b"one\n\n-\n"))
    first = await drain.message()
    assert first["spec"]["content"] == "one"
    await drain.answers(first, 1, "ONE")
    second = await drain.message()
    assert (second["spec"]["content"], second["spec"]["sessionRef"]) == ("-", first["spec"]["sessionRef"])
    await drain.answers(second, 2, "DASH")
    said = await chat
    assert (said.code, said.out) == (0, "ONE\nDASH\n"), said
    assert said.err.splitlines()[:-1] == ["turn 1: Answered", "turn 2: Answered"]
    assert len((await admin_kube.list(SESSIONS, namespace))["items"]) == 1


async def test_a_conversation_goes_on(admin_kube: Kube, namespace: str, run: Run, drain: PlayedDrain) -> None:
    """--session: neither old turns, even one that the session does not count yet, nor old trouble are told again."""
    before = beside(run("m", "one"))
    first = await drain.message()
    await drain.turn(first, 1, settles=(first,), assistant=[text("ONE")])
    assert (await before).code == 0
    await drain.stands(first, lastError={"reason": "R", "message": "long ago", "time": AT})
    name = first["spec"]["sessionRef"]["name"]
    chat = beside(run("m", "two", "--session", name))
    await drain.answers(await drain.message(), 2, "TWO")
    said = await chat
    assert (said.code, said.out) == (0, "TWO\n"), said
    assert said.err.splitlines()[:-1] == ["turn 2: Answered"]
    assert len((await admin_kube.list(SESSIONS, namespace))["items"]) == 1


async def test_nothing_said_opens_nothing(admin_kube: Kube, namespace: str, run: Run, drain: PlayedDrain) -> None:
    """Ctrl-D at once."""
    assert await run("m") == Said(0, "", "")
    assert (await admin_kube.list(SESSIONS, namespace))["items"] == []


# --- what can't be ---


@pytest.mark.parametrize("gone", ["session", "message"])
async def test_L1_what_is_deleted_ends_it(
    admin_kube: Kube, namespace: str, run: Run, drain: PlayedDrain, gone: str
) -> None:
    """Exit code 4, and which of them it was."""
    chat = beside(run("m", "hello"))
    message = await drain.message()
    collection = {"session": SESSIONS, "message": MESSAGES}[gone]
    meta = (message if gone == "message" else await drain.session(message))["metadata"]
    await admin_kube.delete(collection, namespace, meta["name"])
    said = await chat
    words = {"session": "was deleted", "message": "was taken out of the mailbox before it was read"}
    assert (said.code, said.out, words[gone] in said.err) == (4, "", True), said


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("none", "hi"), 1, "none does not exist; `kubectl get agents -n "),
        (("channel", "hi"), 1, "is of runtime Channel and has no mailbox; hand it the task: belay delegate channel"),
        (("m", "hi", "--session", "none"), 1, "none does not exist; `kubectl get bsess -n "),
        (("m", "hi", "--session", "of-other"), 1, "is of agent other: belay chat other --session of-other"),
        (("m", " "), 2, "empty"),
        (("m", "hi", "--session", "a/b"), 2, "not a name"),
        (("a/b", "hi"), 2, "--namespace"),
        (("m", "hi", "--timeout", "soon"), 2, "90s"),
        (("m", "hi", "-o", "yaml"), 2, "--output"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_bad_input(
    admin_kube: Kube, namespace: str, run: Run, drain: PlayedDrain, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """One line that helps; nothing is sent."""
    await admin_kube.create(AGENTS, namespace, agent("channel"))
    other = {"apiVersion": "belay.dev/v1alpha1", "kind": "AgentSession", "metadata": {"name": "of-other"}}
    await admin_kube.create(SESSIONS, namespace, {**other, "spec": {"agentRef": {"name": "other"}}})
    said = await run(*arguments)
    assert said.is_one_line(), said
    assert (said.code, says in said.err) == (code, True), said
    assert (await admin_kube.list(MESSAGES, namespace))["items"] == []


async def test_the_roles_that_people_have_are_enough(
    admin_kube: Kube, installed: ControlPlane, namespace: str, run: Run, drain: PlayedDrain, tmp_path: Path
) -> None:
    """With view one is refused in a line; with view and edit one talks, interrupts, and is named by nobody else."""
    await admin_kube.create(SERVICE_ACCOUNTS, namespace, {"metadata": {"name": "pat"}})
    user = username(namespace, "pat")
    await bind(admin_kube, namespace, user, "ClusterRole", "belay-view")
    file = str(installed.service_account_kubeconfig(namespace, "pat", tmp_path / "kubeconfig"))

    async def refused() -> bool:
        said = await run("m", "hello", KUBECONFIG=file)
        assert said.is_one_line(), said
        return "not allowed" in said.err and "agentsessions" in said.err

    await eventually(refused)
    await bind(admin_kube, namespace, user, "ClusterRole", "belay-edit")

    async def talks() -> Said | None:
        chat = beside(run("m", "hello", KUBECONFIG=file))
        found = beside_message(drain)
        await asyncio.wait({chat, found}, return_when=asyncio.FIRST_COMPLETED)
        if not found.done():
            found.cancel()
            return None
        await drain.answers(found.result(), 1, "hi")
        return await chat

    said = await eventually(talks)
    assert (said.code, said.out) == (0, "hi\n"), said


def beside_message(drain: PlayedDrain) -> "asyncio.Task[Json]":
    """The next message, waited for beside the test."""
    return asyncio.create_task(drain.message())
