"""Fixtures of the gateway's tests: the gateway runs with its own ServiceAccount, the test plays the operator."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import Kube
from belay_kube.clock import FakeClock, SystemClock
from gateway.stage import Running, Stage, running
from natsserver import NatsServer, nats_server


@pytest.fixture
def stage(namespace: str, installed: ControlPlane, admin_kube: Kube, operator_kube: Kube) -> Stage:
    """A namespace of the test's own to play in."""
    return Stage(namespace, installed, admin_kube, operator_kube)


@pytest.fixture
async def gateway(gateway_kube: Kube) -> AsyncIterator[Running]:
    """A gateway whose time passes."""
    async with running(gateway_kube, SystemClock()) as started:
        yield started


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A NATS server of the test's own."""
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def still_gateway(gateway_kube: Kube) -> AsyncIterator[Running]:
    """A gateway whose time passes only when the test moves it."""
    async with running(gateway_kube, FakeClock()) as started:
        yield started


@pytest.fixture
async def other_gateway(gateway_kube: Kube) -> AsyncIterator[Running]:
    """A second gateway, beside the first."""
    async with running(gateway_kube, SystemClock()) as started:
        yield started
