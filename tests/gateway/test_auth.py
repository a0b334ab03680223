"""Who is there and who may stay: reviews, their cache, and what a failing API server leads to."""

import asyncio
import base64
import gc
import json
import weakref
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from belay_gateway.access import owns
from belay_gateway.auth import Authenticator, Bearer, User, bearer_of
from belay_kube.client import AGENTS, Kube
from belay_kube.clock import FakeClock
from belay_kube.errors import Unreachable, Unreviewed
from gateway.stage import Running, Stage
from waiting import eventually


class Reviews:
    """An API server that knows one user, counts what it is asked, and can be made to wait or to fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: dict[str, Any] = {
            "authenticated": True,
            "audiences": ["belay-gateway"],
            "user": {"username": "alice", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}},
        }
        self.failing = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def create(self, *_: object) -> dict[str, Any]:
        """Answer a review."""
        self.asked += 1
        await self.gate.wait()
        if self.failing:
            raise Unreachable("down")
        return {"status": self.answer}


def _authenticator(reviews: Reviews, clock: FakeClock) -> Authenticator:
    return Authenticator(reviews, clock, "belay-gateway")  # type: ignore[arg-type]


def _jwt(exp: float) -> Bearer:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": exp}).encode()).decode().rstrip("=")
    return Bearer(f"e30.{claims}.x")


async def test_C1_reviews_are_coalesced_and_kept_for_ten_seconds() -> None:
    """However many sockets bring one token, one review is in flight; it counts for ten seconds."""
    reviews, clock = Reviews(), FakeClock()
    authenticator = _authenticator(reviews, clock)
    reviews.gate.clear()
    asking = [asyncio.ensure_future(authenticator.user(Bearer("t"))) for _ in range(100)]
    await asyncio.sleep(0)
    asking[0].cancel()
    reviews.gate.set()
    users = await asyncio.gather(*asking[1:])
    assert {user.name for user in users if user} == {"alice"}
    assert reviews.asked == 1
    await clock.advance(9)
    await authenticator.user(Bearer("t"))
    assert reviews.asked == 1
    await clock.advance(2)
    await authenticator.user(Bearer("t"))
    assert reviews.asked == 2


async def test_C1_answers_are_not_kept_past_expiry() -> None:
    """A token that ends in three seconds is nobody's after that, without asking."""
    reviews, clock = Reviews(), FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    authenticator = _authenticator(reviews, clock)
    token = _jwt(clock.now().timestamp() + 3)
    assert await authenticator.user(token)
    await clock.advance(4)
    assert await authenticator.user(token) is None
    assert reviews.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"authenticated": False},
        {"authenticated": True, "user": {"username": "alice"}},
        {"authenticated": True, "audiences": ["other"], "user": {"username": "alice"}},
        {"authenticated": True, "audiences": ["belay-gateway"], "user": {}},
        {},
    ],
    ids=["refused", "no audience", "another audience", "no name", "empty"],
)
async def test_C1_every_doubt_is_a_no(answer: dict[str, Any]) -> None:
    """The audience is checked in the reply, and a reply that lacks something is none."""
    reviews = Reviews()
    reviews.answer = answer
    assert await _authenticator(reviews, FakeClock()).user(Bearer("t")) is None


async def test_C1_failures_are_not_kept() -> None:
    """The next one asks again."""
    reviews = Reviews()
    reviews.failing = True
    authenticator = _authenticator(reviews, FakeClock())
    with pytest.raises(Unreviewed):
        await authenticator.user(Bearer("t"))
    reviews.failing = False
    assert await authenticator.user(Bearer("t"))


def test_C1_a_token_is_held_once_and_only_while_somebody_has_it() -> None:
    """Sockets that bring the same token share it; with the last of them it is gone."""
    authenticator = _authenticator(Reviews(), FakeClock())
    first = authenticator.shared(_jwt(1.0))
    assert authenticator.shared(_jwt(1.0)) is first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


def test_C1_token_is_found_and_never_shown() -> None:
    """In the header or the subprotocol; its representation has nothing of it."""
    assert bearer_of({"Authorization": "Bearer abc"}) == Bearer("abc")
    assert bearer_of({"Authorization": "Basic abc"}) is None
    assert bearer_of({"Sec-WebSocket-Protocol": "x, base64url.bearer.authorization.k8s.io.YWJj"}) == Bearer("abc")
    assert bearer_of({"Sec-WebSocket-Protocol": "base64url.bearer.authorization.k8s.io.%%%"}) is None
    assert bearer_of({}) is None
    assert "abc" not in repr(Bearer("abc"))
    assert Bearer("not.a.jwt").expires() is None


@pytest.mark.parametrize(
    ("owner", "is_owner"),
    [
        ({"kind": "User", "name": "system:serviceaccount:ns:bot"}, True),
        ({"kind": "User", "name": "bot"}, False),
        ({"kind": "Group", "name": "team"}, True),
        ({"kind": "Group", "name": "teams"}, False),
        ({"kind": "ServiceAccount", "name": "bot"}, True),
        ({"kind": "ServiceAccount", "name": "bot", "namespace": "elsewhere"}, False),
        ({"kind": "Robot", "name": "bot"}, False),
        ({}, False),
    ],
)
def test_C2_owners_are_named_as_rbac_names_subjects(owner: dict[str, str], is_owner: bool) -> None:
    """A ServiceAccount without a namespace is one of the agent's namespace."""
    user = User("system:serviceaccount:ns:bot", groups=("team",))
    assert owns(user, "ns", [owner]) is is_owner


async def test_C1_failing_review_is_503_and_live_sockets_stay(stage: Stage, still_gateway: Running) -> None:
    """New sockets are sent away to come back; those that are there go on, until the bound."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await still_gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    authenticator = still_gateway.gateway.pulse._authenticator
    reviews = Reviews()
    reviews.failing = True
    authenticator._kube = reviews  # type: ignore[assignment]
    await still_gateway.pass_time(11)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await still_gateway.dialer.dial(token)
    assert (refused.value.status, refused.value.headers and refused.value.headers["Retry-After"]) == (503, "5")
    await still_gateway.pass_time(320)
    assert not peer.ws.closed
    await still_gateway.pass_time(320)
    frame = await peer.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("unavailable", True)


async def test_C1_hanging_review_is_asked_once_and_bounded(stage: Stage, still_gateway: Running) -> None:
    """An API server that never answers is not asked again for the same socket, which is closed at the bound."""
    peer = await still_gateway.dialer.dial(await stage.person("alice"))
    await eventually(lambda: peer.frames)
    reviews = Reviews()
    reviews.gate.clear()
    still_gateway.gateway.pulse._authenticator._kube = reviews  # type: ignore[assignment]
    await still_gateway.pass_time(590)
    assert (reviews.asked, len([t for t in still_gateway.gateway.tasks._running if "review" in t.get_name()])) == (1, 1)
    await still_gateway.pass_time(15)
    assert (await peer.disconnected())["reason"] == "unavailable"
    reviews.gate.set()


async def test_C2_who_lost_the_right_is_closed_at_the_next_review(
    stage: Stage, still_gateway: Running, admin_kube: Kube
) -> None:
    """Taken off the owners: closed at once, not to come back."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await still_gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    await admin_kube.patch(AGENTS, stage.namespace, "a", {"spec": {"owners": []}})

    async def closed() -> bool:
        await still_gateway.pass_time(1)
        return peer.ws.closed

    await eventually(closed)
    frame = await peer.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("unauthorized", False)
    await stage.row_is("a", "s1", "Disconnected", "Closed")


async def test_C2_ended_token_closes_its_socket(stage: Stage, still_gateway: Running) -> None:
    """At the token's own end, though its account still is an owner; with a new one it may come back."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await still_gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    left = Bearer(token).expires()
    assert left
    clock = still_gateway.clock
    assert isinstance(clock, FakeClock)
    clock._now = left  # the wall clock jumps to the token's end; monotonic time goes on
    await still_gateway.pass_time(301)
    frame = await peer.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("unauthorized", True)
    refused = await still_gateway.dialer.dial(token)
    assert (await refused.disconnected())["reason"] == "unauthorized"
