"""Fixtures of the operator's tests."""

from collections.abc import AsyncIterator

import pytest

from belay_kube.client import MESSAGES, SESSIONS, TURNS, Kube

from .mail import Mail
from .played import PlayedGateway
from .world import World


@pytest.fixture
async def stopped_world(
    admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube, namespace: str
) -> AsyncIterator[World]:
    """A namespace and a clock; the test starts the operator itself."""
    made = World(admin_kube, operator_kube, gateway_kube, namespace)
    yield made
    await made.stop()
    await made.clear()
    for gateway in made.gateways:
        await gateway.shut_down()


@pytest.fixture
async def world(stopped_world: World, gateway: PlayedGateway) -> World:
    """A running operator, and one gateway with a fresh Lease."""
    await stopped_world.start()
    return stopped_world


@pytest.fixture
def gateway(stopped_world: World) -> PlayedGateway:
    """The gateway of the test."""
    return stopped_world.gateway()


@pytest.fixture
async def mail(stopped_world: World) -> AsyncIterator[Mail]:
    """A Model agent `m`, and a way to its mailboxes."""
    made = Mail(stopped_world.admin, stopped_world.namespace)
    await made.agent()
    yield made
    for collection in (MESSAGES, SESSIONS, TURNS):
        await stopped_world.admin.delete(collection, stopped_world.namespace, "")
