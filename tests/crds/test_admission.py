"""Only its writer draws each arrow, and nobody asks in another's name: every pair tried with the accounts' own tokens.

Patches are dry runs, which pass admission like others: one object in each phase serves all of them.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from accounts import account, grant, username
from belay_api.meta import ANNOTATION_ASKED_BY, ANNOTATION_CANCEL_CASCADE, GROUP
from belay_api.policies import POLICIES
from belay_api.times import to_wire
from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, DELEGATIONS, SUBSCRIPTIONS, SWEEPERS, Collection, Json, Kube
from belay_kube.clock import SystemClock
from belay_kube.errors import Forbidden, Invalid, KubeError
from crds_cases import (
    EXPECTED,
    EXPECTED_ROWS,
    PHASES,
    ROW_WAY,
    TERMINAL,
    agent,
    delegation,
    in_phase,
    row,
    row_in_phase,
)
from installation import GATEWAY, NAMESPACE, OPERATOR
from rights.record import Record

ACCOUNTS = ("operator", "gateway", "alice", "admin")
RUNNING = tuple(phase for phase in PHASES if phase not in TERMINAL)
EVERYTHING = [
    {"apiGroups": [GROUP], "resources": [resource], "verbs": ["create", "get", "patch", "update", "delete"]}
    for plural in ("agents", "agentsubscriptions", "delegations", "delegationsweepers")
    for resource in (plural, f"{plural}/status")
]
DELEGATE = {"apiGroups": [GROUP], "resources": ["agents"], "verbs": ["delegate"], "resourceNames": ["a"]}


@pytest.fixture(scope="module")
async def alice(
    installed: ControlPlane, admin_kube: Kube, shared: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Kube]:
    """Somebody whom RBAC lets write everything here, statuses too, but delegate to the agent `a` only."""
    folder = tmp_path_factory.mktemp("alice")
    kube = await account(installed, admin_kube, shared, "alice", [*EVERYTHING, DELEGATE], folder)
    yield kube
    await kube.close()


@pytest.fixture(scope="module")
def every(kubes: dict[str, Kube], alice: Kube) -> dict[str, Kube]:
    """The processes, the administrator and an ordinary user."""
    return {**kubes, "alice": alice}


@pytest.fixture(scope="module")
async def running(every: dict[str, Kube], shared: str) -> dict[str, Json]:
    """A Delegation in each phase that isn't terminal; what is terminal no account can move (D1)."""
    made = await asyncio.gather(*(in_phase(every, shared, phase) for phase in RUNNING))
    return dict(zip(RUNNING, made, strict=True))


@pytest.fixture(scope="module")
async def rows(every: dict[str, Kube], shared: str) -> dict[str, Json]:
    """A row in each phase; `-` has none yet."""
    made = await asyncio.gather(*(row_in_phase(every, shared, phase) for phase in ROW_WAY))
    return dict(zip(ROW_WAY, made, strict=True))


async def _try_status(kube: Kube, collection: Collection, obj: Json, status: Json) -> KubeError | None:
    meta = obj["metadata"]
    try:
        await kube.patch(
            collection, meta["namespace"], meta["name"], {"status": status}, subresource="status", dryRun="All"
        )
    except KubeError as error:
        return error
    return None


PAIRS = list(itertools.product(RUNNING, PHASES))


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=[f"{s}-to-{t}" for s, t in PAIRS])
async def test_D13_each_arrow_has_its_writers(
    every: dict[str, Kube], running: dict[str, Json], source: str, target: str
) -> None:
    """The operator and the gateway draw their arrows and no other; RBAC's consent doesn't help anybody else."""
    answers = await asyncio.gather(
        *(_try_status(every[a], DELEGATIONS, running[source], {"phase": target}) for a in ACCOUNTS)
    )
    refusals = dict(zip(ACCOUNTS, answers, strict=True))
    assert {name for name, refusal in refusals.items() if refusal is None} == EXPECTED[source, target]
    for name, refusal in refusals.items():
        assert refusal is None or isinstance(refusal, Forbidden), name
        if refusal and name in ("operator", "gateway"):
            assert f"the {name} may not take a Delegation from {source} to {target}" in refusal.message
        elif refusal:
            assert f"only {OPERATOR} and {GATEWAY} may" in refusal.message


@pytest.mark.parametrize("status", [{"lastHeartbeatTime": "2026-01-01T00:00:00.000000Z"}, {"progress": {"percent": 5}}])
@pytest.mark.parametrize("source", RUNNING)
async def test_D13_only_the_processes_write_beats_and_progress(
    every: dict[str, Kube], running: dict[str, Json], source: str, status: Json
) -> None:
    """A write that keeps the phase takes one of the two accounts as well."""
    answers = await asyncio.gather(*(_try_status(every[a], DELEGATIONS, running[source], status) for a in ACCOUNTS))
    assert [a for a, refusal in zip(ACCOUNTS, answers, strict=True) if refusal is None] == ["operator", "gateway"]


ROW_PAIRS = list(EXPECTED_ROWS)


@pytest.mark.parametrize(("source", "target"), ROW_PAIRS, ids=[f"{s}-to-{t}" for s, t in ROW_PAIRS])
async def test_D13_each_row_phase_has_its_writers(
    every: dict[str, Kube], rows: dict[str, Json], source: str, target: str
) -> None:
    """Gateways renew and disconnect, the operator expires and disconnects; nobody else touches a row."""
    status = {"phase": target, "reason": "Tried"}
    answers = await asyncio.gather(*(_try_status(every[a], SUBSCRIPTIONS, rows[source], status) for a in ACCOUNTS))
    drawn = {a for a, refusal in zip(ACCOUNTS, answers, strict=True) if refusal is None}
    assert drawn == EXPECTED_ROWS[source, target]


async def test_D13_only_a_gateway_renews_a_row(every: dict[str, Kube], rows: dict[str, Json]) -> None:
    """The operator doesn't keep a session alive, and may repeat a write that changes nothing."""
    renewal = {"renewTime": "2026-01-01T00:00:00.000000Z"}
    answers = await asyncio.gather(*(_try_status(every[a], SUBSCRIPTIONS, rows["Live"], renewal) for a in ACCOUNTS))
    assert [a for a, refusal in zip(ACCOUNTS, answers, strict=True) if refusal is None] == ["gateway"]
    assert await _try_status(every["operator"], SUBSCRIPTIONS, rows["Expired"], {"phase": "Expired"}) is None


@pytest.mark.parametrize("name", ACCOUNTS)
async def test_D13_only_a_gateway_makes_rows(
    every: dict[str, Kube], namespace: str, shared: str, name: str, record: Record
) -> None:
    """A session is made by attaching, not by hand: whoever tries is told so."""
    if name == "gateway":
        assert await every[name].create(SUBSCRIPTIONS, namespace, row())
        return
    if name == "operator":
        record.expects("belay-operator create agentsubscriptions", shared)
    with pytest.raises(Forbidden) as refusal:
        await every[name].create(SUBSCRIPTIONS, shared, row(f"by-{name}"))
    if name != "operator":  # which RBAC stops before
        assert f"only {GATEWAY} may; attach to the gateway" in refusal.value.message


@pytest.mark.parametrize("part", ["labels", "annotations"])
async def test_D13_nobody_labels_a_row(every: dict[str, Kube], rows: dict[str, Json], part: str) -> None:
    """What processes may select rows by isn't written by others."""
    meta = rows["Live"]["metadata"]
    for name in ("alice", "admin"):
        with pytest.raises(Forbidden, match="belay-subscription-rows"):
            await every[name].patch(SUBSCRIPTIONS, meta["namespace"], meta["name"], {"metadata": {part: {"a": "b"}}})


async def test_a_row_can_always_be_deleted(admin_kube: Kube, rows: dict[str, Json]) -> None:
    """Whoever must take a finalizer off, as the garbage collector does after a deletion in the foreground, may."""
    meta = rows["Disconnected"]["metadata"]
    name, namespace = meta["name"], meta["namespace"]
    for finalizers in (["example.com/held"], None):
        after = await admin_kube.patch(SUBSCRIPTIONS, namespace, name, {"metadata": {"finalizers": finalizers}})
        assert after["metadata"].get("finalizers") == finalizers


@pytest.mark.parametrize("name", ACCOUNTS)
@pytest.mark.parametrize("plural", ["agents", "delegationsweepers"])
async def test_D13_only_the_operator_says_how_agents_and_the_sweep_are(
    every: dict[str, Kube], shared: str, plural: str, name: str, record: Record
) -> None:
    """The status of both is the operator's alone."""
    collection, obj = (AGENTS, agent("seen")) if plural == "agents" else (SWEEPERS, None)
    namespace, object_name = (shared, "seen") if obj else (NAMESPACE, "default")
    if name == "gateway":
        record.expects(f"belay-gateway patch {plural}/status", namespace)
    if obj:
        await every["admin"].patch(
            AGENTS, shared, "seen", obj, content_type="application/apply-patch+yaml", fieldManager="test"
        )
    found = await every["admin"].get(collection, namespace, object_name)
    refusal = await _try_status(every[name], collection, found, {"observedGeneration": 1})
    assert (refusal is None) == (name == "operator")
    assert refusal is None or isinstance(refusal, Forbidden)
    if name == "admin":
        assert refusal is not None
        assert f"only {OPERATOR} may" in refusal.message


async def test_D13_the_verb_delegate_is_needed(alice: Kube, shared: str) -> None:
    """Alice may create delegations, and holds `delegate` on the agent `a` only."""
    await alice.create(DELEGATIONS, shared, delegation("to-a"))
    with pytest.raises(Forbidden, match="lacks the verb delegate on agents/b in namespace") as refusal:
        await alice.create(DELEGATIONS, shared, delegation("to-b", agentRef={"name": "b"}))
    assert username(shared, "alice") in refusal.value.message


async def test_C2_owners_are_named_by_who_may_attach(alice: Kube, admin_kube: Kube, shared: str) -> None:
    """Owners may attach, so who may only write Agents can't make anybody one; all else of an Agent is open to them."""
    owners = [{"kind": "User", "name": "mallory"}]
    with pytest.raises(Forbidden, match="lacks the verb attach on agents/owned"):
        await alice.create(AGENTS, shared, agent("owned", owners=owners))
    await admin_kube.create(AGENTS, shared, agent("owned", owners=owners))
    await alice.patch(AGENTS, shared, "owned", {"spec": {"description": "still theirs"}})
    for changed in ([*owners, {"kind": "User", "name": "eve"}], [{"kind": "User", "name": "eve"}]):
        with pytest.raises(Forbidden, match="lacks the verb attach on agents/owned"):
            await alice.patch(AGENTS, shared, "owned", {"spec": {"owners": changed}})
    await alice.patch(AGENTS, shared, "owned", {"spec": {"owners": None}})


async def test_D13_a_requester_is_the_caller(alice: Kube, shared: str) -> None:
    """A requester that is left out or is the caller is accepted, another one is refused."""
    me = username(shared, "alice")
    await alice.create(DELEGATIONS, shared, delegation("mine", requester=me))
    with pytest.raises(Forbidden, match=rf"spec.requester: is bob but the caller is {me}; leave it out"):
        await alice.create(DELEGATIONS, shared, delegation("spoofed", requester="bob"))


async def test_D13_an_administrator_does_not_spoof_either(admin_kube: Kube, shared: str) -> None:
    """RBAC allows an administrator everything, also to delegate; not to be somebody else."""
    await admin_kube.create(DELEGATIONS, shared, delegation("by-admin", agentRef={"name": "b"}))
    with pytest.raises(Forbidden, match=r"spec\.requester: is bob"):
        await admin_kube.create(DELEGATIONS, shared, delegation("spoofed", requester="bob"))


async def test_D13_the_processes_act_for_others(kubes: dict[str, Kube], namespace: str) -> None:
    """Where RBAC lets them create delegations, they name whom they act for, whose verbs they have checked."""
    rules = [{"apiGroups": [GROUP], "resources": ["delegations"], "verbs": ["create"]}]
    for name, user in (("gateway", GATEWAY), ("operator", OPERATOR)):
        await grant(kubes["admin"], namespace, user, name, rules)
        made = await kubes[name].create(DELEGATIONS, namespace, delegation(f"by-{name}", requester="bob"))
        assert made["spec"]["requester"] == "bob"


async def test_D13_which_session_asked_is_the_gateways_word(every: dict[str, Kube], shared: str) -> None:
    """Nobody else writes, changes or takes away the mark; what leaves it alone is open to them."""

    def marked(name: str, by: str) -> Json:
        body = delegation(name)
        body["metadata"]["annotations"] = {ANNOTATION_ASKED_BY: by}
        return body

    await every["gateway"].create(DELEGATIONS, shared, marked("asked", "a/s1"))
    for name in ("alice", "admin"):
        with pytest.raises(Forbidden, match="may not write it, only"):
            await every[name].create(DELEGATIONS, shared, marked("spoofed", "a/s1"))
        for by in ("a/s2", None):
            changed = {"metadata": {"annotations": {ANNOTATION_ASKED_BY: by}}}
            with pytest.raises(Forbidden, match="belay-delegation-askers"):
                await every[name].patch(DELEGATIONS, shared, "asked", changed)
        change: Json = {"metadata": {"annotations": {"example.com/by": name}}, "spec": {"priority": 3}}
        after = await every[name].patch(DELEGATIONS, shared, "asked", change)
        assert after["metadata"]["annotations"][ANNOTATION_ASKED_BY] == "a/s1"


async def test_D9_who_may_update_may_cancel_what_another_asked_for(
    kubes: dict[str, Kube], alice: Kube, shared: str
) -> None:
    """The requester is checked once, at creation: a cancel takes RBAC's `patch` and nothing more."""
    rules = [{"apiGroups": [GROUP], "resources": ["delegations"], "verbs": ["create"]}]
    await grant(kubes["admin"], shared, GATEWAY, "gateway", rules)
    spec = {"requester": "bob", "agentRef": {"name": "b"}}
    await kubes["gateway"].create(DELEGATIONS, shared, delegation("bobs", **spec))
    after = await alice.patch(DELEGATIONS, shared, "bobs", {"spec": {"desiredState": "Cancelled"}})
    assert after["spec"]["desiredState"] == "Cancelled"


DEADLINES = {
    "a minute ago": (timedelta(minutes=-1), "is past"),
    "ten years ago": (timedelta(days=-3650), "is past"),
    "in a minute": (timedelta(minutes=1), None),
    "in 29 days": (timedelta(days=29), None),
    "in 31 days": (timedelta(days=31), "is more than 30 days away"),
}


@pytest.mark.parametrize(("away", "said"), DEADLINES.values(), ids=DEADLINES)
async def test_D6_a_deadline_is_within_thirty_days(
    admin_kube: Kube, namespace: str, away: timedelta, said: str | None
) -> None:
    """A deadline that is past or too far away is refused with both times in the message."""
    body = delegation(deadline=to_wire(SystemClock().now() + away))
    if said is None:
        await admin_kube.create(DELEGATIONS, namespace, body)
        return
    with pytest.raises(Invalid, match=rf"spec\.deadline: .* {said}; now is "):
        await admin_kube.create(DELEGATIONS, namespace, body)


ENDS_OF_TIME = {
    "0000-01-01T00:00:00Z": "should match",
    "0001-01-01T00:00:00Z": "should match",
    "1000-01-01T00:00:00Z": "is past",
    "9999-12-31T23:59:59Z": "30 days",
}


@pytest.mark.parametrize(("deadline", "said"), ENDS_OF_TIME.items(), ids=ENDS_OF_TIME)
async def test_D6_deadlines_at_the_ends_of_time(admin_kube: Kube, shared: str, deadline: str, said: str) -> None:
    """The first and the last year are refused like others."""
    with pytest.raises(Invalid, match=said):
        await admin_kube.create(DELEGATIONS, shared, delegation(deadline=deadline))


async def test_D6_the_clock_can_not_be_given(admin_kube: Kube, shared: str) -> None:
    """A creationTimestamp in the request doesn't move the policy's clock."""
    body = delegation(deadline="2020-01-01T00:00:00Z")
    body["metadata"]["creationTimestamp"] = "2019-12-31T00:00:00Z"
    with pytest.raises(Invalid, match="is past"):
        await admin_kube.create(DELEGATIONS, shared, body)


async def test_the_policies_fit_the_definitions(admin_kube: Kube, installed: ControlPlane) -> None:
    """The API server's own type check of each policy against the definitions finds nothing."""
    wanted = "--for=jsonpath={.status.observedGeneration}=1"
    policies = Collection("apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
    found = [p for p in (await admin_kube.list(policies))["items"] if p["metadata"]["name"].startswith("belay-")]
    assert len(found) == len(POLICIES)
    for each in found:
        name = each["metadata"]["name"]
        installed.kubectl("wait", wanted, f"validatingadmissionpolicy/{name}", "--timeout=30s")
        checked = await admin_kube.get(policies, None, name)
        assert checked["status"]["typeChecking"].get("expressionWarnings") is None, name


@pytest.mark.parametrize("value", ["False", "no", "", "0"])
async def test_D9_what_a_cancel_spares_is_spelt_right(admin_kube: Kube, shared: str, value: str) -> None:
    """A value of the annotation that means nothing is refused when it is made, and when it is changed."""
    body = delegation("annotated")
    body["metadata"]["annotations"] = {ANNOTATION_CANCEL_CASCADE: value}
    with pytest.raises(Invalid, match='write "true" or "false"'):
        await admin_kube.create(DELEGATIONS, shared, body)
    made = (await admin_kube.create(DELEGATIONS, shared, delegation(f"plain-{value.lower() or 'empty'}")))["metadata"]
    patch = {"metadata": {"annotations": {ANNOTATION_CANCEL_CASCADE: value}}}
    with pytest.raises(Invalid, match='write "true" or "false"'):
        await admin_kube.patch(DELEGATIONS, shared, made["name"], patch)
