"""A control plane of its own whose etcd holds little: filled up it refuses every write, until somebody makes room."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp

from belay_dev.controlplane import ControlPlane
from belay_kube.client import NAMESPACES, Collection, Kube
from belay_kube.errors import KubeError, Unreachable

QUOTA_BYTES = 24 << 20
CONFIG_MAPS = Collection("api/v1", "configmaps")
_BALLAST = "x" * (900 << 10)
_MOST = 100


@contextmanager
def small_plane() -> Iterator[ControlPlane]:
    """A control plane with that quota, whose etcd can be spoken to in JSON."""
    flags = {"quota-backend-bytes": QUOTA_BYTES, "enable-grpc-gateway": "true"}
    with ControlPlane(etcd_flags=flags) as plane:
        yield plane


async def fill(admin: Kube) -> str:
    """Write until etcd is out of space; returns what the API server then says."""
    await admin.create(NAMESPACES, None, {"metadata": {"name": "ballast"}})
    for number in range(_MOST):
        body = {"metadata": {"name": f"b{number}"}, "data": {"x": _BALLAST}}
        try:
            await admin.create(CONFIG_MAPS, "ballast", body)
        except Unreachable as error:
            return error.message
    raise AssertionError(f"etcd took {_MOST} times {len(_BALLAST)} bytes")


async def make_room(plane: ControlPlane, admin: Kube) -> None:
    """What an administrator does: delete, compact, defragment, disarm the alarm."""
    await admin.delete(CONFIG_MAPS, "ballast", "")
    layout = plane._started.layout
    tls = ssl.create_default_context(cafile=str(layout.pki.ca))
    tls.load_cert_chain(layout.pki.etcd_client.cert, layout.pki.etcd_client.key)
    url = f"https://127.0.0.1:{plane._started.ports.etcd}/v3"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as http:

        async def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
            async with http.post(f"{url}/{path}", json=body) as response:
                answer: dict[str, Any] = await response.json(content_type=None)
                assert response.status == 200, answer
                return answer

        found = await ask("kv/range", {"key": "AA==", "limit": "1"})
        await ask("kv/compaction", {"revision": found["header"]["revision"], "physical": True})
        await ask("maintenance/defragment", {})
        for alarm in (await ask("maintenance/alarm", {"action": "GET"})).get("alarms") or []:
            await ask("maintenance/alarm", {"action": "DEACTIVATE", **alarm})


async def until_writable(admin: Kube) -> None:
    """Return when the API server takes writes again."""
    async with asyncio.timeout(20):
        while True:
            try:
                await admin.create(CONFIG_MAPS, "ballast", {"metadata": {"generateName": "probe-"}})
            except KubeError:
                await asyncio.sleep(0.05)
                continue
            return
