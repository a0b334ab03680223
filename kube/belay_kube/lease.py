"""A process' own Lease: created, renewed while it lives, released when it ends (DESIGN.md section 4)."""

from belay_api.times import to_wire
from belay_kube.client import LEASES, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import AlreadyExists, NotFound

RENEW_SECONDS = 5.0


class OwnLease:
    """The Lease named after one process; nobody else writes it, so renewals need no resourceVersion."""

    def __init__(
        self, kube: Kube, clock: Clock, namespace: str, identity: str, labels: dict[str, str], duration: int
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._namespace = namespace
        self.identity = identity
        self._labels = labels
        self._duration = duration

    async def renew(self, annotations: dict[str, str] | None = None) -> None:
        """Renew, or make it if it isn't there. Raises KubeError."""
        meta: Json = {"annotations": annotations or {}, "labels": self._labels}
        spec = {"holderIdentity": self.identity, "renewTime": to_wire(self._clock.now())}
        try:
            await self._kube.patch(LEASES, self._namespace, self.identity, {"metadata": meta, "spec": spec})
        except NotFound:
            await self._create(meta, spec)

    async def _create(self, meta: Json, spec: Json) -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**meta, "name": self.identity},
            "spec": {**spec, "leaseDurationSeconds": self._duration, "acquireTime": spec["renewTime"]},
        }
        try:
            await self._kube.create(LEASES, self._namespace, body)
        except AlreadyExists:
            # A renewal whose answer was lost made it; the next one finds it.
            return

    async def release(self) -> None:
        """Say that this process ends on purpose: an empty holder. The operator marks its rows and removes it."""
        try:
            await self._kube.patch(LEASES, self._namespace, self.identity, {"spec": {"holderIdentity": ""}})
        except NotFound:
            return
