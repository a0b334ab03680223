"""A Belay whose processes reach the API server through relays: what a test does to a relay, it does to the process.

It stands on the control plane that all tests share, with short times; a `Site` in it is recorded as in any other.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

from belay_api.meta import DEFAULT_AUDIENCE
from belay_dev.controlplane import ControlPlane
from belay_dev.guard import Guard
from belay_dev.stack import DEV_ACCESS, Times
from faults.apirelay import ApiRelay, relayed
from faults.kubelet import Kept, Kubelet, kubelet
from installation import NAMESPACE

TIMES = Times(grace=4, stale_after=9)
"""A session is stale after 9 s, and gone 4 s after that."""
LEASE_SECONDS = 6
"""Of the leader: renewed each second, given up after 4 s. A busy machine needs them."""


class Behind:
    """Made by `opened`; starts what the test asks for."""

    def __init__(self, plane: ControlPlane, folder: Path, keeper: Kubelet, held: AsyncExitStack) -> None:
        self.control_plane = plane
        plane.kubectl("apply", "--server-side", "-f", str(DEV_ACCESS))
        self.token = plane.service_account_token("default", "belay-agent", [DEFAULT_AUDIENCE])
        """What agents attach with."""
        self._folder = folder
        self._keeper = keeper
        self._held = held

    @classmethod
    @asynccontextmanager
    async def opened(cls, plane: ControlPlane, guard: Guard, folder: Path) -> AsyncIterator[Self]:
        """Nothing runs yet."""
        environment = {**TIMES.environment(), "BELAY_LEASE_SECONDS": str(LEASE_SECONDS), "BELAY_DRAIN_SECONDS": "0"}
        async with AsyncExitStack() as held, kubelet(guard, folder, environment) as keeper:
            yield cls(plane, folder, keeper, held)

    async def relay(self) -> ApiRelay:
        """One more way to the API server."""
        return await self._held.enter_async_context(relayed(self.control_plane.url, self.control_plane.ca_file))

    def operator(self, name: str = "operator", relay: ApiRelay | None = None, **environment: str) -> Kept:
        """Start an operator; it may have to wait until it leads."""
        return self._keeper.operator(name, self._account("belay-operator", name, relay), **environment)

    def gateway(self, name: str = "gateway", relay: ApiRelay | None = None, **environment: str) -> Kept:
        """Start a gateway."""
        return self._keeper.gateway(name, self._account("belay-gateway", name, relay), **environment)

    def _account(self, account: str, name: str, relay: ApiRelay | None) -> Path:
        path = self._folder / f"{name}.kubeconfig"
        config = self.control_plane.service_account_kubeconfig(NAMESPACE, account, path)
        if relay:
            config.write_text(config.read_text().replace(self.control_plane.url, relay.url))
        return config
