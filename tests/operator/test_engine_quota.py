"""A ResourceQuota bounds the delegations of a namespace; time to live frees what they took (docs/operations.md)."""

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import DELEGATIONS, Collection, Json
from belay_kube.errors import Forbidden
from client.belay_command import belay
from waiting import eventually

from .builders import delegation
from .played import PlayedGateway
from .world import World

QUOTAS = Collection("api/v1", "resourcequotas")
COUNT = "count/delegations.belay.dev"
SECONDS = 120.0
"""The controller that counts looks for new types every 30 s, and counts all again every 10 s (hack/belay_dev)."""


async def quota(world: World, most: int) -> None:
    """At most so many delegations, once that is in force."""
    body: Json = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    await world.admin.create(QUOTAS, world.namespace, {**body, "spec": {"hard": {COUNT: str(most)}}})
    await eventually(lambda: used(world), SECONDS)


async def used(world: World) -> str | None:
    """How many are counted."""
    status = (await world.admin.get(QUOTAS, world.namespace, "q")).get("status") or {}
    count: str | None = (status.get("used") or {}).get(COUNT)
    return count


async def test_D11_a_quota_refuses_clearly_and_time_to_live_frees_it(
    world: World, gateway: PlayedGateway, installed: ControlPlane
) -> None:
    """One too many is refused, also by `belay delegate`, with the counts; once one expired there is room."""
    await quota(world, 2)
    await world.agent()
    session = await gateway.attach("a", "s")
    await world.create(delegation("first").kept_for(60), delegation("second"))
    with pytest.raises(
        Forbidden, match=f"exceeded quota: q, requested: {COUNT}=1, used: {COUNT}=2, limited: {COUNT}=2"
    ):
        await world.create(delegation("third"))
    said = await belay("delegate", "a", "p", "-n", world.namespace, KUBECONFIG=str(installed.kubeconfig))
    assert said.is_one_line(), said
    assert "exceeded quota" in said.err
    await world.settled()
    await session.complete("first")
    await world.pass_time(65)
    items = (await world.admin.list(DELEGATIONS, world.namespace))["items"]
    assert [obj["metadata"]["name"] for obj in items] == ["second"]

    async def has_room() -> bool:
        return await used(world) == "1"

    await eventually(has_room, SECONDS)
    await world.create(delegation("third"))
