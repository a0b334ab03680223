"""Reads what may not be there; whatever else goes wrong is raised."""

from belay_kube.client import Collection, Json, Kube
from belay_kube.errors import NotFound


async def find(kube: Kube, collection: Collection, namespace: str | None, name: str) -> Json | None:
    """The object of that name, or None when there is none. Raises KubeError."""
    try:
        return await kube.get(collection, namespace, name)
    except NotFound:
        return None
