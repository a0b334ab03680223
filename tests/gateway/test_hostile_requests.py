"""Hostile callers of the HTTP API: the same controls as on a socket, answered with problems."""

import json
from typing import Any

import pytest

from belay_kube.client import Kube
from belay_kube.clock import SystemClock
from gateway.caller import Caller
from gateway.raw import raw, refusals
from gateway.stage import Running, Stage, running


@pytest.mark.parametrize("name", ["token", "access_token", "JWT"])
async def test_C8_token_in_the_url_is_refused(stage: Stage, gateway: Running, name: str) -> None:
    """Also beside a good one: whoever sends it should learn of it at once."""
    alice = Caller(gateway, stage.namespace, await stage.person("alice"))
    answer = await alice.get("delegations", **{name: "s3cret"})
    answer.refused(400, "Authorization header")
    assert "s3cret" not in answer.text
    assert refusals(gateway) == {"http_400": 1}


async def test_C8_token_of_16_kb_is_refused(stage: Stage, gateway: Running) -> None:
    """With its size and the bound, before anybody is asked about it."""
    (await Caller(gateway, stage.namespace, "x" * 16384).get("delegations")).refused(400, "16384 bytes, at most 8192")
    assert (refusals(gateway), len(gateway.gateway.authenticator.reviews)) == ({"http_400": 1}, 0)


async def test_C2_no_page_of_another_origin_can_read_or_ask(stage: Stage, gateway: Running) -> None:
    """Only a bearer token lets in, which no browser adds by itself; and no header invites other origins."""
    nobody = Caller(gateway, stage.namespace, None)
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answers = [
        await nobody.send("OPTIONS", "delegations", headers=preflight),
        await nobody.send("GET", "delegations", headers={"Origin": "https://evil.example", "Cookie": "token=x"}),
    ]
    assert [answer.status for answer in answers] == [405, 401]
    assert not [name for answer in answers for name in answer.headers if name.lower().startswith("access-control")]
    assert refusals(gateway) == {"http_401": 1, "http_405": 1}


async def test_C8_body_that_never_comes_ends(stage: Stage, gateway_kube: Kube) -> None:
    """Half a body and then nothing: told so, closed, and counted."""
    token = await stage.person("alice")
    async with running(gateway_kube, SystemClock(), body_seconds=1) as gateway, raw(gateway) as slow:
        lines = [
            f"POST /api/v1/namespaces/{stage.namespace}/delegations HTTP/1.1",
            "Host: x",
            "Content-Type: application/json",
            f"Authorization: Bearer {token}",
            "Content-Length: 100",
        ]
        slow.say("\r\n".join([*lines, "", '{"spec": ']).encode())
        status, headers = await slow.head()
        assert (status, headers["content-type"]) == (408, "application/problem+json")
        assert refusals(gateway) == {"http_408": 1}


LIMITS: dict[str, tuple[dict[str, Any], int]] = {
    "too long": ({"data": b" " * (256 * 1024 + 1)}, 413),
    "no JSON": ({"data": b"["}, 400),
    "too deep": ({"data": b"[" * 10_000}, 400),
    "wrong": ({"data": b"{}"}, 422),
    "no type": ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_C8_each_refused_request_is_counted_once(stage: Stage, gateway: Running, name: str) -> None:
    """By its status, with a problem that says what to do."""
    request, status = LIMITS[name]
    alice = Caller(gateway, stage.namespace, await stage.person("alice"))
    headers = {"Content-Type": "application/json", **request.get("headers", {})}
    answer = await alice.send("POST", "delegations", data=request["data"], headers=headers)
    assert answer.refused(status)["detail"]
    assert refusals(gateway) == {f"http_{status}": 1}


async def test_C8_too_many_requests_are_counted(stage: Stage, gateway_kube: Kube) -> None:
    """429 with the time to wait; the bucket is the user's own."""
    async with running(gateway_kube, SystemClock(), max_requests_per_second=1) as gateway:
        alice = Caller(gateway, stage.namespace, await stage.person("alice"))
        answers = [await alice.get("delegations", limit="0") for _ in range(30)]
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        assert all(json.loads(answer.text)["detail"] and answer.headers["Retry-After"] for answer in refused)
        assert refusals(gateway)["http_429"] == len(refused)
