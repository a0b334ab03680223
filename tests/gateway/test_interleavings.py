"""P8: whatever the order of subscribes and closes, at the end a row is Live exactly if a socket stands behind it."""

import asyncio
from itertools import permutations

import pytest

from belay_api.names import Ref
from gateway.peer import Peer, cut, identifier
from gateway.stage import Running, Stage
from waiting import eventually

# Two sockets of one session, and one of a sibling: each step is (socket, what it does).
STEPS = (("one", "subscribe"), ("two", "subscribe"), ("one", "close"), ("sibling", "subscribe"))
ORDERS = list(permutations(STEPS))


async def _live_token(stage: Stage, session: str) -> list[str]:
    status = ((await stage.row("a", session)) or {}).get("status") or {}
    return [status["token"]] if status.get("phase") == "Live" else []


async def _agreed(stage: Stage, places: list[Running], open_peers: list[Peer]) -> bool:
    """Whether each row is Live under the token of the one socket behind it, and nothing is under way any more."""
    busy = any(len(place.gateway.tasks) for place in places)
    if busy or sum(len(list(place.gateway.endpoint)) for place in places) != len(
        [p for p in open_peers if not p.ws.closed]
    ):
        return False
    for session in ("s", "other"):
        found = (place.gateway.sockets.session(Ref(stage.namespace, "a"), session) for place in places)
        if [attached.token for attached in found if attached] != await _live_token(stage, session):
            return False
    return True


async def _answered(peer: Peer) -> None:
    """Wait until everything it sent was carried out, or its socket is closed."""
    if not peer.ws.closed:
        await peer.send(command="unsubscribe", identifier="probe")
    await eventually(lambda: peer.ws.closed or [f for f in peer.frames if f.get("identifier") == "probe"])


async def _step(peers: dict[str, Peer], agent: str, step: tuple[str, str]) -> None:
    name, what = step
    peer = peers[name]
    if what == "close":
        await peer.ws.close()
    elif not peer.ws.closed:
        session = "other" if name == "sibling" else "s"
        await peer.send(command="subscribe", identifier=identifier(agent_id=agent, session_id=session))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(f"{name[0]}{what[0]}" for name, what in order))
async def test_P8_routable_iff_a_live_row_exists(
    stage: Stage, gateway: Running, order: tuple[tuple[str, str], ...]
) -> None:
    """Every order of the steps, sent without waiting for one another."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peers = {name: await gateway.dialer.dial(token) for name in ("one", "two", "sibling")}
    for step in order:
        await _step(peers, agent, step)
    await asyncio.gather(*(_answered(peer) for peer in peers.values()))
    await eventually(lambda: _agreed(stage, [gateway], list(peers.values())))


@pytest.mark.parametrize(
    "order", ORDERS[::5], ids=lambda order: "-".join(f"{name[0]}{what[0]}" for name, what in order)
)
async def test_P8_across_gateways(
    stage: Stage, gateway: Running, other_gateway: Running, order: tuple[tuple[str, str], ...]
) -> None:
    """The same with the two sockets on different gateways: the API server is the arbiter."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peers = {
        "one": await gateway.dialer.dial(token),
        "two": await other_gateway.dialer.dial(token),
        "sibling": await gateway.dialer.dial(token),
    }
    await asyncio.gather(*(_step(peers, agent, step) for step in order))
    await asyncio.gather(*(_answered(peer) for peer in peers.values()))
    await eventually(lambda: _agreed(stage, [gateway, other_gateway], list(peers.values())))


async def test_P5_two_sockets_of_one_session_race(stage: Stage, gateway: Running, other_gateway: Running) -> None:
    """Many races: one holder each time, and the other is told that it was replaced."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    holder = await gateway.dialer.dial(token)
    await holder.subscribe(agent, "s")
    for _ in range(10):
        rivals = [await place.dialer.dial(token) for place in (gateway, other_gateway)]
        await asyncio.gather(*(rival.subscribe(agent, "s") for rival in rivals))
        assert (await holder.disconnected())["reason"] == "replaced"
        await eventually(lambda rivals=rivals: sum(rival.ws.closed for rival in rivals) == 1)  # type: ignore[misc]
        (holder,) = (rival for rival in rivals if not rival.ws.closed)
    cut(holder)
    await stage.row_is("a", "s", "Disconnected", "ConnectionLost")
