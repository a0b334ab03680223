"""Watches beside requests: however many there are, they take no connection from those."""

import asyncio
from contextlib import AsyncExitStack

from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, connect

MORE_THAN_POOLED = 80


async def test_many_watches_keep_no_request_waiting(installed: ControlPlane) -> None:
    """More watches than a client has connections for requests, and a request is answered all the same."""
    kube = await connect(installed.kubeconfig)
    async with AsyncExitStack() as held:
        for _ in range(MORE_THAN_POOLED):
            await held.enter_async_context(kube.watch(AGENTS, "default", {"timeoutSeconds": "60"}))
        async with asyncio.timeout(20):
            assert (await kube.list(AGENTS, "default"))["items"] == []
    await kube.close()
