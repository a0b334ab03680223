"""The operator in this process, as tests/operator plays it, in a namespace whose invariants are checked at the end.

`operator` is a module of the standard library, so its tests can't be imported by that name from here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from belay_dev.controlplane import ControlPlane
from belay_kube.client import Kube
from belay_kube.errors import KubeError
from faults.invariants import NOTHING, Excused, History, broken, recorded
from waiting import eventually

if TYPE_CHECKING:
    from operator.builders import DelegationBuilder, delegation
    from operator.faulty import Faulty
    from operator.played import PlayedGateway, PlayedSession
    from operator.world import World
else:
    delegation = import_module("tests.operator.builders").delegation
    DelegationBuilder = import_module("tests.operator.builders").DelegationBuilder
    Faulty = import_module("tests.operator.faulty").Faulty
    PlayedGateway = import_module("tests.operator.played").PlayedGateway
    PlayedSession = import_module("tests.operator.played").PlayedSession
    World = import_module("tests.operator.world").World

__all__ = ["DelegationBuilder", "Faulty", "PlayedGateway", "PlayedSession", "World", "delegation", "holding", "staged"]


@asynccontextmanager
async def staged(
    plane: ControlPlane, admin: Kube, operator: Kube, gateway: Kube, namespace: str, excused: Excused = NOTHING
) -> AsyncIterator[World]:
    """A namespace for an operator that the test starts itself; its invariants are checked at the end."""
    world = World(admin, operator, gateway, namespace)
    try:
        async with recorded(admin, namespace) as history:
            yield world
            await holding(plane, world, history, excused)
    finally:
        await world.stop()
        await world.clear()
        for gateway_played in world.gateways:
            await gateway_played.shut_down()


async def holding(plane: ControlPlane, world: World, history: History, excused: Excused = NOTHING) -> None:
    """Wait until every invariant holds. Raises AssertionError with those that don't."""
    found = ["nothing was judged in time"]

    async def whole() -> bool:
        try:
            found[:] = await broken(world.admin, world.namespace, history, plane.audit_log, world.clock, excused)
        except KubeError as error:
            found[:] = [str(error)]
        return not found

    try:
        await eventually(whole)
    except AssertionError:
        raise AssertionError("\n".join(found)) from None
