"""Requests that are wrong in every way: 4xx problem details with a reason, never a 500, never a traceback."""

import gzip
import json

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from yarl import URL

from belay_gateway.api.problems import refusing
from belay_gateway.writes import refusal_of
from belay_kube.client import ACCESS_REVIEWS, DELEGATIONS, TOKEN_REVIEWS, Collection, Kube
from belay_kube.clock import FakeClock, SystemClock
from belay_kube.errors import Gone, KubeError, Unauthorized, Unreachable, Unreviewed, from_status
from gateway.caller import DELEGATE, EVERYTHING, Caller, caller, new
from gateway.slow import CreateFails
from gateway.stage import Running, Stage, running


@pytest.fixture
async def alice(stage: Stage, gateway: Running) -> Caller:
    """Somebody who may delegate here."""
    return await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE)


JSON = {"Content-Type": "application/json"}
BODIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "empty": (b"", JSON, 400, "body"),
    "no JSON": (b"{", JSON, 400, "body"),
    "not an object": (b"[]", JSON, 422, "body"),
    "null": (b"null", JSON, 422, "body"),
    "invalid UTF-8": (b'{"spec": "\xff"}', JSON, 400, "body"),
    "lone surrogate": (rb'{"spec": {"agentRef": {"name": "a"}, "task": {"prompt": "\ud800"}}}', JSON, 400, "body"),
    "10,000 deep": (b'{"spec":' * 10000, JSON, 400, "body"),
    "10,000 deep list": (b"[" * 10000 + b"]" * 10000, JSON, 400, "body"),
    "wrong types": (b'{"spec": {"agentRef": 5, "task": []}}', JSON, 422, "body.spec.agentRef"),
    "int overflow": (
        json.dumps(new(priority=10**30)).encode(), JSON, 422, "body.spec.priority",
    ),
    "no type": (b"{}", {"Content-Type": ""}, 415, "application/json"),
    "a form": (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
    "one byte too long": (b" " * (256 * 1024 + 1), JSON, 413, "262144 bytes"),
    "a bomb": (gzip.compress(b" " * 10**8), {**JSON, "Content-Encoding": "gzip"}, 413, "262144 bytes"),
    "not what it says": (b"{}", {**JSON, "Content-Encoding": "gzip"}, 400, ""),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "headers", "status", "said"), BODIES.values(), ids=BODIES)
async def test_C8_bodies(alice: Caller, raw: bytes, headers: dict[str, str], status: int, said: str) -> None:
    """Each is refused with what was wrong; the gateway goes on."""
    answer = await alice.send("POST", "delegations", data=raw, headers=headers)
    answer.refused(status, said)
    assert (await alice.get("delegations")).status == 200


PATHS = {
    "unknown": ("GET", "/api/v1/nothing", 404, "openapi.json"),
    "another version": ("GET", "/api/v2/namespaces/x/delegations", 404, None),
    "no namespace's name": ("GET", "/api/v1/namespaces/A_B/delegations", 404, "path.namespace"),
    "climbing": ("GET", "/api/v1/namespaces/x/delegations/..%2f..%2fsecrets", 404, "path.name"),
    "NUL": ("GET", "/api/v1/namespaces/x/delegations/a%00b", 404, "path.name"),
    "too long": ("GET", f"/api/v1/namespaces/x/delegations/{'a' * 254}", 404, "path.name"),
    "session with a slash": ("DELETE", "/api/v1/namespaces/x/agents/a/sessions/a%2fb", 404, "path.session"),
    "another method": ("PUT", "/api/v1/namespaces/x/delegations", 405, "only GET, POST"),
    "unreadable": ("GET", "/api/v1/namespaces/x/delegations/%ff%fe", 404, "path.name"),
}


@pytest.mark.parametrize(("method", "path", "status", "said"), PATHS.values(), ids=PATHS)
async def test_C8_paths(alice: Caller, method: str, path: str, status: int, said: str | None) -> None:
    """What is no name names nothing, and gets into no path of the API server."""
    http, url = alice.gateway.dialer.http, URL(alice.gateway.url + path, encoded=True)
    async with http.request(method, url, headers={"Authorization": f"Bearer {alice.token}"}) as response:
        text = await response.text()
        assert response.status == status, text
        if said:
            assert response.content_type == "application/problem+json"
            assert said in json.loads(text)["detail"]


@pytest.mark.parametrize("audience", ["belay-gateway", "another"])
async def test_C1_without_a_user_nothing(stage: Stage, gateway: Running, audience: str) -> None:
    """No token, a broken one, one for another audience: 401 with a challenge, before anything else is looked at."""
    token = await stage.person("bob", audience)
    broken = [None, "x", "a" * 7000, token[:-3]] + ([token] if audience == "another" else [])
    for each in broken:
        answer = await Caller(gateway, stage.namespace, each).post("delegations", new())
        answer.refused(401, "bearer token", "belay-gateway")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


ACCOUNT = "system:serviceaccount:belay:belay-gateway"
OWN_RIGHT = f'delegations.belay.dev is forbidden: User "{ACCOUNT}" cannot list resource "delegations" at /x'
ERRORS: dict[str, tuple[KubeError, int, str | None]] = {
    "throttled": (from_status(429, {"message": "slow down"}, "POST /x", "7"), 429, "7"),
    "unreachable": (Unreachable("no connection"), 503, "5"),
    "overloaded": (from_status(503, {"message": "no"}, "GET /x", "30"), 503, "30"),
    "contended": (Unreachable("things change too often", said="things change too often"), 503, "5"),
    "gone": (Gone("GET /x: too old", 410), 410, None),
    "forbidden": (from_status(403, {"message": "d is forbidden: a policy denied it"}, "POST /x"), 403, None),
    "the gateway's own right": (from_status(403, {"message": OWN_RIGHT}, "POST /x"), 503, "5"),
    "a review that the gateway may not make": (
        Unreviewed.after(from_status(404, {"message": "no such resource"}, "POST /x")), 503, "5",
    ),
    "a review that is throttled": (Unreviewed.after(from_status(429, {}, "POST /x", "7")), 503, "7"),
    "too large": (from_status(500, {"message": "etcdserver: request is too large"}, "POST /x"), 413, None),
    "changed": (from_status(409, {"reason": "Conflict", "message": "changed"}, "PATCH /x"), 409, None),
    "the gateway's own token": (Unauthorized("POST /x: Unauthorized", 401), 503, "5"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "status", "wait"), ERRORS.values(), ids=ERRORS)
def test_every_answer_of_the_api_server_has_its_status(error: KubeError, status: int, wait: str | None) -> None:
    """One place maps the families; what passes by itself says when to come back; no path of the API server is told."""
    refused = refusing(error)
    assert refused.problem.status == status
    assert refused.headers.get("Retry-After") == wait
    detail = refused.problem.detail
    assert ("/x" in detail, ACCOUNT in detail, detail.count("try again") > 1) == (False, False, False)


async def test_no_address_of_the_api_server_is_told() -> None:
    """Whatever the library says of a connection that it could not make."""
    configuration = Configuration()
    configuration.host = "http://127.0.0.1:1"
    kube = Kube(ApiClient(configuration))
    with pytest.raises(Unreachable) as caught:
        await kube.get(DELEGATIONS, "ns", "d")
    await kube.close()
    assert "127.0.0.1" in caught.value.message
    problem = refusing(caught.value).problem
    assert (problem.status, "127.0.0.1" in problem.detail, "host" in problem.detail) == (503, False, False)
    assert "127.0.0.1" not in refusal_of(caught.value).message


@pytest.mark.parametrize("path", [TOKEN_REVIEWS, ACCESS_REVIEWS], ids=lambda path: path.plural)
async def test_a_right_that_the_gateway_lacks_is_not_the_callers(
    stage: Stage, gateway_kube: Kube, path: Collection
) -> None:
    """Reviews that the API server refuses to the gateway are told as 503, without its account."""
    kube = CreateFails(gateway_kube, path, from_status(403, {"message": OWN_RIGHT}, "POST /x"))
    async with running(kube, SystemClock()) as gateway:  # type: ignore[arg-type]
        alice = await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE)
        for answer in (await alice.get("delegations"), await alice.post("delegations", new())):
            problem = answer.refused(503, "tell who runs it")
            assert ACCOUNT not in problem["detail"]
            assert answer.headers["Retry-After"] == "5"


def test_what_nobody_thought_of_is_told_as_500_without_its_words() -> None:
    """A fault of ours says nothing of what was in it."""
    problem = refusing(ZeroDivisionError("secret")).problem
    assert problem.status == 500
    assert "secret" not in problem.model_dump_json()


async def test_who_calls_too_often_is_told_when_to_come_back(stage: Stage, gateway_kube: Kube) -> None:
    """A flood of one user is refused with 429; others are served, and so is that one later."""
    async with running(gateway_kube, FakeClock(), max_requests_per_second=1) as gateway:
        alice = await caller(stage, gateway, "alice", *EVERYTHING)
        bob = Caller(gateway, stage.namespace, await stage.person("bob"))
        answers = [await alice.get("delegations") for _ in range(6)]
        assert [answer.status for answer in answers] == [200] * 5 + [429]
        answers[-1].refused(429, "at most 1 requests a second")
        assert int(answers[-1].headers["Retry-After"]) > 0
        (await bob.get("delegations")).refused(403)
        await gateway.pass_time(1)
        assert (await alice.get("delegations")).status == 200


async def test_refusals_are_counted(alice: Caller) -> None:
    """By their status."""
    await alice.get("delegations/nope")
    metrics = await alice.send("GET", "/metrics")
    assert 'belay_gateway_refusals_total{reason="http_404"} 1.0' in metrics.text
