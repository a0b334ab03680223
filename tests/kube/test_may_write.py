"""The gate before everything that may write: nothing passes it that it doesn't let pass, reads go by."""

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import LEASES, NAMESPACES, connect
from belay_kube.errors import Temporary

NAME = "may-write"
LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NAME}, "spec": {}}


async def test_G9_nothing_is_written_that_the_gate_holds_back(installed: ControlPlane) -> None:
    """A create, a patch and a deletion raise what it raises, and did nothing; a read and a list are answered."""
    kube = await connect(installed.kubeconfig)
    await kube.create(LEASES, "default", LEASE)

    async def closed() -> None:
        raise Temporary("not now")

    kube.may_write = closed
    for write in (
        kube.create(NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}),
        kube.patch(LEASES, "default", NAME, {"spec": {"holderIdentity": "somebody"}}),
        kube.delete(LEASES, "default", NAME),
    ):
        with pytest.raises(Temporary, match="not now"):
            await write
    assert (await kube.get(LEASES, "default", NAME))["spec"] == {}
    assert NAME not in {each["metadata"]["name"] for each in (await kube.list(NAMESPACES))["items"]}

    kube.may_write = None
    await kube.delete(LEASES, "default", NAME)
    await kube.close()
