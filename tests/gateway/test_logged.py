"""What the gateway's log says of what it handles: user, agent, session and delegation, and on no other's line."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from belay_api.names import Ref
from belay_gateway.api import agents, broadcasting, conversations, delegations, naming, permissions, sessions
from belay_gateway.api.models import Named, NamedSession
from belay_gateway.coalesce import Coalesced
from belay_gateway.lanes import Lane
from belay_kube.client import DELEGATIONS, Collection, Json, Kube
from belay_kube.clock import FakeClock, SystemClock
from belay_kube.logs import about, say_names
from gateway.caller import EVERYTHING, caller
from gateway.peer import identifier
from gateway.stage import Running, Stage, running

log = structlog.get_logger(__name__)
ONE = Named(namespace="n", name="x")
NAMES = ("user", "namespace", "agent", "session", "delegation")


class Broken(Kube):
    """The gateway's real client, of which any use of delegations fails as nobody thought of."""

    def __init__(self, inner: Kube) -> None:
        super().__init__(inner.api)

    async def get(self, path: Collection, namespace: str | None, name: str) -> Json:
        """Read, unless it is a delegation."""
        if path == DELEGATIONS:
            raise ZeroDivisionError
        return await super().get(path, namespace, name)

    async def list(self, path: Collection, namespace: str | None = None, **query: str) -> Json:
        """List, unless it is for one who asks by HTTP."""
        if path == DELEGATIONS and query.get("limit") == "1":
            raise ZeroDivisionError
        return await super().list(path, namespace, **query)

    async def patch(self, path: Collection, namespace: str | None, name: str, body: Any, **more: Any) -> Json:
        """Patch, unless it is a delegation."""
        if path == DELEGATIONS:
            raise ZeroDivisionError
        return await super().patch(path, namespace, name, body, **more)


@pytest.fixture
async def broken(gateway_kube: Kube) -> AsyncIterator[Running]:
    """A gateway that fails at delegations."""
    async with running(Broken(gateway_kube), SystemClock()) as started:
        yield started


def named(line: Mapping[str, Any]) -> tuple[object, ...]:
    """The names on a line."""
    return tuple(line.get(name) for name in NAMES)


async def test_each_action_names_its_own_session_and_delegation(stage: Stage, broken: Running) -> None:
    """Two sockets, three sessions, at the same time."""
    agent = await stage.agent("a", "alice", "bob")
    ns = stage.namespace
    users = {name: f"system:serviceaccount:{ns}:{name}" for name in ("alice", "bob")}
    attached = []
    for name, ids in (("alice", ("s1", "s2")), ("bob", ("s3",))):
        peer = await broken.dialer.dial(await stage.person(name))
        for session in ids:
            await peer.subscribe(agent, session)
            attached.append((name, peer, session))
    with capture_logs([say_names]) as logged:
        acting = (
            peer.act(identifier(agent_id=agent, session_id=session), "accept", name=f"d-{session}", attempt=1)
            for _, peer, session in attached
        )
        assert {answer["code"] for answer in await asyncio.gather(*acting)} == {"unavailable"}
    lines = [line for line in logged if line["event"] == "an action was not carried out"]
    assert sorted(map(named, lines)) == sorted(
        (users[name], ns, f"{ns}/a", session, f"{ns}/d-{session}") for name, _, session in attached
    )


async def test_a_request_is_named_by_its_path_and_caller(stage: Stage, broken: Running) -> None:
    """The next one on the same connection by its own; what its path doesn't say isn't said."""
    alice = await caller(stage, broken, "alice", *EVERYTHING)
    user, ns = f"system:serviceaccount:{stage.namespace}:alice", stage.namespace
    with capture_logs([say_names]) as logged:
        (await alice.get("delegations/d-1")).refused(500)
        (await alice.get("delegations", limit="1")).refused(500)
    lines = [named(line) for line in logged if line["event"] == "a request failed"]
    assert lines == [(user, ns, None, None, f"{ns}/d-1"), (user, None, None, None, None)]


@pytest.mark.parametrize(
    ("path", "where", "found"),
    [
        ("agents/{name}", ONE, {"agent": Ref("n", "x")}),
        ("delegations/{name}/reply", ONE, {"delegation": Ref("n", "x")}),
        ("sessions/{name}", ONE, {"session": Ref("n", "x")}),
        ("permissionrequests/{name}", ONE, {"request": Ref("n", "x")}),
        (
            "agents/{name}/sessions/{session}",
            NamedSession(namespace="n", name="x", session="s"),
            {"agent": Ref("n", "x"), "session": "s"},
        ),
    ],
    ids=["agent", "delegation", "session", "permission request", "session of an agent"],
)
def test_names_of_a_path(path: str, where: Named | NamedSession, found: dict[str, object]) -> None:
    """What is named in it, as the log calls it."""
    assert naming.named(naming.names_of(f"/namespaces/{{namespace}}/{path}"), where) == found


def test_every_operation_on_one_thing_is_named() -> None:
    """No path was forgotten."""
    parts = (agents, broadcasting, conversations, delegations, permissions, sessions)
    paths = {operation.path for part in parts for operation in part.OPERATIONS}
    one = {path for path in paths if path.count("{") > 1}
    assert one
    assert {path for path in one if len(naming.names_of(path)) != path.count("{") - 1} == set()


async def test_a_shared_answer_is_nobodys() -> None:
    """Who asks first isn't named on the lines of a request that others wait for too."""
    kept: Coalesced[str, dict[str, Any]] = Coalesced(FakeClock(), 10)

    async def ask() -> dict[str, Any]:
        with capture_logs([say_names]) as logged:
            log.warning("x")
        return dict(logged[0])

    with about(agent=Ref("n", "a"), user="alice"):
        assert (await kept.get("k", ask, lambda _: 1)).keys() == {"event", "log_level"}


async def test_what_is_queued_isn_t_named_by_who_queued_first() -> None:
    """A lane goes on with what others put in it."""
    lines: list[Mapping[str, Any]] = []

    async def handle(_: str) -> None:
        with capture_logs([say_names]) as logged:
            log.warning("x")
        lines.extend(logged)

    lane = Lane(handle)
    with about(user="alice"):
        lane.put("one")
    lane.put("two")
    await lane.finish(20)
    assert [line.keys() for line in lines] == [{"event", "log_level"}] * 2
