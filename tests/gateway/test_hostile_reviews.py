"""Rights that end while a socket is open, and the caches of reviews: bounded, coalesced, and to be seen in metrics."""

import asyncio
import re
from typing import Any

import pytest

from accounts import ROLE_BINDINGS, SERVICE_ACCOUNTS, grant, username
from belay_api.meta import DEFAULT_AUDIENCE, GROUP
from belay_gateway.coalesce import Coalesced
from belay_kube.client import ACCESS_REVIEWS, TOKEN_REVIEWS, Kube
from belay_kube.clock import FakeClock
from faults.reviews import Reviewed
from gateway.peer import Peer, identifier
from gateway.raw import refusals
from gateway.stage import Running, Stage, fetch, running
from waiting import eventually

ATTACH: dict[str, Any] = {"apiGroups": [GROUP], "resources": ["agents"], "verbs": ["attach"]}
WRITES: dict[str, dict[str, Any]] = {
    "accept": {"name": "d", "attempt": 1},
    "complete": {"name": "d", "attempt": 1, "result": {"text": "x"}},
    "request_permission": {"request_id": "r", "tool": "Bash", "description": "x"},
    "resume": {"held": []},
    "delegate": {"agent": "a", "prompt": "x"},
}


async def _revoked(stage: Stage, gateway: Running) -> tuple[Peer, str]:
    """A socket of somebody whose right to attach ended since, long before its next review."""
    token, agent = await stage.person("alice"), await stage.agent("a")
    user = username(stage.namespace, "alice")
    await grant(stage.admin, stage.namespace, user, "attacher", [ATTACH])
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    await stage.offered("d", "a")
    await peer.hears("dispatch", name="d")
    await stage.admin.delete(ROLE_BINDINGS, stage.namespace, "attacher")
    asked = {"namespace": stage.namespace, "group": GROUP, "resource": "agents", "verb": "attach"}

    async def is_refused() -> bool:
        review = await stage.admin.create(ACCESS_REVIEWS, None, {"spec": {"user": user, "resourceAttributes": asked}})
        return not review["status"]["allowed"]

    await eventually(is_refused)
    await gateway.pass_time(11)
    return peer, identifier(agent_id=agent, session_id="s1")


async def test_C2_rights_are_looked_at_with_each_action_that_writes(stage: Stage, still_gateway: Running) -> None:
    """Once the answer of ten seconds ago is over, nothing is written for who lost the right, whatever the action."""
    peer, text = await _revoked(stage, still_gateway)
    before = await stage.work("d")
    for action, fields in WRITES.items():
        answer = await peer.act(text, action, **fields)
        assert (action, answer["type"], answer.get("code")) == (action, "error", "forbidden")
    assert await stage.work("d") == before
    assert refusals(still_gateway) == {"action_forbidden": len(WRITES)}
    assert not peer.ws.closed


async def test_C2_closed_at_the_review_is_counted(stage: Stage, still_gateway: Running) -> None:
    """And at the review its socket goes."""
    peer, _ = await _revoked(stage, still_gateway)
    await still_gateway.pass_time(300)
    assert (await peer.disconnected())["reason"] == "unauthorized"
    assert refusals(still_gateway) == {"revoked": 1}


async def test_C1_token_that_ended_and_review_that_is_overdue_are_counted(stage: Stage, gateway_kube: Kube) -> None:
    """A token that the cluster no longer knows, and one about which it can't be asked any more."""
    reviews = Reviewed(gateway_kube)
    alice, bob = await stage.person("alice"), await stage.person("bob")
    async with running(reviews, FakeClock(), review_seconds=30) as gateway:  # type: ignore[arg-type]
        gone = await gateway.dialer.dial(alice)
        await stage.admin.delete(SERVICE_ACCOUNTS, stage.namespace, "alice")
        spec = {"token": alice, "audiences": [DEFAULT_AUDIENCE]}

        async def has_ended() -> bool:
            return not (await stage.admin.create(TOKEN_REVIEWS, None, {"spec": spec}))["status"].get("authenticated")

        await eventually(has_ended)
        assert await eventually(lambda: _closed_after(gateway, gone, 1)) == "unauthorized"
        assert refusals(gateway) == {"token_ended": 1}
        unsure = await gateway.dialer.dial(bob)
        reviews.failing = True
        assert await eventually(lambda: _closed_after(gateway, unsure, 1)) == "unavailable"
        assert refusals(gateway) == {"token_ended": 1, "review_overdue": 1}


async def _closed_after(gateway: Running, peer: Peer, seconds: int) -> str | None:
    await gateway.pass_time(seconds)
    return next((f["reason"] for f in peer.frames if f["type"] == "disconnect"), None)


async def test_C1_questions_are_kept_shared_and_bounded() -> None:
    """Never more answers than allowed, the oldest goes first; who asks meanwhile shares; each question is counted."""
    gate, counted = asyncio.Event(), list[str]()
    cache = Coalesced[int, int](FakeClock(), 3)
    cache.counted = counted.append

    async def answer() -> int:
        await gate.wait()
        return 1

    asking = [asyncio.ensure_future(cache.get(n, answer, lambda _: 10)) for n in (0, 0, 1, 2, 3, 4)]
    await asyncio.sleep(0)
    assert cache.in_flight == 5
    gate.set()
    await asyncio.gather(*asking)
    assert (len(cache), cache.in_flight) == (3, 0)
    await cache.get(4, answer, lambda _: 10)
    await cache.get(0, answer, lambda _: 10)
    assert counted == ["asked", "shared", *["asked"] * 4, "kept", "asked"]


@pytest.mark.parametrize("limit", [2, 10_000])
async def test_C1_caches_are_bounded_by_the_setting(gateway_kube: Kube, limit: int) -> None:
    """Tokens of nobody don't fill the memory; what the caches do is in the metrics."""
    async with running(gateway_kube, FakeClock(), max_cached_reviews=limit) as gateway:
        for n in range(4):
            await (await gateway.dialer.dial(f"token-{n}")).disconnected()
        await (await gateway.dialer.dial("token-3")).disconnected()
        _, text = await fetch(f"{gateway.url}/metrics")
    assert _value(text, 'reviews_total{how="asked",kind="token"}') == 4
    assert _value(text, 'reviews_total{how="kept",kind="token"}') == 1
    assert _value(text, 'reviews_kept{kind="token"}') == min(limit, 4)
    assert _value(text, 'reviews_in_flight{kind="token"}') == _value(text, 'reviews_in_flight{kind="access"}') == 0


def _value(text: str, name: str) -> float | None:
    found = re.search(rf"^belay_gateway_{re.escape(name)} (.*)$", text, re.MULTILINE)
    return float(found[1]) if found else None
