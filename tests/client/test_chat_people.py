"""`belay chat` on a real API server among others: programs that pipe lines into it, people in the same session."""

import asyncio
import os
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from belay_api.meta import GROUP
from belay_kube.client import MESSAGES, SESSIONS, Json, Kube
from client.chat_process import Run, Talk, beside
from client.played_drain import CLAIM, PlayedDrain, text

# --- the exit code of several lines ---


async def test_piped_lines_end_with_their_worst_code(
    admin_kube: Kube, namespace: str, run: Run, drain: PlayedDrain
) -> None:
    """Whatever comes after it."""
    chat = beside(run("m", stdin=b"one\ntwo\nthree\n"))
    await admin_kube.delete(MESSAGES, namespace, (await drain.message())["metadata"]["name"])
    second = await drain.message("two")
    await drain.turn(second, 1, "Bounced", settles=(second,))
    await drain.lands(second, 1)
    await drain.answers(await drain.message("three"), 2, "THREE")
    said = await chat
    assert (said.code, said.out) == (4, "THREE\n"), said


async def test_a_line_that_can_t_be_sent_counts_as_usage(run: Run, drain: PlayedDrain) -> None:
    """As the same text as MESSAGE."""
    said = await run("m", stdin=b"x" * 70000 + b"\n")
    assert (said.code, said.out) == (2, ""), said


async def test_a_person_has_seen_what_came_of_each(talk: Talk, drain: PlayedDrain) -> None:
    """At a terminal Ctrl-D ends with 0."""
    ours, terminal = os.openpty()
    try:
        async with talk(stdin=terminal) as chat:
            os.write(ours, b"one\n")
            message = await drain.message()
            await drain.turn(message, 1, "Bounced", settles=(message,))
            await chat.tells("not answered: Bounced")
            os.write(ours, b"\x04")
            assert await chat.ended() == (0, ""), chat.lines
    finally:
        os.close(ours)
        os.close(terminal)


# --- --timeout ---


@pytest.fixture
async def mute(tmp_path: Path) -> AsyncIterator[str]:
    """The kubeconfig of an address at which nobody ever answers."""
    talking: list[StreamWriter] = []

    async def accept(_: StreamReader, writer: StreamWriter) -> None:
        talking.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    file = tmp_path / "mute"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
    yield str(file)
    for writer in talking:
        writer.close()
    server.close()


async def test_the_timeout_is_for_all_that_a_message_takes(run: Run, mute: str) -> None:
    """Also for what comes before it is sent; then nothing is said of where it stays."""
    said = await run("m", "hello", "--timeout", "1s", KUBECONFIG=mute)
    assert (said.code, said.out) == (6, ""), said
    assert said.err == "belay: the API server did not confirm the message within 1s\n"


# --- Ctrl-C in a session that others talk in ---


async def ask(kube: Kube, namespace: str, words: str) -> Json:
    """Somebody else's message in session `s` of agent `m`, which it opens."""
    version = f"{GROUP}/v1alpha1"
    session = {"apiVersion": version, "kind": "AgentSession", "metadata": {"name": "s"}}
    await kube.create(SESSIONS, namespace, {**session, "spec": {"agentRef": {"name": "m"}}})
    message = {"apiVersion": version, "kind": "PendingMessage", "metadata": {"generateName": "pat-"}}
    return await kube.create(MESSAGES, namespace, {**message, "spec": {"sessionRef": {"name": "s"}, "content": words}})


async def contents(kube: Kube, namespace: str) -> list[str]:
    """What is said in the mailbox."""
    return [message["spec"]["content"] for message in (await kube.list(MESSAGES, namespace))["items"]]


async def test_L8_L17_ctrl_c_leaves_anothers_answer_alone(
    admin_kube: Kube, namespace: str, talk: Talk, drain: PlayedDrain
) -> None:
    """A message behind it was not read, so it is taken back."""
    anothers = await ask(admin_kube, namespace, "pat's")
    await drain.claim(anothers)
    async with talk("mine", "--session", "s") as chat:
        await drain.message("mine")
        chat.ctrl_c()
        await chat.tells("not answered: taken back before it was read")
        assert await chat.ended() == (130, ""), chat.lines
    assert await contents(admin_kube, namespace) == ["pat's"]
    assert "interruptRequest" not in (await drain.session(anothers))["spec"]


async def test_L17_ctrl_c_leaves_an_answer_alone_that_had_begun(
    admin_kube: Kube, namespace: str, talk: Talk, drain: PlayedDrain
) -> None:
    """It is about tool responses, say, whose question was read long ago."""
    anothers = await ask(admin_kube, namespace, "pat's")
    await drain.turn(anothers, 1, settles=(anothers,), assistant=[text("wait")])
    await drain.claim(anothers, "Once upon")
    async with talk("mine", "--session", "s") as chat:
        await drain.message("mine")
        chat.ctrl_c()
        await chat.tells("not answered: taken back before it was read")
        assert await chat.ended() == (130, ""), chat.lines
    assert await contents(admin_kube, namespace) == []
    assert "interruptRequest" not in (await drain.session(anothers))["spec"]


async def test_L17_once_the_other_is_answered_ctrl_c_interrupts(
    admin_kube: Kube, namespace: str, talk: Talk, drain: PlayedDrain
) -> None:
    """Then the round is about one's own message."""
    anothers = await ask(admin_kube, namespace, "pat's")
    await drain.claim(anothers, "Once upon")
    async with talk("mine", "--session", "s") as chat:
        mine = await drain.message("mine")
        await drain.turn(anothers, 1, settles=(anothers,), assistant=[text("pat!")])
        await drain.lands(anothers, 1)
        await drain.stands(mine, phase="Awaiting", claim={**CLAIM, "token": "next"})
        await chat.tells("pat!")
        chat.ctrl_c()
        await chat.tells("interrupting")
        assert (await drain.session(mine))["spec"]["interruptRequest"].startswith("chat-")
        assert await contents(admin_kube, namespace) == ["mine"]
        chat.ctrl_c()
        assert await chat.ended() == (130, "")
