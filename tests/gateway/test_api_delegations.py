"""Delegations over HTTP: made in the caller's name, once for each key, listed, read and cancelled."""

import asyncio
from typing import Any

import pytest

from accounts import username
from belay_api.idempotency import keyed
from belay_api.meta import API_VERSION, LABEL_IDEMPOTENCY
from belay_kube.client import DELEGATIONS, Kube
from belay_kube.clock import SystemClock
from belay_kube.errors import Unreachable
from belay_kube.once import create_once
from gateway.caller import DELEGATE, EVERYTHING, Caller, caller, new
from gateway.slow import CreateFails, Lists
from gateway.stage import Running, Stage, running
from waiting import eventually


@pytest.fixture
async def alice(stage: Stage, gateway: Running) -> Caller:
    """Somebody who may delegate here."""
    return await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE)


async def test_D13_created_in_the_callers_name(stage: Stage, alice: Caller) -> None:
    """The requester is the caller, whoever the gateway is; what was asked for stands in the object."""
    answer = await alice.post("delegations", new(topic="news", priority=5, deadlineSeconds=60))
    assert answer.status == 201, answer
    made = await stage.work(answer.body["metadata"]["name"])
    assert made["spec"]["requester"] == username(stage.namespace, "alice")
    assert (made["spec"]["topic"], made["spec"]["priority"], made["spec"]["deadlineSeconds"]) == ("news", 5, 60)
    assert made["metadata"]["name"].startswith("a-")
    assert "managedFields" not in answer.body["metadata"]


async def test_a_manifest_can_be_posted(stage: Stage, alice: Caller) -> None:
    """What `kubectl create` takes is taken here: apiVersion, kind, name and labels."""
    metadata = {"name": "mine", "namespace": stage.namespace, "labels": {"team": "x"}}
    body = {"apiVersion": "belay.dev/v1alpha1", "kind": "Delegation", "metadata": metadata, **new()}
    assert (await alice.post("delegations", body)).status == 201
    assert (await stage.work("mine"))["metadata"]["labels"] == {"team": "x"}
    (await alice.post("delegations", body)).refused(409, "already exists")
    elsewhere = {**body, "metadata": {"namespace": "elsewhere"}}
    (await alice.post("delegations", elsewhere)).refused(422, "metadata.namespace: is elsewhere")


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "another requester": (new(requester="bob"), 403, "spec.requester: is bob but the caller is"),
    "a session's topic": (new(topic="session/a/s1"), 422, "names that begin with session/"),
    "a past deadline": (new(deadline="2020-01-01T00:00:00Z"), 422, "is past"),
    "two deadlines": (new(deadline="2020-01-01T00:00:00Z", deadlineSeconds=5), 422, "not both"),
    "a NUL": (new(prompt="a\0b"), 422, "NUL"),
    "too long in bytes": (new(prompt="é" * 40000), 422, "more than 64 KiB"),
    "an unknown field": (new(prority=1), 422, "body.spec.prority"),
    "a status": ({**new(), "status": {"phase": "Completed"}}, 422, "body.status"),
    "a priority in words": (new(priority="5"), 422, "body.spec.priority"),
    "a deadline in seconds": (new(deadline=1999999999), 422, "body.spec.deadline"),
    "no agent": ({"spec": {"task": {"prompt": "x"}}}, 422, "body.spec.agentRef"),
    "a bad label": ({**new(), "metadata": {"labels": {"a b": "c"}}}, 422, "metadata.labels"),
}


@pytest.mark.parametrize(("body", "status", "said"), REFUSED.values(), ids=REFUSED)
async def test_D6_refused_with_a_reason(
    stage: Stage, alice: Caller, body: dict[str, Any], status: int, said: str
) -> None:
    """What the schema, its rules and the policies refuse is refused here, in their words; nothing is made."""
    (await alice.post("delegations", body)).refused(status, said)
    assert (await stage.admin.list(DELEGATIONS, stage.namespace))["items"] == []


async def test_D13_needs_what_kubectl_needs(stage: Stage, gateway: Running) -> None:
    """`create` alone or `delegate` alone is too little; so is the verb on another agent."""
    creator = await caller(stage, gateway, "creator", *EVERYTHING)
    (await creator.post("delegations", new())).refused(403, "lacks the verb delegate on agents/a")
    delegator = await caller(stage, gateway, "delegator", DELEGATE)
    (await delegator.post("delegations", new())).refused(403, "lacks the verb create on delegations")
    only_b = await caller(stage, gateway, "only-b", *EVERYTHING, {**DELEGATE, "resourceNames": ["b"]})
    (await only_b.post("delegations", new())).refused(403, "agents/a")
    assert (await only_b.post("delegations", new("b"))).status == 201
    nobody = await caller(stage, gateway, "nobody")
    await stage.delegation("d", "a")
    for path in ("delegations", "delegations/d", "agents", "agents/a", "permissionrequests"):
        (await nobody.get(path)).refused(403, "lacks the verb")
    (await nobody.post("delegations/d/cancel")).refused(403, "lacks the verb patch on delegations/d")
    assert (await stage.work("d"))["spec"]["desiredState"] == "Running"


async def test_D5_same_key_same_body_one_object(stage: Stage, alice: Caller) -> None:
    """The second is answered 200 with the first's object; order of keys and written-out defaults make no difference."""
    first = await alice.post("delegations", new(), Idempotency_Key="k1")
    again = await alice.post("delegations", new(priority=0, desiredState="Running"), Idempotency_Key="k1")
    assert (first.status, again.status) == (201, 200)
    assert first.body["metadata"]["uid"] == again.body["metadata"]["uid"]
    stem = keyed(stage.namespace, username(stage.namespace, "alice"), "k1", new()).stem
    assert first.body["metadata"]["name"] == f"{stem}-1"
    assert len((await stage.admin.list(DELEGATIONS, stage.namespace))["items"]) == 1


async def test_D5_same_key_other_body_is_refused(alice: Caller) -> None:
    """Whatever became of the first, and with the name of what stands under the key."""
    first = await alice.post("delegations", new(), Idempotency_Key="k1")
    problem = (await alice.post("delegations", new(priority=1), Idempotency_Key="k1")).refused(409, "another key")
    assert first.body["metadata"]["name"] in problem["detail"]
    assert problem["type"] == "urn:belay:problem:idempotency_key_reused"


async def test_D5_after_a_failure_the_key_makes_the_next(stage: Stage, alice: Caller) -> None:
    """Failed: `-2`, then `-3`; Cancelled and Completed are answers; a `-1` that reached its TTL comes not again."""
    names = []
    for _ in range(3):
        made = await alice.post("delegations", new(), Idempotency_Key="k1")
        assert made.status == 201
        names.append(made.body["metadata"]["name"])
        await stage.operate(names[-1], phase="Failed", reason="DeadlineExceeded")
        (await alice.post("delegations", new(priority=9), Idempotency_Key="k1")).refused(409)
    assert [name.rpartition("-")[2] for name in names] == ["1", "2", "3"]
    await stage.admin.delete(DELEGATIONS, stage.namespace, names[0])
    fourth = await alice.post("delegations", new(), Idempotency_Key="k1")
    assert fourth.body["metadata"]["name"].endswith("-4")
    await stage.cancel(fourth.body["metadata"]["name"])
    assert (await alice.post("delegations", new(), Idempotency_Key="k1")).status == 200


async def test_D5_at_once_through_two_gateways(stage: Stage, alice: Caller, other_gateway: Running) -> None:
    """However many ask at the same time, and wherever: one object, one 201; after its failure again one."""
    there = Caller(other_gateway, alice.namespace, alice.token)
    for number in (1, 2):
        answers = await asyncio.gather(
            *(who.post("delegations", new(), Idempotency_Key="k") for who in (alice, there) for _ in range(6))
        )
        assert sorted(answer.status for answer in answers) == [*[200] * 11, 201]
        (name,) = {answer.body["metadata"]["name"] for answer in answers}
        assert name.endswith(f"-{number}")
        await stage.operate(name, phase="Failed", reason="DeadlineExceeded")


async def test_D5_keys_are_the_callers_own(stage: Stage, gateway: Running, alice: Caller) -> None:
    """The same key of another caller is another key; what somebody else puts under one's name is no answer."""
    bob = await caller(stage, gateway, "bob", *EVERYTHING, DELEGATE)
    mine = await alice.post("delegations", new(), Idempotency_Key="k")
    his = await bob.post("delegations", new(), Idempotency_Key="k")
    assert (mine.status, his.status) == (201, 201)
    stem = keyed(stage.namespace, username(stage.namespace, "alice"), "k2", new()).stem
    await stage.delegation(f"{stem}-1", "a")
    (await alice.post("delegations", new(), Idempotency_Key="k2")).refused(409, f"{stem}-1")


@pytest.mark.parametrize("key", ["", "x" * 257, "two words", "ümlaut"])
async def test_D5_a_key_that_is_none(alice: Caller, key: str) -> None:
    """Refused, not cut and not ignored."""
    (await alice.post("delegations", new(), Idempotency_Key=key)).refused(422, "header.Idempotency-Key")


async def test_D5_a_key_and_a_name(alice: Caller) -> None:
    """The key makes the name."""
    body = {**new(), "metadata": {"name": "mine"}}
    (await alice.post("delegations", body, Idempotency_Key="k")).refused(422, "leave one of them out")


LOST: dict[str, tuple[dict[str, Any], dict[str, str], str, int]] = {
    "no key": ({}, {}, "use an idempotency key", 201),
    "a key": ({}, {"Idempotency_Key": "k"}, "the same idempotency key", 200),
    "a name": ({"metadata": {"name": "mine"}}, {}, "its name can't be taken twice", 409),
}


@pytest.mark.parametrize(("more", "headers", "said", "repeated"), LOST.values(), ids=LOST)
async def test_D5_a_create_without_an_answer(
    stage: Stage, gateway_kube: Kube, more: dict[str, Any], headers: dict[str, str], said: str, repeated: int
) -> None:
    """It may have been made: who asked is told so, and how to repeat it safely."""
    broken = Unreachable("POST https://10.0.0.1:6443/x broke off", said="the connection broke off")
    kube = CreateFails(gateway_kube, DELEGATIONS, broken, after=True)
    async with running(kube, SystemClock()) as gateway:  # type: ignore[arg-type]
        alice = await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE)
        problem = (await alice.post("delegations", {**new(), **more}, **headers)).refused(503, said)
        assert "10.0.0.1" not in problem["detail"]
        kube.error = None
        assert (await alice.post("delegations", {**new(), **more}, **headers)).status == repeated


async def test_D5_what_others_label_is_read_in_bounds(stage: Stage, gateway_kube: Kube, alice: Caller) -> None:
    """Objects that somebody else put under a key's label make no request long, and change nothing."""
    lists = Lists(gateway_kube, DELEGATIONS)
    key = keyed(stage.namespace, username(stage.namespace, "alice"), "k", new())
    await asyncio.gather(*(_labelled(stage, f"a{number:03}", key.stem) for number in range(110)))
    made, is_new = await create_once(lists, DELEGATIONS, stage.namespace, _body(stage), key)  # type: ignore[arg-type]
    again, _ = await create_once(lists, DELEGATIONS, stage.namespace, _body(stage), key)  # type: ignore[arg-type]
    assert (is_new, made["metadata"]["name"], again["metadata"]["uid"]) == (True, key.name(1), made["metadata"]["uid"])
    assert lists.limits == [25] * 8


def _body(stage: Stage) -> dict[str, Any]:
    spec = {**new()["spec"], "requester": username(stage.namespace, "alice")}
    return {"apiVersion": API_VERSION, "kind": "Delegation", "spec": spec}


async def _labelled(stage: Stage, name: str, stem: str) -> None:
    meta = {"name": name, "labels": {LABEL_IDEMPOTENCY: stem}}
    body = {"apiVersion": API_VERSION, "kind": "Delegation", "metadata": meta, **new()}
    await stage.admin.create(DELEGATIONS, stage.namespace, body)


async def test_listing_filters_and_pages(stage: Stage, alice: Caller) -> None:
    """By agent, phase and topic, a page at a time; Pending also is what has no status yet."""
    for number in range(4):
        await stage.delegation(f"d{number}", "a" if number < 3 else "b", **({"topic": "t"} if number == 1 else {}))
    await stage.dispatch("d0")

    async def names(**query: str) -> list[str]:
        return [item["metadata"]["name"] for item in (await alice.get("delegations", **query)).body["items"]]

    assert await names() == ["d0", "d1", "d2", "d3"]
    assert await names(agent="b") == ["d3"]
    assert await names(phase="Dispatched") == ["d0"]
    assert await names(phase="Pending", agent="a") == ["d1", "d2"]
    assert await names(topic="t") == ["d1"]
    first = (await alice.get("delegations", limit="3")).body
    assert len(first["items"]) == 3
    rest = (await alice.get("delegations", limit="3", **{"continue": first["continue"]})).body
    assert ([item["metadata"]["name"] for item in rest["items"]], "continue" in rest) == (["d3"], False)
    assert rest["items"][0]["kind"] == "Delegation"


async def test_lists_leave_out_what_may_be_long(stage: Stage, gateway_kube: Kube, alice: Caller) -> None:
    """Neither tasks nor results; all the rest is there, and the object itself has both."""
    await stage.offered("d", "a", topic="t")
    ended = {"phase": "Completed", "reason": "Completed", "sessionId": "s1", "result": {"text": "long"}}
    await gateway_kube.patch_status(DELEGATIONS, await stage.work("d"), ended)
    (item,) = (await alice.get("delegations")).body["items"]
    assert (item["spec"]["topic"], item["status"]["phase"]) == ("t", "Completed")
    assert ("task" in item["spec"], "result" in item["status"]) == (False, False)
    read = (await alice.get("delegations/d")).body
    assert (read["spec"]["task"]["prompt"], read["status"]["result"]["text"]) == ("do it", "long")


async def test_lists_are_read_in_small_parts(stage: Stage, gateway_kube: Kube) -> None:
    """However large the page: one part, of few objects, is in memory at a time, and few lists are under way at once."""
    lists = Lists(gateway_kube, DELEGATIONS)
    async with running(lists, SystemClock()) as gateway:  # type: ignore[arg-type]
        alice = await caller(stage, gateway, "alice", *EVERYTHING)
        await asyncio.gather(*(stage.delegation(f"d{number:02}", "a") for number in range(60)))
        first = (await alice.get("delegations", limit="40")).body
        assert lists.limits == [25, 15]
        rest = (await alice.get("delegations", limit="40", **{"continue": first["continue"]})).body
        names = [item["metadata"]["name"] for item in (*first["items"], *rest["items"])]
        assert (names, "continue" in rest) == ([f"d{number:02}" for number in range(60)], False)
        lists.gate.clear()
        asked = [asyncio.create_task(alice.get("delegations", limit="1")) for _ in range(6)]
        await eventually(lambda: lists.waiting == 3)
        assert (await alice.get("delegations/d01")).status == 200
        assert lists.waiting == 3
        lists.gate.set()
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}


BAD_QUERIES = {
    "misspelt": {"phse": "Failed"},
    "no phase": {"phase": "failed"},
    "limit zero": {"limit": "0"},
    "limit with a sign": {"limit": "+5"},
    "limit in words": {"limit": "1_0"},
    "too large": {"limit": "101"},
    "no name": {"agent": "a,status.phase=Failed"},
}


@pytest.mark.parametrize("query", BAD_QUERIES.values(), ids=BAD_QUERIES)
async def test_listing_refuses_what_it_does_not_know(alice: Caller, query: dict[str, str]) -> None:
    """A filter that is wrong must not look like one that matched everything."""
    (await alice.get("delegations", **query)).refused(422, f"query.{next(iter(query))}")
    (await alice.get("delegations", **{"continue": "not a token"})).refused(400, "continue")


async def test_D9_cancel_is_a_request(stage: Stage, alice: Caller) -> None:
    """It sets desiredState, for whoever RBAC lets patch; twice is once; what isn't there is 404."""
    await stage.delegation("d", "a")
    for _ in range(2):
        answer = await alice.post("delegations/d/cancel")
        assert (answer.status, answer.body["spec"]["desiredState"]) == (200, "Cancelled")
    assert (await alice.get("delegations/d")).body["spec"]["desiredState"] == "Cancelled"
    (await alice.post("delegations/nope/cancel")).refused(404, '"nope" not found')
    (await alice.get("delegations/nope")).refused(404)


async def test_agents_are_read(stage: Stage, alice: Caller) -> None:
    """One, and a list with names and kinds."""
    await stage.agent("a", "alice", description="does it")
    assert (await alice.get("agents/a")).body["spec"]["description"] == "does it"
    listed = (await alice.get("agents")).body["items"]
    assert [(item["kind"], item["metadata"]["name"]) for item in listed] == [("Agent", "a")]
    (await alice.get("agents/nope")).refused(404)
