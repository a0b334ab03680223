"""What an agent asks and hears beside its work: permissions, broadcasts, delegations, and giving work back."""

import asyncio
from typing import Any

import pytest

from belay_api.actions import Delegate, Release, ReplayPermissions, RequestPermission, Resolved, Resume
from belay_api.messages import Ack, Broadcast, ErrorCode, PermissionDecision
from belay_api.permissionrequest import Behavior
from belay_client import ChannelEnded, ChannelError, Refused, UsageError, WorkOver
from client.cable_server import CableServer, refusing, silent
from client.conftest import Open
from client.test_channel import held


def decision(request_id: str = "abcde", name: str = "p-1", behavior: Behavior = Behavior.ALLOW) -> PermissionDecision:
    """What was decided on a request."""
    return PermissionDecision(request_id=request_id, name=name, behavior=behavior, decided_by="ann")


def naming(*names: str) -> Any:
    """An answer `ack` that names one PermissionRequest, or Delegation, after the other."""
    left = list(names)
    return lambda _, action: Ack(ref=action.ref, name=left.pop(0))


async def test_permission_from_question_to_decision(server: CableServer, channel: Open) -> None:
    """The request says what is asked and for which work; the decision is given out."""
    server.answers[RequestPermission] = naming("p-1")
    async with channel() as attached:
        name = await attached.request_permission("abcde", "Bash", description="list", delegation="d")
        socket = await server.socket()
        asked = socket.of(RequestPermission)[0]
        assert (name, asked.request_id, asked.tool, asked.delegation) == ("p-1", "abcde", "Bash", "d")
        await socket.tell(decision())
        assert await attached.next_decision() == decision()


async def test_decision_of_another_request_with_the_same_id_is_passed_over(server: CableServer, channel: Open) -> None:
    """Ids repeat: an old Allow must not answer a new question."""
    server.answers[RequestPermission] = naming("old", "new")
    async with channel() as attached:
        await attached.request_permission("abcde", "Bash", input_preview="ls")
        await attached.request_permission("abcde", "Bash", input_preview="rm -rf /")
        socket = await server.socket()
        await socket.tell(decision(name="old"))
        await socket.tell(decision(name="new", behavior=Behavior.DENY))
        assert (await attached.next_decision()).behavior is Behavior.DENY


async def test_decision_that_overtakes_the_name(server: CableServer, channel: Open) -> None:
    """It waits until the answer says which request it is for."""
    server.answers[RequestPermission] = silent
    async with channel() as attached:
        asking = asyncio.create_task(attached.request_permission("abcde", "Bash"))
        socket = await server.socket()
        asked = await socket.wait_for(RequestPermission)
        await socket.tell(decision(name="other"))
        await socket.tell(decision(name="p-1"))
        await socket.tell(Ack(ref=asked.ref, name="p-1"))
        await asking
        assert (await attached.next_decision()).name == "p-1"


async def test_C5_open_questions_are_replayed_after_each_connect(server: CableServer, channel: Open) -> None:
    """What is undecided is asked for again, after `resume`; what was decided, or resolved, is not."""
    server.answers[RequestPermission] = naming("one", "two", "three")
    async with channel() as attached:
        for request_id in ("aaaaa", "bbbbb", "ccccc"):
            await attached.request_permission(request_id, "Bash")
        first = await server.socket()
        await first.tell(decision("bbbbb", "two"))
        await attached.next_decision()
        await attached.resolved("ccccc")
        assert [r.request_id for r in first.of(Resolved)] == ["ccccc"]
        assert first.of(ReplayPermissions) == []
        await first.drop()
        second = await server.socket(2)
        assert (await second.wait_for(ReplayPermissions)).request_ids == ["aaaaa"]
        assert [type(action).__name__ for action in second.actions] == ["Resume", "ReplayPermissions"]
        await second.tell(decision("aaaaa", "one"))
        assert (await attached.next_decision()).request_id == "aaaaa"


async def test_C4_repeated_decision_is_given_out_once(server: CableServer, channel: Open) -> None:
    """The broadcast and the replay may both arrive."""
    server.answers[RequestPermission] = naming("p-1", "p-2")
    async with channel() as attached:
        await attached.request_permission("abcde", "Bash")
        await attached.request_permission("fghij", "Bash")
        socket = await server.socket()
        for told in (decision(), decision(), decision("fghij", "p-2")):
            await socket.tell(told)
        assert [(await attached.next_decision()).request_id for _ in range(2)] == ["abcde", "fghij"]


async def test_C5_ids_of_an_earlier_process_can_be_replayed(server: CableServer, channel: Open) -> None:
    """Whoever kept the ids gets the decisions, whatever the requests were named."""
    async with channel() as attached:
        await attached.replay_permissions(["aaaaa", "bbbbb", "aaaaa"])
        socket = await server.socket()
        assert socket.of(ReplayPermissions)[0].request_ids == ["aaaaa", "bbbbb"]
        await socket.tell(decision("bbbbb", "whatever"))
        assert (await attached.next_decision()).name == "whatever"


@pytest.mark.parametrize(
    "ids", [[], [str(n) for n in range(101)], ["not an id"]], ids=["none", "too many", "malformed"]
)
async def test_ids_that_cannot_be_replayed(server: CableServer, channel: Open, ids: list[str]) -> None:
    """Refused before anything is sent."""
    async with channel() as attached:
        with pytest.raises(UsageError):
            await attached.replay_permissions(ids)
        assert (await server.socket()).of(ReplayPermissions) == []


async def test_refused_question_is_not_waited_for(server: CableServer, channel: Open) -> None:
    """The refusal is raised, and nothing is replayed."""
    server.answers[RequestPermission] = refusing(ErrorCode.FORBIDDEN)
    async with channel() as attached:
        with pytest.raises(Refused):
            await attached.request_permission("abcde", "Bash")
        await (await server.socket()).drop()
        again = await server.socket(2)
        await attached.resolved("other")  # answered after a replay would have come
        assert again.of(ReplayPermissions) == []


async def test_C3_broadcasts_are_given_out_in_order(server: CableServer, channel: Open) -> None:
    """As they came, until the channel is left."""
    attached = channel()

    async def bodies() -> list[Any]:
        return [told.body async for told in attached.broadcasts()]

    async with attached:
        listening = asyncio.create_task(bodies())
        socket = await server.socket()
        for body in ("one", {"two": 2}):
            await socket.tell(Broadcast(id="b", sender="ann", agent="a", body=body))
        await attached.resolved("abcde")  # answered after both were read
    assert await listening == ["one", {"two": 2}]


async def test_waits_end_with_the_channel(server: CableServer, channel: Open) -> None:
    """Whoever waits for a decision or a broadcast is told why none will come."""
    async with channel() as attached:
        waits = [asyncio.create_task(attached.next_decision()), asyncio.create_task(attached.next_broadcast())]
        await (await server.socket()).raw(type="disconnect", reason="agent_deleted", reconnect=False)
        for wait in waits:
            with pytest.raises(ChannelEnded):
                await wait


async def test_delegating_returns_the_name_and_makes_one(server: CableServer, channel: Open) -> None:
    """An answer that was lost is asked for again with the same key (D5)."""
    server.answers[Delegate] = silent
    async with channel() as attached:
        asking = asyncio.create_task(attached.delegate("writer", "write", inputs={"k": "v"}, parent="d"))
        socket = await server.socket()
        sent = await socket.wait_for(Delegate)
        server.answers[Delegate] = naming("d-1")
        await socket.drop()
        assert await asking == "d-1"
        again = await (await server.socket(2)).wait_for(Delegate)
        assert again == sent
        assert again.idempotency_key
        assert (again.agent, again.prompt, again.inputs, again.parent) == ("writer", "write", {"k": "v"}, "d")


async def test_delegating_to_what_cannot_be(server: CableServer, channel: Open) -> None:
    """The field is named, and nothing is sent; a gateway that names nothing is an error."""
    async with channel() as attached:
        with pytest.raises(UsageError, match="agent"):
            await attached.delegate("No Such Name", "write")
        with pytest.raises(ChannelError, match="Delegation"):
            await attached.delegate("writer", "write")


async def test_released_work_is_held_no_more(server: CableServer, channel: Open) -> None:
    """Given back with a reason; it ends here, also when the server refuses."""
    async with channel() as attached:
        work = await held(server, attached, "one")
        await work.release("too much to do")
        with pytest.raises(WorkOver):
            await work.progress(1)
        other = await held(server, attached, "two")
        server.answers[Release] = refusing(ErrorCode.FORBIDDEN)
        with pytest.raises(Refused):
            await other.release()
        socket = await server.socket()
        assert [(r.name, r.message) for r in socket.of(Release)] == [("one", "too much to do"), ("two", None)]
        await socket.drop()
        assert (await (await server.socket(2)).wait_for(Resume)).held == []
