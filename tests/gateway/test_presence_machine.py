"""P8: sockets come, go, take over and say goodbye, gateways end and start, in every order hypothesis finds; at the end
an agent is routable exactly if a socket stands behind a live row.

The gateways run in the loop of the tests, the machine in a thread beside it. Steps are sent without waiting for one
another, so they meet in the gateways as they would. Only at the end of a run everything is waited for.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from belay_api.names import Ref
from belay_kube.client import SUBSCRIPTIONS, Json, Kube
from belay_kube.clock import SystemClock
from gateway.peer import Peer, cut, identifier
from gateway.stage import Running, Stage, running
from waiting import eventually

T = TypeVar("T")
GATEWAYS = 2
SESSIONS = ("s", "t")
EXAMPLES = 15
STEPS = 12


class Play:
    """One run: an agent, two gateways, and every socket that was ever opened."""

    def __init__(self, stage: Stage, kube: Kube, token: str, agent: str, name: str) -> None:
        self._stage = stage
        self._kube = kube
        self._token = token
        self._agent = agent
        self._name = name
        self._held = AsyncExitStack()
        self._places: list[tuple[AsyncExitStack, Running]] = []
        self._peers: list[tuple[int, str, Peer]] = []

    async def begin(self) -> None:
        """Start the gateways."""
        self._places = [await self._started() for _ in range(GATEWAYS)]

    async def _started(self) -> tuple[AsyncExitStack, Running]:
        held = AsyncExitStack()
        self._held.push_async_exit(held)
        return held, await held.enter_async_context(running(self._kube, SystemClock()))

    async def subscribe(self, place: int, session: str) -> None:
        """A new socket, which takes the session over if another one has it."""
        peer = await self._places[place][1].dialer.dial(self._token)
        self._peers.append((place, session, peer))
        await peer.send(command="subscribe", identifier=self._text(session))

    def _text(self, session: str) -> str:
        return identifier(agent_id=self._agent, session_id=session)

    def _open(self, number: int) -> tuple[str, Peer] | None:
        there = [(session, peer) for _, session, peer in self._peers if not peer.ws.closed]
        return there[number % len(there)] if there else None

    async def close(self, number: int, how: str) -> None:
        """One of the open sockets ends in one of four ways."""
        found = self._open(number)
        if not found:
            return
        session, peer = found
        with suppress(ConnectionError):  # it was cut a moment ago, and doesn't know yet
            await self._end(session, peer, how)

    async def _end(self, session: str, peer: Peer, how: str) -> None:
        match how:
            case "close":
                await peer.ws.close()
            case "cut":
                cut(peer)
            case "goodbye":
                await peer.start(self._text(session), "goodbye")
            case "unsubscribe":
                await peer.send(command="unsubscribe", identifier=self._text(session))

    async def restart(self, place: int) -> None:
        """A gateway ends as at SIGTERM, and another one takes its place."""
        held, gateway = self._places[place]
        await gateway.stop()
        await held.aclose()
        self._peers = [(where, session, peer) for where, session, peer in self._peers if where != place]
        self._places[place] = await self._started()

    async def end(self) -> None:
        """Wait until all is quiet, and look."""
        try:
            for _, _, peer in self._peers:
                await _answered(peer)
            await eventually(self._agreed)
        finally:
            for place, _ in self._places:
                await place.aclose()
            await self._held.aclose()

    async def _agreed(self) -> bool:
        """Quiet; one row a session; a row is Live under the token of the one socket behind it, or there is neither."""
        places = [place for _, place in self._places]
        if any(len(place.gateway.tasks) for place in places):
            return False
        rows = [row for row in await self._rows() if row["spec"]["agentRef"]["name"] == self._name]
        live = {row["spec"]["sessionId"]: row["status"]["token"] for row in rows if _is_live(row)}
        found = [
            (session, attached.token)
            for session in SESSIONS
            for place in places
            if (attached := place.gateway.sockets.session(Ref(self._stage.namespace, self._name), session))
        ]
        assert len({row["spec"]["sessionId"] for row in rows}) == len(rows)
        assert len({row["status"]["token"] for row in rows}) == len(rows)
        return len(found) == len(live) and dict(found) == live

    async def _rows(self) -> list[Json]:
        items: list[Json] = (await self._stage.admin.list(SUBSCRIPTIONS, self._stage.namespace))["items"]
        return items


def _is_live(row: Json) -> bool:
    return bool((row.get("status") or {}).get("phase") == "Live")


async def _answered(peer: Peer) -> None:
    """Wait until everything it sent was carried out, or its socket is closed."""
    with suppress(ConnectionError):
        await peer.send(command="unsubscribe", identifier="probe")
    await eventually(lambda: peer.ws.closed or [f for f in peer.frames if f.get("identifier") == "probe"])


async def test_P8_routable_exactly_if_a_live_row_exists(stage: Stage, gateway_kube: Kube) -> None:
    """In every order of subscribes, takeovers, ends of sockets and ends of gateways."""
    token, loop, numbers = await stage.person("alice"), asyncio.get_running_loop(), iter(range(1000))

    def now(step: Coroutine[Any, Any, T]) -> T:
        """Do a step in the loop of the tests, from the machine's thread."""
        return asyncio.run_coroutine_threadsafe(step, loop).result(60)

    class Machine(RuleBasedStateMachine):
        """What may happen."""

        def __init__(self) -> None:
            super().__init__()
            name = f"a{next(numbers)}"
            self.play = Play(stage, gateway_kube, token, now(stage.agent(name, "alice")), name)
            now(self.play.begin())

        @rule(place=st.integers(0, GATEWAYS - 1), session=st.sampled_from(SESSIONS))
        def subscribe(self, place: int, session: str) -> None:
            """A socket comes."""
            now(self.play.subscribe(place, session))

        @rule(number=st.integers(0, 7), how=st.sampled_from(["close", "cut", "goodbye", "unsubscribe"]))
        def close(self, number: int, how: str) -> None:
            """A socket goes."""
            now(self.play.close(number, how))

        @rule(place=st.integers(0, GATEWAYS - 1))
        def restart(self, place: int) -> None:
            """A gateway is replaced."""
            now(self.play.restart(place))

        def teardown(self) -> None:
            """What must be so in the end."""
            now(self.play.end())

    bounds = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, Machine, settings=bounds)
