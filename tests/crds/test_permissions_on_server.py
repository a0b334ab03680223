"""PermissionRequests on the API server: decided once, by name, and settled by Belay's processes only."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from accounts import account, grant, username
from belay_api.meta import GROUP
from belay_api.names import permission_name
from belay_dev.controlplane import ControlPlane
from belay_kube.client import PERMISSION_REQUESTS, Json, Kube
from belay_kube.errors import Forbidden, Invalid, KubeError, TooLarge
from crds_cases import permission, removal
from installation import GATEWAY, OPERATOR
from rights.record import Record

ACCOUNTS = ("operator", "gateway", "alice", "admin")
EVERYTHING = [
    {"apiGroups": [GROUP], "resources": [resource], "verbs": ["create", "get", "patch", "update", "delete"]}
    for resource in ("permissionrequests", "permissionrequests/status")
]
LEAST = permission()["spec"]
FULL = {
    **LEAST,
    "delegationRef": {"name": "d"},
    "description": "runs a command",
    "inputPreview": "ls",
    "expiresAfterSeconds": 60,
    "requestedTime": "2026-01-02T03:04:05.000006Z",
}

# DESIGN.md section 3, by hand; - is a request without a phase. o: operator, b: operator and gateway, .: nobody.
_GRID = """
             Pending Allowed Denied Expired
  -             o       .       .      b
  Pending       b       .       .      b
  decided       o       o       .      .
  Allowed       .       b       .      .
  Expired       .       .       .      b
"""
_WRITERS = {"o": {"operator"}, "b": {"operator", "gateway"}, ".": set()}
_HEAD, *_LINES = (line.split() for line in _GRID.strip().splitlines())
EXPECTED = {(line[0], target): _WRITERS[cell] for line in _LINES for target, cell in zip(_HEAD, line[1:], strict=True)}
"""Who may write `target` over a request as it is; `decided` has an Allow and no phase yet."""


@pytest.fixture(scope="module")
async def alice(
    installed: ControlPlane, admin_kube: Kube, shared: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Kube]:
    """Somebody whom RBAC lets write every part of PermissionRequests."""
    folder = tmp_path_factory.mktemp("alice")
    kube = await account(installed, admin_kube, shared, "alice", EVERYTHING, folder)
    yield kube
    await kube.close()


@pytest.fixture(scope="module")
def every(kubes: dict[str, Kube], alice: Kube) -> dict[str, Kube]:
    """The processes, the administrator and an ordinary user."""
    return {**kubes, "alice": alice}


def decision(by: str | None, behavior: str = "Allow", **more: str) -> Json:
    """The patch that decides."""
    signed = {"decidedBy": by} if by else {}
    return {"spec": {"decision": {"behavior": behavior, **signed, **more}}}


async def made(every: dict[str, Kube], namespace: str, name: str, **spec: Any) -> Json:
    """A request, as the gateway makes it."""
    return await every["gateway"].create(PERMISSION_REQUESTS, namespace, permission(name, **spec))


@pytest.fixture(scope="module")
async def standing(every: dict[str, Kube], shared: str) -> dict[str, Json]:
    """A request in each state of the table."""
    found = {
        state: await made(every, shared, state.lower().strip("-") or "new")
        for state in {state for state, _ in EXPECTED}
    }
    for state in ("decided", "Allowed"):
        name = found[state]["metadata"]["name"]
        found[state] = await every["admin"].patch(PERMISSION_REQUESTS, shared, name, decision("belay-admin"))
    for state in ("Pending", "Allowed", "Expired"):
        found[state] = await every["operator"].patch_status(PERMISSION_REQUESTS, found[state], {"phase": state})
    return found


def test_a_name_tells_questions_apart() -> None:
    """Each part of a question counts; the same question has the same name, which fits the longest agent's."""
    question = ("a", "s", "1", "Bash", "ls")
    others = [(*question[:n], "x", *question[n + 1 :]) for n in range(5)]
    assert len({permission_name(*parts) for parts in (question, *others)}) == 6
    assert permission_name(*question) == permission_name(*question)
    assert len(permission_name("n" * 63, *question[1:])) <= 253


@pytest.mark.parametrize("spec", [LEAST, FULL], ids=["least", "full"])
async def test_what_a_gateway_asks_is_kept(every: dict[str, Kube], namespace: str, spec: Json) -> None:
    """It comes back as it was given, undecided and without a status; no default is added."""
    request = await every["gateway"].create(PERMISSION_REQUESTS, namespace, {**permission(), "spec": spec})
    assert (request["spec"], request.get("status")) == (spec, None)


REFUSED = {
    "no tool": ({**LEAST, "tool": ""}, "spec.tool"),
    "tool of two lines": ({**LEAST, "tool": "a\nb"}, "spec.tool"),
    "id with a space": ({**LEAST, "requestId": "a b"}, "spec.requestId"),
    "id of 129": ({**LEAST, "requestId": "x" * 129}, "spec.requestId"),
    "session with a slash": ({**LEAST, "sessionId": "a/b"}, "spec.sessionId"),
    "description too long": ({**LEAST, "description": "x" * 4097}, "spec.description"),
    "preview too long": ({**LEAST, "inputPreview": "x" * 4097}, "spec.inputPreview"),
    "expires at once": ({**LEAST, "expiresAfterSeconds": 0}, "spec.expiresAfterSeconds"),
    "expires in over 30 days": ({**LEAST, "expiresAfterSeconds": 2592001}, "spec.expiresAfterSeconds"),
}


@pytest.mark.parametrize(("spec", "said"), REFUSED.values(), ids=REFUSED)
async def test_what_makes_no_sense_is_refused(every: dict[str, Kube], shared: str, spec: Json, said: str) -> None:
    """The refusal names the field."""
    with pytest.raises((Invalid, TooLarge), match=said):
        await every["gateway"].create(PERMISSION_REQUESTS, shared, {**permission("x"), "spec": spec})


@pytest.mark.parametrize("name", ACCOUNTS)
async def test_only_the_processes_make_requests(every: dict[str, Kube], shared: str, name: str) -> None:
    """Agents ask on their sockets, Model agents through the operator; whoever tries by hand is told so."""
    if name in ("gateway", "operator"):
        assert await every[name].create(PERMISSION_REQUESTS, shared, permission(f"by-{name}"))
        return
    with pytest.raises(Forbidden) as refusal:
        await every[name].create(PERMISSION_REQUESTS, shared, permission(f"by-{name}"))
    assert f"only {GATEWAY} and {OPERATOR} may; an agent asks with request_permission" in refusal.value.message


async def test_a_request_is_not_made_decided(every: dict[str, Kube], shared: str) -> None:
    """Not even by Belay's processes."""
    body = permission("decided-at-birth", decision={"behavior": "Allow", "decidedBy": "bob"})
    for name in ("gateway", "operator"):
        with pytest.raises(Forbidden, match="not decided by whoever makes it"):
            await every[name].create(PERMISSION_REQUESTS, shared, body)


@pytest.mark.parametrize("field", FULL)
async def test_what_was_asked_can_not_change(every: dict[str, Kube], namespace: str, field: str) -> None:
    """Nobody is shown one question and answers another: no field but the decision changes, goes or comes later."""
    other = {"agentRef": {"name": "b"}, "delegationRef": {"name": "e"}, "expiresAfterSeconds": 61}
    other["requestedTime"] = "2026-01-02T03:04:06Z"
    await made(every, namespace, "full", **FULL)
    with pytest.raises(Invalid, match=rf"spec\.{field} can't be changed"):
        await every["admin"].patch(PERMISSION_REQUESTS, namespace, "full", {"spec": {field: other.get(field, "other")}})
    with pytest.raises(Invalid, match=rf"spec\.{field}(: Required| can't be changed)"):
        await every["admin"].patch(PERMISSION_REQUESTS, namespace, "full", **removal(f"/spec/{field}"))
    if field not in LEAST:
        await made(every, namespace, "least")
        with pytest.raises(Invalid, match=rf"spec\.{field} can't be changed"):
            await every["admin"].patch(PERMISSION_REQUESTS, namespace, "least", {"spec": {field: FULL[field]}})


SIGNATURES = {
    "one's own": ("alice", True),
    "another's": ("bob", False),
    "nobody's": (None, False),
}


@pytest.mark.parametrize(("signer", "accepted"), SIGNATURES.values(), ids=SIGNATURES)
async def test_whoever_decides_signs(
    every: dict[str, Kube], namespace: str, admin_kube: Kube, shared: str, signer: str | None, accepted: bool
) -> None:
    """With their own name, which the refusal tells them; not with another's, and not without one."""
    me = username(shared, "alice")
    await grant(admin_kube, namespace, me, "alice", EVERYTHING)
    await made(every, namespace, "p")
    change = decision(me if signer == "alice" else signer, reason="fine")
    if accepted:
        after = await every["alice"].patch(PERMISSION_REQUESTS, namespace, "p", change)
        assert after["spec"]["decision"] == {"behavior": "Allow", "decidedBy": me, "reason": "fine"}
        return
    with pytest.raises(Forbidden, match=rf'is "{signer or ""}" but the caller is {me}; write "{me}"'):
        await every["alice"].patch(PERMISSION_REQUESTS, namespace, "p", change)


async def test_the_processes_decide_for_others(
    every: dict[str, Kube], namespace: str, admin_kube: Kube, record: Record
) -> None:
    """Where RBAC lets them, they name whom they act for; nobody is no answer."""
    record.expects("belay-operator patch permissionrequests", namespace, times=2)
    rules = [{"apiGroups": [GROUP], "resources": ["permissionrequests"], "verbs": ["patch"]}]
    for name, user in (("gateway", GATEWAY), ("operator", OPERATOR)):
        await grant(admin_kube, namespace, user, name, rules)
        await made(every, namespace, f"for-{name}")
        with pytest.raises(Forbidden, match="decidedBy"):
            await every[name].patch(PERMISSION_REQUESTS, namespace, f"for-{name}", decision(None))
        after = await every[name].patch(PERMISSION_REQUESTS, namespace, f"for-{name}", decision("bob"))
        assert after["spec"]["decision"]["decidedBy"] == "bob"


FINAL: dict[str, Json] = {
    "other behavior": {"spec": {"decision": {"behavior": "Deny"}}},
    "other reason": {"spec": {"decision": {"reason": "thought better"}}},
    "other signer": {"spec": {"decision": {"decidedBy": "bob"}}},
    "removed": {"spec": {"decision": None}},
}


@pytest.mark.parametrize("change", FINAL.values(), ids=FINAL)
async def test_a_decision_is_final(every: dict[str, Kube], namespace: str, change: Json) -> None:
    """It can't be changed or taken back, before and after it is settled; the same again is no change."""
    request = await made(every, namespace, "p")
    request = await every["admin"].patch(PERMISSION_REQUESTS, namespace, "p", decision("belay-admin"))
    for _ in range(2):
        with pytest.raises(Invalid, match=r"spec\.decision is final"):
            await every["admin"].patch(PERMISSION_REQUESTS, namespace, "p", change)
        same = await every["admin"].patch(PERMISSION_REQUESTS, namespace, "p", decision("belay-admin"))
        assert same["metadata"]["generation"] == request["metadata"]["generation"]
        await every["operator"].patch_status(PERMISSION_REQUESTS, same, {"phase": "Allowed"})


async def test_of_two_who_decide_one_does(every: dict[str, Kube], namespace: str) -> None:
    """At the same instant, each another way: the first counts, the other is told that it is final."""
    await made(every, namespace, "p")
    kube = every["admin"]
    both = [kube.patch(PERMISSION_REQUESTS, namespace, "p", decision("belay-admin", b)) for b in ("Allow", "Deny")]
    answers = await asyncio.gather(*both, return_exceptions=True)
    (refusal,) = (answer for answer in answers if isinstance(answer, KubeError))
    assert "final" in refusal.message


async def test_what_has_expired_is_not_decided(every: dict[str, Kube], namespace: str) -> None:
    """And what was decided doesn't expire: one of the two is so, for ever."""
    expired, decided = await made(every, namespace, "expired"), await made(every, namespace, "decided")
    await every["operator"].patch_status(PERMISSION_REQUESTS, expired, {"phase": "Expired"})
    with pytest.raises(Invalid, match="has expired can't be decided"):
        await every["admin"].patch(PERMISSION_REQUESTS, namespace, "expired", decision("belay-admin"))
    decided = await every["admin"].patch(PERMISSION_REQUESTS, namespace, "decided", decision("belay-admin"))
    with pytest.raises(Invalid, match="has expired can't be decided"):
        await every["operator"].patch_status(PERMISSION_REQUESTS, decided, {"phase": "Expired"})


async def _try_status(kube: Kube, obj: Json, status: Json) -> KubeError | None:
    meta, query = obj["metadata"], {"subresource": "status", "dryRun": "All"}
    try:
        await kube.patch(PERMISSION_REQUESTS, meta["namespace"], meta["name"], {"status": status}, **query)
    except KubeError as error:
        return error
    return None


@pytest.mark.parametrize(("state", "target"), EXPECTED, ids=[f"{s}-to-{t}" for s, t in EXPECTED])
async def test_each_phase_has_its_writers(
    every: dict[str, Kube], standing: dict[str, Json], state: str, target: str
) -> None:
    """The operator follows the decision, a gateway ends what is no longer asked, and nobody else writes a status."""
    answers = await asyncio.gather(*(_try_status(every[a], standing[state], {"phase": target}) for a in ACCOUNTS))
    refusals = dict(zip(ACCOUNTS, answers, strict=True))
    assert {name for name, refusal in refusals.items() if refusal is None} == EXPECTED[state, target]
    assert refusals["alice"] is not None


@pytest.mark.parametrize("change", [{"phase": None}, {"reason": "Other"}, {"completionTime": None}, None], ids=str)
async def test_a_settled_request_stays_so(every: dict[str, Kube], namespace: str, change: Json | None) -> None:
    """Phase, reason and time can be neither changed nor removed, not even with the whole status."""
    request = await made(every, namespace, "p")
    status = {"phase": "Expired", "reason": "Resolved", "completionTime": "2026-01-02T03:04:05Z"}
    await every["operator"].patch_status(PERMISSION_REQUESTS, request, status)
    with pytest.raises(Invalid, match=r"can't (change once|be removed)"):
        await every["operator"].patch(PERMISSION_REQUESTS, namespace, "p", {"status": change}, subresource="status")
