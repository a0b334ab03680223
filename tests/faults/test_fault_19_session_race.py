"""Fault 19: two sockets of one session race, 200 times, each on a gateway of its own."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from belay_kube.client import SUBSCRIPTIONS, Kube
from belay_kube.clock import SystemClock
from gateway.peer import Peer, cut
from gateway.stage import Running, Stage, running
from waiting import eventually

RACES = 200


@pytest.fixture
async def gateways(gateway_kube: Kube) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways."""
    async with running(gateway_kube, SystemClock()) as one, running(gateway_kube, SystemClock()) as two:
        yield one, two


async def _race(stage: Stage, gateways: tuple[Running, Running], token: str, agent: str, holder: Peer | None) -> Peer:
    """Both subscribe at once; returns the one that is left, after all others were told."""
    rivals = [await place.dialer.dial(token) for place in gateways]
    attached = await asyncio.gather(*(rival.subscribe(agent, "s") for rival in rivals))
    await eventually(lambda: sum(rival.ws.closed for rival in rivals) == 1)
    (winner,) = (rival for rival in rivals if not rival.ws.closed)
    for loser in (peer for peer in (*rivals, holder) if peer and peer is not winner):
        frame = await loser.disconnected()
        assert (frame["reason"], frame["reconnect"]) == ("replaced", False)
    row = await stage.row_is("a", "s", "Live")
    assert row["token"] == attached[rivals.index(winner)]["token"]
    return winner


async def test_P5_fault_19_one_holder_each_time_and_the_other_is_told(
    stage: Stage, gateways: tuple[Running, Running]
) -> None:
    """The row's token is the winner's, everybody else hears `replaced`, and there is one row all along."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    holder = None
    for _ in range(RACES):
        holder = await _race(stage, gateways, token, agent, holder)
    assert holder
    assert len((await stage.admin.list(SUBSCRIPTIONS, stage.namespace))["items"]) == 1
    cut(holder)
    await stage.row_is("a", "s", "Disconnected", "ConnectionLost")
