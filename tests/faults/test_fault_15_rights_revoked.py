"""Fault 15: the right to attach is revoked, or the account deleted, while its socket is open."""

from typing import Any

import pytest

from accounts import ROLE_BINDINGS, SERVICE_ACCOUNTS, grant, username
from belay_api.meta import DEFAULT_AUDIENCE, GROUP
from belay_kube.client import ACCESS_REVIEWS, TOKEN_REVIEWS, Kube
from belay_kube.clock import FakeClock
from gateway.peer import Peer
from gateway.stage import Running, Stage, running
from waiting import eventually

REVIEW_SECONDS = 30
ATTACH: dict[str, Any] = {"apiGroups": [GROUP], "resources": ["agents"], "verbs": ["attach"]}


async def _may_attach(stage: Stage, name: str) -> bool:
    asked = {"namespace": stage.namespace, "group": GROUP, "resource": "agents", "verb": "attach"}
    spec = {"user": username(stage.namespace, name), "resourceAttributes": asked}
    return bool((await stage.admin.create(ACCESS_REVIEWS, None, {"spec": spec}))["status"]["allowed"])


async def _is_valid(stage: Stage, token: str) -> bool:
    spec = {"token": token, "audiences": [DEFAULT_AUDIENCE]}
    return bool((await stage.admin.create(TOKEN_REVIEWS, None, {"spec": spec}))["status"].get("authenticated"))


async def _two(stage: Stage, gateway: Running) -> tuple[str, Peer, Peer]:
    """Sockets of alice, who will lose her right to attach, with her token, and of bob, who keeps his."""
    alice, bob = await stage.person("alice"), await stage.person("bob")
    for name in ("alice", "bob"):
        await grant(stage.admin, stage.namespace, username(stage.namespace, name), name, [ATTACH])
    agent = await stage.agent("a")
    peers = [await gateway.dialer.dial(token) for token in (alice, bob)]
    await peers[0].subscribe(agent, "alice")
    await peers[1].subscribe(agent, "bob")
    return alice, peers[0], peers[1]


@pytest.mark.parametrize("what", ["right", "account"])
async def test_C2_fault_15_closed_within_the_bound(stage: Stage, gateway_kube: Kube, what: str) -> None:
    """From the moment at which the API server refuses her, it takes one review; others stay, and she can't return."""
    async with running(gateway_kube, FakeClock(), review_seconds=REVIEW_SECONDS) as gateway:
        token, alice, bob = await _two(stage, gateway)
        if what == "right":
            await stage.admin.delete(ROLE_BINDINGS, stage.namespace, "alice")
            await eventually(lambda: _refused(_may_attach(stage, "alice")))
        else:
            await stage.admin.delete(SERVICE_ACCOUNTS, stage.namespace, "alice")
            await eventually(lambda: _refused(_is_valid(stage, token)))
        assert not alice.ws.closed
        await gateway.pass_time(REVIEW_SECONDS + 1)
        assert (await alice.disconnected())["reason"] == "unauthorized"
        await stage.row_is("a", "alice", "Disconnected", "Closed")
        await gateway.pass_time(REVIEW_SECONDS + 1)
        assert not bob.ws.closed


async def _refused(answer: Any) -> bool:
    return not await answer
