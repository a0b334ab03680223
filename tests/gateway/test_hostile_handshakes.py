"""Hostile peers before they have a socket: each is refused in words, and counted once by its reason."""

import asyncio
import base64
import re
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from belay_api.frames import SUBPROTOCOL
from belay_gateway.auth import BEARER_SUBPROTOCOL
from belay_gateway.settings import Settings
from belay_kube.client import Kube
from belay_kube.clock import FakeClock, SystemClock
from faults.reviews import Reviewed
from gateway.raw import Raw, raw, refusals
from gateway.stage import Running, Stage, fetch, running
from waiting import eventually

GOOD = "https://good.example"
ORIGINS = {
    "null": "null",
    "empty": "",
    "another scheme": "http://good.example",
    "another port": "https://good.example:8443",
    "its own port, written out": "https://good.example:443",
    "trailing dot": "https://good.example.",
    "upper case": "https://GOOD.example",
    "trailing slash": "https://good.example/",
    "look-alike behind it": "https://good.example.evil.example",
    "look-alike before it": "https://evilgood.example",
    "user before it": "https://good.example@evil.example",
    "subdomain": "https://a.good.example",
    "list": "https://good.example https://evil.example",
}


@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
async def test_C2_all_but_the_exact_origin_are_refused(gateway_kube: Kube, origin: str) -> None:
    """What merely looks like the allowed origin is another; the header is compared as it stands."""
    async with running(gateway_kube, SystemClock(), allowed_origins=[GOOD]) as gateway, raw(gateway) as peer:
        assert (await peer.open_socket(None, f"Origin: {origin}"))[0] == 403
        assert refusals(gateway) == {"origin": 1}


async def test_C2_two_origins_must_both_be_allowed(gateway_kube: Kube) -> None:
    """A second header of that name smuggles nothing in."""
    async with running(gateway_kube, SystemClock(), allowed_origins=[GOOD]) as gateway, raw(gateway) as peer:
        assert (await peer.open_socket(None, f"Origin: {GOOD}", "Origin: https://evil.example"))[0] == 403


@pytest.mark.parametrize(
    "origin", ["*", "null", "https://*.example", f"{GOOD}/", "good.example", "HTTPS://GOOD.example"]
)
def test_C2_only_exact_origins_can_be_allowed(origin: str) -> None:
    """A pattern, or what no browser sends, is refused at the start."""
    with pytest.raises(ValidationError, match="no origin as browsers send it"):
        Settings(allowed_origins=[origin])
    assert Settings(allowed_origins=[GOOD, "http://localhost:3000", "http://[::1]:80"])


REFUSED: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "token in the query": ({"params": {"token": "s3cret"}}, 400, "token_in_url", "Authorization header"),
    "by another name": ({"params": {"Access_Token": "s3cret"}}, 400, "token_in_url", "Authorization header"),
    "16 KB token": ({"headers": {"Authorization": "Bearer " + "x" * 16384}}, 400, "token_too_long", "at most 8192"),
    "no cable": ({"protocols": ("chat",)}, 400, "subprotocol", SUBPROTOCOL),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_C8_refused_with_a_sentence(gateway: Running, name: str) -> None:
    """What is wrong with the request itself is an HTTP answer that says what to do, and repeats nothing of it."""
    request, status, reason, said = REFUSED[name]
    ws = {"headers": {**request.get("headers", {})}, "params": request.get("params", {})}
    protocols = ",".join(request.get("protocols", (SUBPROTOCOL,)))
    ws["headers"] |= {"Sec-WebSocket-Protocol": protocols, "Connection": "Upgrade", "Upgrade": "websocket"}
    async with gateway.dialer.http.get(f"{gateway.url}/cable", **ws) as answer:
        text = await answer.text()
    assert (answer.status, said in text, "s3cret" in text) == (status, True, False)
    assert refusals(gateway) == {reason: 1}


@pytest.mark.parametrize("token", [None, "", "a.b.c", "x" * 8000], ids=["none", "empty", "nonsense", "8 KB"])
async def test_C1_who_is_nobody_is_counted(gateway: Running, token: str | None) -> None:
    """Told in the cable's words, not to come back."""
    peer = await gateway.dialer.dial(token)
    frame = await peer.disconnected()
    assert (frame["reason"], frame["reconnect"], refusals(gateway)) == ("unauthorized", False, {"unauthorized": 1})


async def test_C1_foreign_audience_is_counted(stage: Stage, gateway: Running) -> None:
    """A valid token for somebody else is no token; so is one in the subprotocol that can't be decoded."""
    foreign = await stage.person("alice", audience="another-service")
    encoded = base64.urlsafe_b64encode(foreign.encode()).decode().rstrip("=")
    for given in ({"token": foreign}, {"token": None, "protocols": (SUBPROTOCOL, BEARER_SUBPROTOCOL + encoded)}):
        assert (await (await gateway.dialer.dial(**given)).disconnected())["reason"] == "unauthorized"
    assert refusals(gateway) == {"unauthorized": 2}


async def test_C8_no_websocket_at_all_is_counted(gateway: Running) -> None:
    """A plain GET, and what isn't HTTP."""
    assert (await fetch(f"{gateway.url}/cable"))[0] == 400
    assert refusals(gateway) == {"not_websocket": 1}
    for garbage in (b"\x16\x03\x01\x02\x00\x01\n\r\n\r\n", b"GET /cable HTTP/1.1\r\nA: " + b"x" * 65536 + b"\r\n\r\n"):
        async with raw(gateway) as peer:
            peer.say(garbage)
            assert (await peer.head())[0] == 400
            await peer.rest()
    assert refusals(gateway) == {"not_websocket": 1, "bad_http": 2}


async def test_C8_too_many_sockets_are_counted(stage: Stage, gateway_kube: Kube) -> None:
    """The cap of one identity."""
    token = await stage.person("alice")
    async with running(gateway_kube, SystemClock(), max_sockets_per_user=1) as gateway:
        await gateway.dialer.dial(token)
        async with raw(gateway) as peer:
            status, headers = await peer.open_socket(token)
        assert (status, headers["retry-after"], refusals(gateway)) == (429, "5", {"too_many_sockets": 1})


async def test_P7_who_comes_at_the_end_is_counted(gateway: Running) -> None:
    """A gateway that ends says so."""
    gateway.gateway.endpoint.draining = True
    async with raw(gateway) as peer:
        status, headers = await peer.open_socket(None)
    assert (status, headers["retry-after"], refusals(gateway)) == (503, "5", {"shutting_down": 1})


# --- slow handshakes -------------------------------------------------------------------------------------------


async def _dribble(gateway: Running, peer: Raw, seconds: int) -> None:
    """A byte of a header each second."""
    for _ in range(seconds):
        peer.say(b"x")
        await gateway.pass_time(1)


async def test_C8_slow_headers_end_at_ten_seconds(still_gateway: Running) -> None:
    """Who says nothing, and who says a byte a second, is let go at the bound, not before; nobody else is."""
    async with raw(still_gateway) as silent, raw(still_gateway) as slow:
        slow.say(b"GET /cable HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        await eventually(partial(_are_open, still_gateway, 2))
        await _dribble(still_gateway, slow, 10)
        assert refusals(still_gateway) == {}
        await _dribble(still_gateway, slow, 2)
        assert await slow.rest() == await silent.rest() == b""
        assert refusals(still_gateway) == {"handshake_timeout": 2}


def _are_open(gateway: Running, count: int) -> bool:
    return len(gateway.gateway.lobby.connections()) == count


async def test_C8_open_sockets_and_kept_connections_stay(stage: Stage, still_gateway: Running) -> None:
    """A socket is no handshake however long it is open; a connection that asked something may ask again for 75 s."""
    peer = await still_gateway.dialer.dial(await stage.person("alice"))
    async with raw(still_gateway) as kept:
        for _ in range(2):
            kept.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await kept.head())[0] == 200
            await still_gateway.pass_time(70)
        await still_gateway.pass_time(6)
        await kept.rest()
    assert (peer.ws.closed, refusals(still_gateway)) == (False, {})


async def test_C8_unfinished_connections_are_bounded(stage: Stage, gateway_kube: Kube) -> None:
    """When too many say nothing the oldest go, at once; who says what it wants gets in."""
    token = await stage.person("alice")
    async with running(gateway_kube, FakeClock(), max_handshakes=3) as gateway, AsyncExitStack() as stack:
        for count in range(1, 6):
            await stack.enter_async_context(raw(gateway))
            await eventually(partial(_are_open, gateway, count))
        await gateway.pass_time(1)
        await eventually(partial(_are_open, gateway, 3))
        assert refusals(gateway) == {"too_many_handshakes": 2}
        assert (await gateway.dialer.dial(token)).ws.protocol == SUBPROTOCOL


async def test_C1_reviews_under_way_are_bounded(stage: Stage, gateway_kube: Kube) -> None:
    """While as many tokens as may are under review, the next is told to come again, on a socket and by HTTP."""
    reviews = Reviewed(gateway_kube)
    reviews.gate.clear()
    async with running(reviews, SystemClock(), max_handshakes=2) as gateway:  # type: ignore[arg-type]
        waiting = [asyncio.ensure_future(gateway.dialer.dial(f"token-{n}")) for n in range(2)]
        await eventually(lambda: reviews.asked == 2)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await gateway.dialer.dial("another")
        assert (refused.value.status, refusals(gateway)) == (503, {"too_many_handshakes": 1})
        headers = {"Authorization": "Bearer another"}
        async with gateway.dialer.http.get(f"{gateway.url}/api/v1/namespaces/x/agents", headers=headers) as answer:
            assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        reviews.gate.set()
        assert [(await peer.disconnected())["reason"] for peer in await asyncio.gather(*waiting)] == [
            "unauthorized"
        ] * 2


async def test_C1_review_that_hangs_ends_the_handshake(gateway_kube: Kube) -> None:
    """The API server's silence is bounded by the same time, and told as its own."""
    reviews = Reviewed(gateway_kube)
    reviews.gate.clear()
    async with running(reviews, SystemClock(), handshake_seconds=1) as gateway:  # type: ignore[arg-type]
        async with raw(gateway) as peer:
            assert (await peer.open_socket("token"))[0] == 503
        assert refusals(gateway) == {"review_unavailable": 1}
        reviews.gate.set()


# --- what is negotiated ----------------------------------------------------------------------------------------


async def test_C8_compression_is_never_negotiated(stage: Stage, gateway: Running) -> None:
    """permessage-deflate is offered and not taken, so no small frame becomes a large one; one sent all the same is
    refused."""
    token = await stage.person("alice")
    async with raw(gateway) as peer:
        status, headers = await peer.open_socket(token, "Sec-WebSocket-Extensions: permessage-deflate")
        assert (status, headers["sec-websocket-protocol"]) == (101, SUBPROTOCOL)
        assert "sec-websocket-extensions" not in headers
        peer.frame(0x1, b"\xaa\x56", first_bits=0xC0)
        assert re.search(rb'"disconnect".*"invalid_request"', await peer.rest())
    assert refusals(gateway) == {"bad_frame": 1}
